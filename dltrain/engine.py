"""The engine: stages, epochs and batches.

It knows no model, loss, algorithm, device, file or screen. A task says what a step is, an `Optim` (optim.py) how a
gradient step is done, a callback what to make of it; the engine only says when.
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
    """What a stage trains on: an object, so that epoch 2 has batches too."""

    batch_size: int
    samples: int

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Mean:
    """A mean () over part of an epoch, and its weight: a number of samples, tokens or pairs."""

    value: Tensor
    weight: float | Tensor

    def __float__(self) -> float:
        return float(self.value)


Metrics = Mapping[str, Tensor | Mean]
Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Stage:
    """Call `step` on every batch for so many epochs, evaluating after each.

    `step` returns detached scalars: means over the batch's samples, or each a `Mean` with its own weight.
    `evaluate` returns floats, and may return `Image`, `Text` and `Table` values.
    `watch` names the metric that says which evaluation was best, `mode` which way is better.
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


class Task(nn.Module):
    """A learning system: its networks and the stages that train them.

    `stages` is lazy: what stands between two yields runs after the earlier stage is trained. `watch` is the metric of
    the last stage that says which of its evaluations is best. `predicts` is what its targets have to be, for data that
    could give classes or numbers; empty where that is the data's to say.
    """

    watch: str = ""
    predicts: ClassVar[Literal["", "classes", "numbers"]] = ""

    @abstractmethod
    def stages(self) -> Iterator[Stage]: ...

    @abstractmethod
    def predict(self, batch: Any) -> Any:
        """What the trained system says of one batch of inputs."""

    def directions(self) -> Mapping[str, Direction | None]:
        """Return which way each metric of the last stage is better; None if it cannot be watched."""
        return {}

    def forward(self, batch: Any) -> Any:
        return self.predict(batch)


class Callback:
    """Observes a run through the engine that each event hands it. Only overridden events are called.

    `draws` says that its events may draw random numbers, itself or in a library that it calls: what training draws
    is then kept from them, which costs a tenth of a millisecond an event.
    """

    name = ""
    draws = True

    def step_end(self, engine: Engine) -> None: ...
    def evaluation_step(self, engine: Engine) -> None: ...
    def evaluation_end(self, engine: Engine) -> None: ...
    def epoch_end(self, engine: Engine) -> None: ...
    def stage_end(self, engine: Engine) -> None: ...
    def run_end(self, engine: Engine) -> None: ...
    def resumed(self, engine: Engine) -> None: ...
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


EVENTS = (
    "step_end",
    "evaluation_step",
    "evaluation_end",
    "epoch_end",
    "stage_end",
    "run_end",
    "resumed",
)
PLACE = ("index", "epoch", "position", "stage_ended", "settled", "evaluated_step")
NEVER = -1  # the step of an evaluation that has not happened


@dataclass
class Resume:
    """Where to go on: the state of the engine, and of the task and the generators at the end of each stage before."""

    state: dict[str, Any]
    stage_ends: dict[int, dict[str, Any]] = field(default_factory=dict)


