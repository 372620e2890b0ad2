"""The engine iterates over stages, epochs and batches, and notifies callbacks.

It knows no model, loss, algorithm, device, file or screen. A task defines what a step is, an
`Optim` (optim.py) how a gradient step is made, and a callback what to do with it; the engine only
decides when.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.optim import Optim


class Batches(Protocol):
    """The batches that a stage trains on, epoch by epoch."""

    batch_size: int
    samples: int

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Return the batches of epoch `number` from position `start` on."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs to continue with the same batches."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batches of `state`."""


@dataclass(frozen=True)
class Mean:
    """A scalar mean over part of an epoch, and its weight: a number of samples, tokens or pairs."""

    value: Tensor
    weight: float | Tensor

    def __float__(self) -> float:
        return float(self.value)


Metrics = Mapping[str, Tensor | Mean]
Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Objective:
    """The value that a step makes smaller: `loss(model(inputs), targets)`.

    `loss` returns the mean over the batch, and the batch's weight.
    """

    model: nn.Module
    loss: Callable[[Any, Tensor], tuple[Tensor, float | Tensor]]


@dataclass(frozen=True)
class Stage:
    """A part of training: `step` on every batch of `epochs` epochs, each with an evaluation.

    `step` returns detached scalars. Each is a mean over the batch's samples, or a `Mean` with its
    own weight. `evaluate` returns floats, and may return `Image`, `Text` and `Table` values.
    `watch` names the metric that decides which evaluation is the best; `mode` says whether its
    maximum or minimum is.

    `replayable` is True if `step` does the same on the device for every batch of the same shapes:
    it makes no decision on the host, acts in no environment, and each of its optimizers makes one
    step. Then device.compile=step may record one step and repeat it for the other batches.

    `objective` is set if a batch is a pair (inputs, targets), and `step` does nothing but one
    update of the only optimizer by the objective of the batch, logged as "loss". Then the steps of
    several runs may be made together.

    `combines_scores` is True if `evaluate` calls `dltrain.types.combining.combined` once, after its
    last batch, with all that its scores follow from. Then each of several processes may score some
    of the batches.
    """

    name: str
    epochs: int
    batches: Batches
    step: Callable[[Any], Metrics]
    held_out: Batches | None = None
    evaluate: Callable[[Iterable[Any]], dict[str, Any]] = lambda batches: {}
    optims: tuple[Optim, ...] = ()
    watch: str = ""
    mode: Direction = "max"
    replayable: bool = False
    objective: Objective | None = None
    combines_scores: bool = False

    def rank(self, value: float) -> float:
        """Return `value` of the watched metric, with the sign that makes higher better."""
        return value if self.mode == "max" else -value

    def length(self) -> dict[str, int]:
        """Return how long the stage is, in epochs, and an epoch, in batches and samples."""
        return {
            "epochs": self.epochs,
            "batches": len(self.batches),
            "batch_size": self.batches.batch_size,
            "samples": self.batches.samples,
        }


