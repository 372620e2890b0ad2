"""Records a whole training step once and repeats it: device.compile=step, with CUDA graphs.

A recorded step is one call for the host, whatever the number of its operations: forward pass, loss,
backward pass, clipping and the optimizer's step. What depends on the count of steps stays on the
host (recorded_optim.py).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch

from dltrain import rng
from dltrain.acceleration.recorded_optim import RecordedOptim, obstacle
from dltrain.acceleration.static_batches import (
    StaticBatch,
    StaticMetrics,
    signature,
    tensors_of,
)
from dltrain.acceleration.step_observer import StepObserver, difference, observed
from dltrain.engine import Metrics, PlainStepRunner, Stage

log = logging.getLogger("dltrain")
MAX_SHAPES = 3  # of batches before the step is recorded; more of them vary
NEEDS_GPU = "device.compile=step needs an NVIDIA GPU: the networks are compiled instead"
UNCAPTURED = "This instance was constructed with capturable=True"  # of torch, about warm-up steps


class Recording(Protocol):
    """A recorded step."""

    def replay(self) -> None:
        """Repeat the step with the values that its tensors have now."""


class Recorder(Protocol):
    """Records what a device does."""

    device: torch.device

    def warm_up(self, step: Callable[[], Any]) -> Any:
        """Return the result of a step that is made as a recorded one would be."""

    def record(self, step: Callable[[], None], streams: Sequence[torch.Generator]) -> Recording:
        """Record `step`, which draws from `streams` and the device's default generator.

        Nothing is computed before the first replay. Raises RuntimeError if it cannot be recorded.
        """


class CudaRecording:
    """A CUDA graph."""

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self.graph = graph

    def replay(self) -> None:
        """Repeat the step with the values that its tensors have now."""
        self.graph.replay()


class CudaRecorder:
    """Records CUDA graphs, in a memory pool of each graph's own.

    Warm-up steps run on the stream that records later, as torch's notes on CUDA graphs ask for.
    Threads that bring batches to the device may continue while a step is recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, step: Callable[[], Any]) -> Any:
        """Return the result of a step that is made on the recording stream."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = step()
        current.wait_stream(self.stream)
        return result

    def record(self, step: Callable[[], None], streams: Sequence[torch.Generator]) -> CudaRecording:
        """Record `step` as a CUDA graph."""
        graph = torch.cuda.CUDAGraph()
        for stream in streams:
            graph.register_generator_state(stream)
        mode = "thread_local"
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode=mode):
            step()
        return CudaRecording(graph)


class RecordedStage:
    """The steps of one stage: the first ones are plain or observed, the others are repeated.

    `run` makes a step. Its attribute `reason` says why the steps are plain for good; it is "" while
    they are not. The first batch has the shapes that are recorded; batches of other shapes, such as
    the last one of an epoch, are plain steps.
    """

    def __init__(self, stage: Stage, recorder: Recorder) -> None:
        self.stage = stage
        self.recorder = recorder
        self.reason = known_obstacle(stage)
        self.signature: tuple[Any, ...] = ()
        self.other_shapes: set[tuple[Any, ...]] = set()
        self.made = 0  # steps with the shapes that are recorded
        self.replays = 0
        self.optims: list[RecordedOptim] = []
        self.observer: StepObserver | None = None
        self.inputs: StaticBatch | None = None
        self.metrics: StaticMetrics | None = None
        self.recording: Recording | None = None

    def run(self, batch: Any) -> Metrics:
        """Return the metrics of one step on `batch`."""
        shapes = signature(batch)
        if not self.made:
            self.signature = shapes
            self._require(any(True for _ in tensors_of(batch)), "its batches hold no tensors")
        if shapes != self.signature:
            self._count_other(shapes)
            return self.stage.step(batch)
        self.made += 1
        if self.recording is not None:
            return self._replay(batch)
        if self.reason:
            return self.stage.step(batch)
        return self._prepare(batch)

    def _require(self, condition: bool, reason: str) -> None:
        """Make plain steps for good, for a reason, unless the condition holds."""
        if not condition and not self.reason:
            self.reason = reason

    def _count_other(self, shapes: tuple[Any, ...]) -> None:
        """Count the shapes of batches; too many of them are not recorded."""
        if self.recording is None:
            self.other_shapes.add(shapes)
            self._require(len(self.other_shapes) < MAX_SHAPES, "the shapes of its batches vary")

    def _prepare(self, batch: Any) -> Metrics:
        """Make a step before the recording: a plain one, then two observed ones."""
        if self.made == 1:
            return self._first(batch)
        if self.made <= 3:
            return self._observe(batch)
        return self._record(batch)

    def _first(self, batch: Any) -> Metrics:
        """Make a plain step, which compiles networks and makes the moments of optimizers."""
        counts = [optim.updates for optim in self.stage.optims]
        metrics: Metrics = self.recorder.warm_up(lambda: self.stage.step(batch))
        for before, optim in zip(counts, self.stage.optims, strict=True):
            self._require(optim.updates == before + 1, "an optimizer does not step at every batch")
        if not self.reason:
            self.optims = [RecordedOptim(optim) for optim in self.stage.optims]
        return metrics

    def _observe(self, batch: Any) -> Metrics:
        """Make a step, and compare its operations with those of the step before."""
        self._begin()
        with self._on_device(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", UNCAPTURED)
            metrics, observer = self.recorder.warm_up(
                lambda: observed(self.recorder.device, lambda: self.stage.step(batch))
            )
        self._finish()
        self._require(not observer.problem, observer.problem)
        if self.observer is not None:
            changed = difference(self.observer.calls, observer.calls)
            self._require(not changed, changed)
        self.observer = observer
        stepped = all(optim.steps == 1 for optim in self.optims)
        self._require(stepped, "an optimizer does not step at every batch")
        result: Metrics = metrics
        return result

    def _record(self, batch: Any) -> Metrics:
        """Record the step and make it; make it plainly if that fails."""
        self.observer = None
        self.inputs = StaticBatch(batch)
        state = rng.state_dict()
        self._begin()
        try:
            with self._on_device():
                streams = rng.torch_streams(self.recorder.device)
                self.recording = self.recorder.record(self._recorded_step, streams)
        except (RuntimeError, AssertionError) as error:
            self._require(False, first_line(error))
            for optim in self.optims:
                optim.abandon()
            self.release()
            rng.load_state_dict(state)
            return self.stage.step(batch)
        return self._repeat()

    def _recorded_step(self) -> None:
        """Make the step whose operations are recorded, on the static batch."""
        assert self.inputs is not None
        self.metrics = StaticMetrics(self.stage.step(self.inputs.batch))

    def _replay(self, batch: Any) -> Metrics:
        """Repeat the recorded step on `batch`."""
        assert self.inputs is not None
        self.inputs.fill(batch)
        self._begin()
        return self._repeat()

    def _repeat(self) -> Metrics:
        """Let the device make the step that the host has begun, and finish it."""
        assert self.recording is not None
        assert self.metrics is not None
        self.recording.replay()
        self.replays += 1
        self._finish()
        return self.metrics.read()

    def _begin(self) -> None:
        for optim in self.optims:
            optim.begin()

    def _finish(self) -> None:
        for optim in self.optims:
            optim.finish()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Leave out of the steps within the block what the host does."""
        with ExitStack() as stack:
            for optim in self.optims:
                stack.enter_context(optim.on_device())
            yield

    def release(self) -> None:
        """Free the recording and its tensors."""
        self.recording = None
        self.inputs = None
        self.metrics = None
        self.optims = []