class Engine:
    """Runs a task. Callbacks read `stage`, `epoch`, `position`, `step`, `metrics` and `scores`, and may call
    `end_stage`, `end_run` and, through the checkpoint callback, save. `exhausted` says that the epoch's batches are
    through, `settled` that the evaluation after the last step is. `evaluated_step` is the step of the stage's last
    evaluation: one state is evaluated once, however often that is asked for."""

    task: Task
    stage: Stage

    def __init__(
        self,
        callbacks: Sequence[Callback] = (),
        move: Callable[[Any], Any] = lambda batch: batch,
        autocast: AbstractContextManager[Any] | None = None,
        call: Callable[[Stage, Any], Metrics] = lambda stage, batch: stage.step(batch),
    ) -> None:
        self.callbacks, self.move, self.autocast, self.call = (
            tuple(callbacks),
            move,
            autocast or nullcontext(),
            call,
        )
        self.listeners = {event: self._overridden(event) for event in EVENTS}
        self.index = self.epoch = self.position = self.step = 0
        self.evaluated_step = NEVER
        self.metrics: Metrics = {}
        self.scores: dict[str, Any] = {}
        self.evaluation_seconds = 0.0
        self.stage_ended = self.run_ended = self.exhausted = self.settled = False

    def _overridden(self, event: str) -> list[Callable[[Engine], None]]:
        """Return the handlers of an event that do something."""
        own = [c for c in self.callbacks if getattr(type(c), event) is not getattr(Callback, event)]
        return [rng.preserving(getattr(c, event)) if c.draws else getattr(c, event) for c in own]

    def fit(self, task: Task, resume: Resume | None = None) -> None:
        """Train every stage of `task`, from `resume` on if there is one."""
        rng.undo_imports()
        for _ in self._stages(task, resume):
            while self.epoch < self.stage.epochs and not (self.halted and self.settled):
                self._train_epoch()
                self.evaluate()
                if (
                    self.exhausted
                ):  # else a halt left the epoch unfinished: a resume goes on inside it
                    self.epoch, self.position = self.epoch + 1, 0
                self.settled = True
                self.emit("epoch_end")
            self._flush()
            self.emit("stage_end")
        self.emit("run_end")

    def _train_epoch(self) -> None:
        self.task.train()
        self.exhausted = self.settled = False
        for batch in self.stage.batches.epoch(self.epoch, self.position):
            if self.halted:
                break
            with self.autocast:
                self.metrics = self.call(self.stage, self.move(batch))
            self.step += 1
            self.position += 1
            self.emit("step_end")
        else:
            self.exhausted = True
        if self.halted or self.epoch + 1 == self.stage.epochs:
            self._flush()

    def evaluate(self) -> None:
        """Score the held-out batches, with averaged weights if a stage averages; once a state."""
        if self.stage.held_out is None or self.evaluated_step == self.step:
            return
        self.scores = self.score(self.stage.held_out, "val")
        self.evaluated_step = self.step
        for optim in self.stage.optims:
            optim.observe(float(self.scores.get(self.stage.watch, "nan")))
        self.emit("evaluation_end")

    def score(self, batches: Batches, split: str) -> dict[str, Any]:
        """The current stage's `evaluate` over `batches`: {"<split>/<metric>": value}."""
        start = perf_counter()
        self.task.eval()
        with ExitStack() as stack:
            stack.callback(
                rng.load_state_dict, rng.state_dict()
            )  # training draws the same, however often it is scored
            for optim in self.stage.optims:
                stack.enter_context(optim.averaged())
            stack.enter_context(torch.no_grad())
            stack.enter_context(self.autocast)
            scores = self.stage.evaluate(map(self._moved, batches.epoch(0)))
        self.task.train()
        self.evaluation_seconds += perf_counter() - start
        return {f"{split}/{name}": value for name, value in scores.items()}

    def _moved(self, batch: Any) -> Any:
        self.emit("evaluation_step")
        return self.move(batch)

    def _stages(self, task: Task, resume: Resume | None) -> Iterator[Stage]:
        """Walk the lazy stages; those already trained are passed with the state that they ended in."""
        self.task = task
        for self.index, self.stage in enumerate(task.stages()):
            self.epoch, self.position, self.stage_ended, self.settled, self.scores = (
                0,
                0,
                False,
                False,
                {},
            )
            self.evaluated_step = NEVER
            if resume and self.index < resume.state["index"]:
                self.restore_stage_end(resume.stage_ends[self.index])
                continue
            if resume and self.index == resume.state["index"]:
                self.load_state_dict(resume.state)
            yield self.stage
            if self.run_ended:
                return

    def position_at(self, task: Task, resume: Resume) -> None:
        """Put `task` and the engine where `resume` is, without training: to score or predict."""
        next(self._stages(task, resume))

    def _flush(self) -> None:
        """Make the incomplete updates; a state that they change is evaluated again at its step."""
        for optim in self.stage.optims:
            if optim.pending:
                self.evaluated_step = NEVER
            optim.flush()

    @property
    def halted(self) -> bool:
        return self.stage_ended or self.run_ended

    def end_stage(self) -> None:
        """End the current stage after the step or evaluation under way."""
        self.stage_ended = True

    def end_run(self) -> None:
        """End the run after the step or evaluation under way; later stages are not begun."""
        self.run_ended = True

    def emit(self, event: str) -> None:
        for listener in self.listeners[event]:
            listener(self)

    def stage_end_state(self) -> dict[str, Any]:
        """What a resume needs to pass this finished stage: the task as it ended, and the generators."""
        return {
            "task": self.task.state_dict(),
            "rng": rng.state_dict(),
            "name": self.stage.name,
            "step": self.step,
        }

    def restore_stage_end(self, state: dict[str, Any]) -> None:
        if state["name"] != self.stage.name:
            raise ValueError(
                f"stage {self.index} is {self.stage.name!r} now; the checkpoint is of {state['name']!r}"
            )
        self.task.load_state_dict(state["task"])
        rng.load_state_dict(state["rng"])
        self.step = state["step"]

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-identical continuation needs."""
        return {
            **self.stage_end_state(),
            **{name: getattr(self, name) for name in PLACE},
            "optims": [optim.state_dict() for optim in self.stage.optims],
            "batches": self.stage.batches.state_dict(),
            "callbacks": {c.name: c.state_dict() for c in self.callbacks},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.restore_stage_end(state)
        self.__dict__.update(
            {name: state.get(name, NEVER) for name in PLACE}
        )  # older states lack the last of them
        for optim, saved in zip(self.stage.optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        self.stage.batches.load_state_dict(state["batches"])
        for callback in self.callbacks:
            callback.load_state_dict(state["callbacks"].get(callback.name, {}))
        self.emit("resumed")