class Task(nn.Module):
    """A learning system: its networks and the stages that train them.

    `watch` is the metric of the last stage that decides which of its evaluations is the best.
    `predicts` says whether the targets must be classes or numbers, for data that can provide
    either; it is empty if the data decides. `networks` names the networks whose optimizer may have
    its own settings (task.optimizers.<name>). `mixes` is False for a task that cannot be trained on
    mixtures of samples (regularization=[mixup]). `divisible` is False if its networks cannot be
    divided among processes (device.parallel=fsdp), because it uses weights outside of their passes,
    or trains them by several optimizers. `trains_in_processes` is False if several processes cannot
    train it together. `run_keys` are the settings that name finished runs, each a list, whose
    networks the task gets by its argument `finished_runs`.
    """

    watch: str = ""
    predicts: ClassVar[Literal["", "classes", "numbers"]] = ""
    networks: ClassVar[tuple[str, ...]] = ()
    mixes: ClassVar[bool] = True
    divisible: ClassVar[bool] = True
    trains_in_processes: ClassVar[bool] = True
    several_processes: ClassVar[bool] = True
    run_keys: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def stages(self) -> Iterator[Stage]:
        """Yield the stages. Code between two yields runs after the earlier stage is trained."""

    @abstractmethod
    def predict(self, batch: Any) -> Any:
        """Return the trained system's predictions for a batch of inputs."""

    def named_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return initial weights, of a task with one `model`, by the names that this task has."""
        return weights

    def trained_network(self, model: nn.Module) -> nn.Module:
        """Return the network that predictions are made with; `model` is the configured one."""
        return model

    def directions(self) -> Mapping[str, Direction | None]:
        """Return the better direction of each metric of the last stage; None for neither."""
        return {}

    def forward(self, batch: Any) -> Any:
        """Return the predictions for a batch of inputs."""
        return self.predict(batch)


class Feed:
    """Brings batches to the device of the task; this one leaves them where they are."""

    def move(self, batch: Any) -> Any:
        """Return one batch on the device."""
        return batch

    def batches(self, batches: Iterator[Any], ahead: bool = True) -> Iterator[Any]:
        """Return the batches of an epoch on the device; some are fetched `ahead` of their use."""
        return batches

    def training(self, batches: Batches, number: int, start: int) -> Iterator[Any]:
        """Return the training batches of epoch `number` from position `start` on."""
        # A state says where its batches are: fetched ahead, it would be wrong in a checkpoint.
        is_stateless = not batches.state_dict()
        return self.batches(batches.epoch(number, start), ahead=is_stateless)

    def evaluation(
        self, stage: Stage, batches: Batches, split: str
    ) -> AbstractContextManager[Iterator[Any]]:
        """Give the batches of an evaluation of `stage`, which calls `evaluate` within the block."""
        return nullcontext(self.batches(batches.epoch(0)))


class StepRunner(Protocol):
    """Runs a stage's step for the engine."""

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`."""

    def release(self) -> None:
        """Free what is kept for the steps of a stage, which has ended."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs to run steps in the same way."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; it is {} if the run had another step runner before."""


class PlainStepRunner:
    """Calls the step and nothing else."""

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`."""
        return stage.step(batch)

    def release(self) -> None:
        """Do nothing: a plain step runner keeps nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return {}: a plain step runner has no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignore `state`."""


class Callback:
    """Observes a run. Every event receives the engine; only overridden events are called.

    `draws` is True if the events, or a library that they call, may draw random numbers: the
    generators are then restored after each event, which costs a tenth of a millisecond.
    """

    name = ""
    draws = True

    def step_end(self, engine: Engine) -> None:
        """Observe a step."""

    def evaluation_step(self, engine: Engine) -> None:
        """Observe that the next batch of an evaluation is about to be scored."""

    def evaluation_end(self, engine: Engine) -> None:
        """Observe an evaluation of the held-out batches; its results are in `engine.scores`."""

    def epoch_end(self, engine: Engine) -> None:
        """Observe the end of an epoch, after its evaluation."""

    def stage_end(self, engine: Engine) -> None:
        """Observe the end of a stage."""

    def run_end(self, engine: Engine) -> None:
        """Observe the end of training."""

    def test_end(self, engine: Engine) -> None:
        """Observe the end of a completed run; `engine.test_scores` has the test's results."""

    def extended(self, engine: Engine) -> None:
        """Forget why the stage ended: a resumed run will train longer."""

    def resumed(self, engine: Engine) -> None:
        """Observe that a checkpoint was loaded, and that training continues from there."""

    def close(self, engine: Engine) -> None:
        """Release files and the screen. Always called last, also after a failure."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; it is {} if the run did not have this callback before."""

    def summary_rows(self) -> Sequence[tuple[str, str]]:
        """Return rows of label and text for the table that is printed at the end of a run."""
        return ()

    def results(self) -> Mapping[str, Any]:
        """Return entries of the run's results.json, by name."""
        return {}


EVENTS = (
    "step_end",
    "evaluation_step",
    "evaluation_end",
    "epoch_end",
    "stage_end",
    "run_end",
    "test_end",
    "extended",
    "resumed",
    "close",
)
# the attributes of an engine that say where in training it is; states have the same names
PLACE = ("index", "epoch", "position", "stage_ended", "settled", "evaluated_step")
NEVER = -1  # `evaluated_step` before the first evaluation of a stage


@dataclass
class Resume:
    """The place to continue from.

    `state` is a state of the engine; `stage_ends` has the end state of every earlier stage, by its
    index. `extended` is True for a run that will train longer: a stage that was ended continues.
    """

    state: dict[str, Any]
    stage_ends: dict[int, dict[str, Any]] = field(default_factory=dict)
    extended: bool = False


