"""A group of runs that are trained as one program, each by its own engine in its own thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.callbacks.signals import Signals
from dltrain.data.split import Split
from dltrain.device import TORCH_THREADS
from dltrain.engine import Callback, Engine, Mean, Metrics, Stage, StepRunner
from dltrain.host import current_host, hosted_by
from dltrain.interrupts import handled_signals
from dltrain.vectorized.arena import share_arena
from dltrain.vectorized.lanes import Lane, LaneRequest, Meeting
from dltrain.vectorized.program import RunPart
from dltrain.vectorized.turns import Turns

log = logging.getLogger("dltrain")
POLL_SECONDS = 0.2  # between looks at a thread, so that signals are handled meanwhile
Train = Callable[[Sequence[Callback]], Any]
"""Trains a run to its end, with additional callbacks; it raises nothing."""


class Together(Callback):
    """The part of a run in a group: from its second step on, it asks its lane for every step.

    The first step of a run is its own: it checks the outputs of the network, and makes the moments
    of the optimizer. Raises `Interrupted` like `Signals`, of which the group has one for all runs.

    `alone` is why the run cannot be part of a group; "" if it can. `is_settled` is set when the run
    waits for the others for the first time, or has ended.
    """

    name = "together"
    draws = False

    def __init__(self, run: int, group: JointTraining) -> None:
        self.run = run
        self.group = group
        self.alone = ""
        self.is_settled = threading.Event()
        self.part: RunPart | None = None
        self.stage: Stage | None = None
        self.place: Meeting = group.gathering
        self.is_batch_due = False  # of an evaluation

    def step_end(self, engine: Engine) -> None:
        self.group.signals.step_end(engine)
        if self.stage is None:
            self.join(engine)
        else:
            self.part = self.part_in(engine.stage)

    def evaluation_step(self, engine: Engine) -> None:
        self.group.signals.evaluation_step(engine)
        self.is_batch_due = True

    def join(self, engine: Engine) -> None:
        """Wait until all runs have made their first steps; make the others together with them."""
        self.stage = engine.stage
        self.part = part_of(engine.stage)
        if self.part is None:
            self.alone = f"the steps of {type(engine.task).__name__} are not those of one loss"
            self.leave()
            return
        self.group.share_samples(engine.stage)
        self.ask("join", engine)
        if isinstance(self.place, Lane):
            torch.set_num_threads(self.place.threads)
        engine.step_runner = Joined(engine.step_runner, self)
        model = self.part.model
        model.forward = Outputs(model, self)

    def part_in(self, stage: Stage) -> RunPart | None:
        """Return the part of the run in a program, which is another one in a later stage."""
        if stage is self.stage:
            return self.part
        self.stage = stage
        return part_of(stage)

    def is_ready_for(self, stage: Stage) -> bool:
        """Return whether a step can be asked for: not the first one of a stage, which is its own.

        Nor can one that a callback looks into.
        """
        return self.is_member() and self.stage is stage and not has_hooks(self.part)

    def is_member(self) -> bool:
        """Return whether the run has a lane, or waits for one."""
        return not isinstance(self.place, Nowhere)

    def ask(self, kind: Any, batch: Any) -> Any:
        """Return the answer to a request, while other runs have their turns; None for none."""
        place = self.place
        request = LaneRequest(kind, self.run, self.part, batch)
        self.is_settled.set()
        with self.group.turns.given_up(self.run):
            answer = place.ask(request)
        if kind == "join":
            self.place = answer
        elif isinstance(place, Lane) and place.problem and not place.noted:
            place.noted = True
            log.warning(f"each run makes its own steps: {place.problem}")
        return answer

    def leave(self) -> None:
        """Let the others not wait for this run."""
        self.place.leave()
        self.place = Nowhere()


class Nowhere(Meeting):
    """The place of a run that does not wait for others: nothing is asked there."""

    def __init__(self) -> None:
        super().__init__(0)

    def leave(self) -> None:
        """Do nothing."""

    def answer(self, requests: list[LaneRequest]) -> None:
        """Do nothing: no run asks for anything here."""


class Joined:
    """Makes the steps of a run as part of its lane's, or by itself where that is impossible."""

    def __init__(self, own: StepRunner, together: Together) -> None:
        self.own = own
        self.together = together

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`."""
        together = self.together
        answer = None
        if together.is_ready_for(stage):
            answer = together.ask("step", batch)
        if answer is None:
            return self.own.run(stage, batch)
        loss, weight, gradients = answer
        if gradients is not None:
            stage.optims[0].update(loss, gradients, weight)
        return {"loss": Mean(loss, weight)}

    def release(self) -> None:
        """Free what the run's own step runner keeps."""
        self.own.release()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run's own step runner."""
        return self.own.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of the run's own step runner."""
        self.own.load_state_dict(state)


class Outputs:
    """The forward pass of a run's network: in an evaluation, one for all runs of its lane."""

    def __init__(self, model: nn.Module, together: Together) -> None:
        self.own = model.forward
        self.model = model
        self.together = together

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs for a batch."""
        outputs = None
        if self.is_due() and len(args) == 1:
            outputs = self.together.ask("outputs", args[0])
        if outputs is None:
            outputs = self.own(*args, **kwargs)
        return outputs

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the forward pass of a copy of the network, which is no part of the group."""
        copied = memo.get(id(self.model))
        return self.own if copied is None else MethodType(type(copied).forward, copied)

    def is_due(self) -> bool:
        """Return whether this is the first call for a batch of an evaluation."""
        is_due = self.together.is_batch_due and not self.model.training
        if is_due:
            self.together.is_batch_due = False
        return is_due and self.together.is_member()


class FirstMeeting(Meeting):
    """The place where the runs of a group wait for all others, and are then given their lanes."""

    def __init__(self, size: int, group: JointTraining) -> None:
        super().__init__(size)
        self.group = group

    def answer(self, requests: list[LaneRequest]) -> None:
        """Give each run its lane."""
        alike: dict[str, list[LaneRequest]] = {}
        for request in requests:
            assert request.part is not None
            alike.setdefault(str(request.part.shapes()), []).append(request)
        for group in alike.values():
            count = lanes_of(group, len(alike))
            ordered = sorted(group, key=lambda request: request.run)
            for first in range(count):
                self.open_lane(ordered[first::count], max(1, TORCH_THREADS // count))

    def open_lane(self, requests: list[LaneRequest], threads: int) -> None:
        """Give runs a lane of their own."""
        lane = Lane(len(requests), threads, self.group.draw)
        for request in requests:
            request.answer = lane


def lanes_of(requests: Sequence[LaneRequest], kinds: int) -> int:
    """Return the number of lanes for runs that are alike, so that each has a CPU core for itself.

    Runs of small networks, which use one thread, and those on a GPU have one lane.
    """
    part = requests[0].part
    assert part is not None
    on_cpu = all(p.device.type == "cpu" for p in part.model.parameters())
    if kinds > 1 or not on_cpu or torch.get_num_threads() == 1:
        return 1
    return max(1, min(TORCH_THREADS, len(requests) // 2))


class JointTraining:
    """Runs that are trained as one program.

    `train` has for each run, by its number, the function that trains it to its end.
    """

    def __init__(self, train: dict[int, Train]) -> None:
        self.train = train
        self.signals = Signals()
        self.turns = Turns()
        self.gathering = FirstMeeting(len(train), self)
        self.members = {run: Together(run, self) for run in train}
        self.threads: dict[int, threading.Thread] = {}
        self.errors: dict[int, BaseException] = {}
        self.split: Split | None = None

    def execute(self) -> str:
        """Train the runs to their ends; return why those without a thread are still to be trained.

        That is "" if all have been trained, or were not begun because of a signal.
        """
        threads = torch.get_num_threads()
        share_arena()
        try:
            with handled_signals(self.signals.handle):
                reason = self.begin()
                self.wait()
        except BaseException:
            self.signals.received = self.signals.received or 2
            self.wait()
            raise
        finally:
            self.turns.close()
            torch.set_num_threads(threads)
        return reason

    def begin(self) -> str:
        """Start the threads, each when the one before waits or has ended.

        Return why no more were started: a run cannot be part of a group.
        """
        reason = ""
        for run, member in self.members.items():
            if self.signals.received or reason:
                self.gathering.leave()
                continue
            thread = threading.Thread(
                target=copy_context().run, args=(self.trained, run), name=f"run {run}", daemon=True
            )
            self.threads[run] = thread
            thread.start()
            while not member.is_settled.wait(POLL_SECONDS):
                pass
            reason = member.alone
        return reason

    def wait(self) -> None:
        """Wait until all threads have ended."""
        for thread in self.threads.values():
            while thread.is_alive():
                thread.join(POLL_SECONDS)

    def trained(self, run: int) -> None:
        """Train a run, in its own thread."""
        member = self.members[run]
        host = replace(current_host(), shows_progress=False)
        try:
            with self.turns.taken(run), hosted_by(host):
                self.train[run]([member])
        except BaseException as e:
            self.errors[run] = e
        finally:
            member.leave()
            member.is_settled.set()

    def error(self, run: int) -> str:
        """Return what ended the thread of a run before the run's end; "" if nothing did."""
        error = self.errors.get(run)
        if error is None:
            return ""
        return f"{type(error).__name__}: {error}"

    def draw(self, run: int, layer: nn.Module, ones: Tensor) -> Tensor:
        """Return the mask that a run's dropout layer draws from the run's generators."""
        with self.turns.taken(run):
            mask: Tensor = layer(ones)
        return mask

    def share_samples(self, stage: Stage) -> None:
        """Keep the stored samples of all runs only once, where they are the same."""
        batches = stage.batches
        if not isinstance(batches, Split):
            return
        if self.split is None:
            self.split = batches
        share(batches.inputs, self.split.inputs)
        share(batches.targets, self.split.targets)


def has_hooks(part: RunPart | None) -> bool:
    """Return whether a callback looks into the network, which has to make its own step then."""
    layers = part.model.modules() if part is not None else ()
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def share(own: Tensor, shared: Tensor) -> None:
    """Let a tensor use the memory of another one if they are equal."""
    if own.dtype == shared.dtype and torch.equal(own, shared):
        own.data = shared.data


def part_of(stage: Stage) -> RunPart | None:
    """Return the part of a run in a program; None for a stage without an objective."""
    if stage.objective is None or len(stage.optims) != 1:
        return None
    return RunPart(stage.objective, stage.optims[0])
