"""A new plan for the rest of a run: what a checkpoint's place means once the plan has changed.

The length of an epoch in batches depends on the batch size and the data, the number of updates also
on the accumulation and the limits of the run. A checkpoint counts both. If they are not those of
the run as it continues, its position and its updates are converted: the run keeps its place in the
epoch, and each schedule ends where the training ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dltrain.config.changes import LENGTH, Change
from dltrain.config.settings import Trainer
from dltrain.engine import Engine
from dltrain.optim import Optim

DATA = ("dataset.", "task.")  # beginnings of keys that decide how many batches an epoch has
PLAN = (*LENGTH, "trainer.accumulate")  # and how many updates a stage has


@dataclass(frozen=True)
class StageLength:
    """The length of a stage, in epochs, and of an epoch, in batches and samples."""

    epochs: int
    batches: int
    batch_size: int
    samples: int

    @classmethod
    def saved_in(cls, state: Mapping[str, Any]) -> StageLength | None:
        """Return the length that a checkpoint knows; None for one of version 0.1."""
        saved = state.get("length")
        if not isinstance(saved, dict):
            return None
        values = [saved.get(each.name) for each in fields(cls)]
        if not all(isinstance(value, int) and value > 0 for value in values):
            return None
        return cls(**{each.name: saved[each.name] for each in fields(cls)})

    @property
    def has_equal_batches(self) -> bool:
        """True if all batches have `batch_size` samples, except the last one."""
        return abs(self.batches - self.samples / self.batch_size) <= 1

    def position_of(self, position: int, earlier: StageLength) -> int:
        """Return the batch that begins at or before the place of `position` in an earlier plan."""
        if position >= earlier.batches:
            return max(self.batches, position * self.batches // earlier.batches)
        same_samples = self.samples == earlier.samples
        if same_samples and self.has_equal_batches and earlier.has_equal_batches:
            return position * earlier.batch_size // self.batch_size
        return position * self.batches // earlier.batches


@dataclass(frozen=True)
class Replanned:
    """A checkpoint's state for the new plan, and lines that say what is not as it was."""

    state: dict[str, Any]
    lines: list[str] = field(default_factory=list)


def replan(
    engine: Engine,
    state: dict[str, Any],
    trainer: Trainer,
    continues: bool,
    changed: Sequence[Change],
) -> Replanned:
    """Return `state` as it is if the plan has not changed, otherwise what fits the new plan.

    `engine` is positioned at the state, in the stage as it is now planned. `continues` is True for
    data whose batches continue each other: there an epoch that has begun starts again.
    A state of version 0.1 does not know its own plan; `changed` is what has changed since.
    """
    earlier = StageLength.saved_in(state)
    now = StageLength(**engine.stage.length())
    if earlier is None and not any(change.key.startswith(DATA) for change in changed):
        earlier = now
    if not plan_differs(engine, state, earlier, now, changed):
        return Replanned(state)
    position = new_position(state["position"], earlier, now, continues)
    left = batches_left(engine, position, trainer)
    optims = [
        {**saved, "updates": new_updates(optim, saved, left)}
        for optim, saved in zip(engine.stage.optims, state["optims"], strict=True)
    ]
    replanned = {**state, "position": position, "optims": optims}
    if earlier is not None and "parts" in state.get("step_runner", {}):
        parts = state["step_runner"]["parts"] * now.batch_size / earlier.batch_size
        replanned["step_runner"] = {"parts": max(1, math.ceil(parts))}
    return Replanned(replanned, place_lines(engine, state, replanned, earlier, left))


def plan_differs(
    engine: Engine,
    state: dict[str, Any],
    earlier: StageLength | None,
    now: StageLength,
    changed: Sequence[Change],
) -> bool:
    """Tell if the stage or its updates are planned in another way than when `state` was saved."""
    if earlier != now:
        return True
    if StageLength.saved_in(state) is None:
        return any(change.key.startswith(PLAN) for change in changed)
    planned = [(optim.total_updates, optim.accumulate) for optim in engine.stage.optims]
    before = [(saved.get("total_updates"), saved.get("accumulate")) for saved in state["optims"]]
    return planned != before


def new_position(
    position: int, earlier: StageLength | None, now: StageLength, continues: bool
) -> int:
    """Return the batch of the epoch to continue at."""
    if position == 0 or earlier == now:
        return position
    if earlier is None or continues:
        return 0
    return now.position_of(position, earlier)


def batches_left(engine: Engine, position: int, trainer: Trainer) -> int:
    """Return how many batches of the stage follow `position` in the current epoch."""
    stage = engine.stage
    left = (stage.epochs - engine.epoch) * len(stage.batches) - position
    if trainer.steps is not None:
        left = min(left, trainer.steps - engine.step)
    return max(0, left)


def new_updates(optim: Optim, saved: Mapping[str, Any], left: int) -> int:
    """Return the number of updates that leaves those of `left` batches until the planned end."""
    if not optim.total_updates:  # planned by nobody
        return int(saved["updates"])
    return max(0, optim.total_updates - optim.updates_for(left))


def place_lines(
    engine: Engine,
    state: dict[str, Any],
    replanned: dict[str, Any],
    earlier: StageLength | None,
    left: int,
) -> list[str]:
    """Return a line for an epoch that continues at another batch, and one if nothing is left."""
    lines = []
    batches = len(engine.stage.batches)
    place = replanned["position"]
    epoch = state["epoch"] + 1
    if state["position"] != place:
        stopped = f"batch {state['position']:,}"
        if earlier is not None:
            stopped += f" of {earlier.batches:,}"
        lines.append(
            f"epoch {epoch} has {batches:,} batches now and continues after batch {place:,}: "
            f"it stopped after {stopped}"
        )
    if not left and not engine.run_ended:
        lines.append(
            f"nothing is left to train: the run has made {engine.step:,} steps, and stage "
            f"{engine.stage.name!r} is at epoch {state['epoch']} of {engine.stage.epochs}"
        )
    return lines