class Engine:
    """Trains a task.

    Callbacks read these attributes:

    * `task`, `stage`, and `index`, the number of the stage
    * `epoch` and `position`, the number of batches trained in this epoch
    * `step`, the number of steps over all stages
    * `metrics` of the last step, `scores` of the last evaluation, `test_scores` of the test
    * `exhausted`: all batches of the epoch are trained
    * `settled`: the evaluation after the last trained batch of the epoch is done as well
    * `evaluated_step`: the step of the stage's last evaluation; no state is evaluated twice

    They may call `end_stage`, `end_run`, `evaluate` and, through the checkpoint callback, save.

    `feed` brings batches to the device, and `step_runner` runs the steps within `autocast`.
    """

    task: Task
    stage: Stage

    def __init__(
        self,
        callbacks: Sequence[Callback] = (),
        feed: Feed | None = None,
        autocast: AbstractContextManager[Any] | None = None,
        step_runner: StepRunner | None = None,
    ) -> None:
        self.callbacks = tuple(callbacks)
        self.feed = feed or Feed()
        self.move = self.feed.move
        self.autocast = autocast or nullcontext()
        self.step_runner = step_runner or PlainStepRunner()
        self.listeners = {event: self._overridden(event) for event in EVENTS}
        self.index = 0
        self.epoch = 0
        self.position = 0
        self.step = 0
        self.evaluated_step = NEVER
        self.metrics: Metrics = {}
        self.scores: dict[str, Any] = {}
        self.test_scores: dict[str, Any] = {}
        self.evaluation_seconds = 0.0
        self.stage_ended = False
        self.run_ended = False
        self.exhausted = False
        self.settled = False

    def add_callback(self, callback: Callback) -> None:
        """Add a callback after all others, before `fit`."""
        self.callbacks = (*self.callbacks, callback)
        self.listeners = {event: self._overridden(event) for event in EVENTS}

    def _overridden(self, event: str) -> list[Callable[[Engine], None]]:
        """Return the handlers of the callbacks that override an event."""
        handlers = []
        for callback in self.callbacks:
            if getattr(type(callback), event) is getattr(Callback, event):
                continue
            handler = getattr(callback, event)
            handlers.append(rng.preserving(handler) if callback.draws else handler)
        return handlers

    def fit(self, task: Task, resume: Resume | None = None) -> None:
        """Train every stage of `task`; continue from `resume` if it is given."""
        rng.undo_imports()
        for _ in self._stages(task, resume):
            while self.epoch < self.stage.epochs and not (self.halted and self.settled):
                self._train_epoch()
                self.evaluate()
                if self.exhausted:  # a resume continues within an epoch that a halt interrupted
                    self.epoch += 1
                    self.position = 0
                self.settled = True
                self.emit("epoch_end")
            self._flush()
            self.step_runner.release()
            self.emit("stage_end")
        self.emit("run_end")

    def _train_epoch(self) -> None:
        self.task.train()
        self.exhausted = False
        self.settled = False
        for batch in self.feed.training(self.stage.batches, self.epoch, self.position):
            if self.halted:
                break
            with self.autocast:
                self.metrics = self.step_runner.run(self.stage, batch)
            self.step += 1
            self.position += 1
            self.emit("step_end")
        else:
            self.exhausted = True
        if self.halted or self.epoch + 1 == self.stage.epochs:
            self._flush()

    def evaluate(self) -> None:
        """Score the held-out batches, unless the current state is already evaluated."""
        if self.stage.held_out is None or self.evaluated_step == self.step:
            return
        self.scores = self.score(self.stage.held_out, "val")
        self.evaluated_step = self.step
        for optim in self.stage.optims:
            optim.observe(float(self.scores.get(self.stage.watch, "nan")))
        self.emit("evaluation_end")

    def score(self, batches: Batches, split: str) -> dict[str, Any]:
        """Return the results of the stage's `evaluate` over `batches`: {"<split>/<metric>": value}.

        It uses averaged weights if there are any. Random numbers that an evaluation draws do not
        change what training draws.
        """
        start = perf_counter()
        self.task.eval()
        with ExitStack() as stack:
            stack.callback(rng.load_state_dict, rng.state_dict())
            for optim in self.stage.optims:
                stack.enter_context(optim.averaged())
            stack.enter_context(torch.no_grad())
            stack.enter_context(self.autocast)
            evaluation = self.feed.evaluation(self.stage, batches, split)
            own_batches = stack.enter_context(evaluation)
            scores = self.stage.evaluate(self._announced(own_batches))
        self.task.train()
        self.evaluation_seconds += perf_counter() - start
        return {f"{split}/{name}": value for name, value in scores.items()}

    def test(self, batches: Batches) -> dict[str, Any]:
        """Score the test batches, if there are any; keep the results in `test_scores`."""
        if batches.samples:
            self.test_scores = self.score(batches, "test")
        return self.test_scores

    def _announced(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches of an evaluation, each after its event."""
        for batch in batches:
            self.emit("evaluation_step")
            yield batch

    def _stages(self, task: Task, resume: Resume | None) -> Iterator[Stage]:
        """Yield the stages to train; those before `resume` get the state that they ended in."""
        self.task = task
        for self.index, self.stage in enumerate(task.stages()):
            self._begin_stage()
            if resume and self.index < resume.state["index"]:
                self.restore_stage_end(resume.stage_ends[self.index])
                continue
            if resume and self.index == resume.state["index"]:
                self._continue_from(resume)
            yield self.stage
            if self.run_ended:
                return

    def _begin_stage(self) -> None:
        self.epoch = 0
        self.position = 0
        self.evaluated_step = NEVER
        self.stage_ended = False
        self.settled = False
        self.scores = {}

    def position_at(self, task: Task, resume: Resume) -> None:
        """Load `resume` into `task` and the engine without training, to score or to predict."""
        next(self._stages(task, resume))

    def _flush(self) -> None:
        """Apply incomplete updates; a state that they change is evaluated again at its step."""
        for optim in self.stage.optims:
            if optim.pending:
                self.evaluated_step = NEVER
            optim.flush()

    @property
    def halted(self) -> bool:
        """True if a callback has ended the stage or the run."""
        return self.stage_ended or self.run_ended

    def end_stage(self) -> None:
        """End the current stage after the current step or evaluation."""
        self.stage_ended = True

    def end_run(self) -> None:
        """End the run after the current step or evaluation; later stages do not start."""
        self.run_ended = True

    def emit(self, event: str) -> None:
        """Notify the callbacks."""
        for listener in self.listeners[event]:
            listener(self)

    def stage_end_state(self) -> dict[str, Any]:
        """Return what a resume needs to skip this finished stage."""
        return {
            "task": self.task.state_dict(),
            "rng": rng.state_dict(),
            "name": self.stage.name,
            "step": self.step,
        }

    def restore_stage_end(self, state: dict[str, Any]) -> None:
        """Load what `stage_end_state` returned; ValueError if another stage returned it."""
        if state["name"] != self.stage.name:
            raise ValueError(
                f"stage {self.index} is {self.stage.name!r} now; "
                f"the checkpoint is of {state['name']!r}"
            )
        self.task.load_state_dict(state["task"])
        rng.load_state_dict(state["rng"])
        self.step = state["step"]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a bit-identical continuation needs."""
        return {
            **self.stage_end_state(),
            **{name: getattr(self, name) for name in PLACE},
            "length": self.stage.length(),
            "optims": [optim.state_dict() for optim in self.stage.optims],
            "batches": self.stage.batches.state_dict(),
            "step_runner": self.step_runner.state_dict(),
            "callbacks": {c.name: c.state_dict() for c in self.callbacks},
        }

    def _continue_from(self, resume: Resume) -> None:
        """Load a state that `state_dict` returned, and notify the callbacks."""
        state = resume.state
        self.restore_stage_end(state)
        for name in PLACE:
            setattr(self, name, state.get(name, NEVER))  # older states lack evaluated_step
        for optim, saved in zip(self.stage.optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        self.stage.batches.load_state_dict(state["batches"])
        earlier_runner = state["callbacks"].get("memory", {})  # version 0.1
        self.step_runner.load_state_dict(state.get("step_runner", earlier_runner))
        for callback in self.callbacks:
            callback.load_state_dict(state["callbacks"].get(callback.name, {}))
        if resume.extended:
            self.stage_ended = False
            self.emit("extended")
        self.emit("resumed")