class GraphStepRunner:
    """Records the step of each stage and repeats it; makes plain steps where that is impossible.

    One line in the log says why. Nothing of a recording is in checkpoints: a resumed run records
    again.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.steps: RecordedStage | None = None
        self.is_reason_logged = False
        self.replays = 0  # in earlier stages

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`."""
        if self.steps is None or self.steps.stage is not stage:
            self.release()
            self.steps = RecordedStage(stage, self.recorder)
            self.is_reason_logged = False
        metrics = self.steps.run(batch)
        if self.steps.reason and not self.is_reason_logged:
            log.warning(
                f"device.compile=step: the steps of stage {stage.name!r} are not recorded: "
                f"{self.steps.reason}"
            )
            self.is_reason_logged = True
        return metrics

    def release(self) -> None:
        """Free the recording of the stage that has ended, and its memory."""
        if self.steps is not None:
            self.replays += self.steps.replays
            self.steps.release()
        self.steps = None

    def state_dict(self) -> dict[str, Any]:
        """Return {}: a recording is made again."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignore `state`."""


class PlainInstead(PlainStepRunner):
    """Makes plain steps, and says why at the first one."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`."""
        if self.reason:
            log.warning(self.reason)
            self.reason = ""
        return stage.step(batch)


def known_obstacle(stage: Stage) -> str:
    """Return why the steps of a stage cannot be recorded; "" if nothing is known against it."""
    if not stage.replayable:
        return "they decide on the host what is computed (Stage.replayable is False)"
    for optim in stage.optims:
        if reason := obstacle(optim):
            return reason
    return ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class."""
    lines = str(error).splitlines()
    if not lines:
        return type(error).__name__
    return lines[0]
