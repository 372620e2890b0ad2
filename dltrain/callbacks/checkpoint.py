"""Saves the run: the last state, the best one, and the end of every stage."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from dltrain.callbacks.nonfinite import require_finite, require_finite_copy
from dltrain.engine import Callback, Engine
from dltrain.errors import DltrainError, SaveError, UsageError
from dltrain.runs.checkpoint import Store, commit, snapshot
from dltrain.types import Interval
from dltrain.types.own_code import MisfitError, described_class, is_of_library

log = logging.getLogger("dltrain")

PLAIN = (type(None), bool, int, float, str, bytes, Tensor)  # that a checkpoint holds
KEEP = 2  # the newest checkpoints, besides the best one
MAX_UNWRITTEN_EPOCHS = 4  # states to be kept that wait in memory for room on the disk
MAX_TIME_FRACTION = 0.01  # of the run's time for saving, where the user sets no interval
MAX_UNSAVED_SECONDS = 60.0  # between saves at ends of epochs, however long they take


def require_plain_states(engine: Engine) -> None:
    """Raise MisfitError if a user's own callback has a state that no checkpoint can hold."""
    for callback in engine.callbacks:
        if not is_of_library(callback):
            require_plain(callback, callback.state_dict())


def require_plain(callback: Callback, state: dict[str, Any]) -> None:
    """Raise MisfitError unless the state of a callback consists of plain values and tensors."""
    for path, value in leaves("", state):
        if not isinstance(value, PLAIN):
            what = f"{described_class(callback)}: state_dict() has {path} of type "
            needed = "tensors, numbers, texts, None, and lists, tuples and dictionaries of them"
            kind = type(value).__name__
            raise MisfitError(f"{what}{kind}; a checkpoint holds {needed}", callback)


def leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in nested dictionaries, lists and tuples, each with its path."""
    if not isinstance(value, dict | list | tuple):
        yield path, value
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield from leaves(f"{path}[{key!r}]", item)


def require_metric(name: str, figures: Collection[str]) -> None:
    """Raise UsageError if a watched metric is not among those of the evaluation."""
    if name and name not in figures:
        raise UsageError(f"trainer.watch={name} is not one of the metrics: {', '.join(figures)}")


def evaluated_rank(engine: Engine) -> float | None:
    """Return the rank of the current state by the watched metric; None if it is not evaluated."""
    if engine.evaluated_step != engine.step:
        return None
    value = engine.scores.get(engine.stage.watch)
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return engine.stage.rank(value)


@dataclass
class PendingSave:
    """A state on its way to the disk.

    `about` goes into its manifest. The pointers in `points` (best, last) will name it. `place` is
    where in training it was taken. `copy_seconds` is how long training waited for the copy.
    """

    folder: Path
    state: dict[str, Any]
    about: dict[str, Any]
    points: tuple[str, ...] = ()
    place: tuple[Any, ...] = ()
    copy_seconds: float = 0.0
    is_stage_end: bool = False


class Checkpoint(Callback):
    """Saves a folder under checkpoints/ after epochs and after the best evaluation so far.

    "Best" is by the stage's watched metric. `every` is an additional interval. The state is copied
    at once; a thread writes it while training continues, and `wait` returns when it is on the disk.

    If the store keeps several best ones, a state that is one of them is saved at once. States after
    every `keep_every` epochs of a stage are saved, and never removed.

    Without `every`, where saving after each epoch would take more than a hundredth of the time,
    some epochs are skipped. A best state is then held in memory until the next save or the end of
    the run, whatever ends it.

    If a state cannot be written, `on_error` decides: "continue" logs it, and the next save tries
    again; "stop" ends the run with SaveError. Before each save, `sync` writes what the run
    has logged to the disk. Raises DivergedError if the state contains a number that is not finite;
    such a state is never written.
    """

    name = "checkpoint"
    draws = False

    def __init__(
        self,
        store: Store,
        every: Interval | None = None,
        on_error: Literal["continue", "stop"] = "stop",
        about: dict[str, Any] | None = None,
        sync: Callable[[], None] = lambda: None,
        keep_every: int | None = None,
    ) -> None:
        self.store = store
        self.every = every
        self.on_error = on_error
        self.sync = sync
        self.description = about or {}
        self.best: dict[str, Any] = {}  # the evaluation
        self.improved = False  # the last evaluation is the best, and not saved yet
        self.keep_every = keep_every
        self.is_among_best = False  # the last evaluation is one of several to keep, not saved yet
        self.thread: threading.Thread | None = None
        self.writing: PendingSave | None = None
        self.error: Exception | None = None
        self.save_seconds = 0.0  # seconds that the last save took, with the copy
        self.saved_at = 0.0  # time at which it ended
        self.last_save_began = time.perf_counter()
        self.held_best: PendingSave | None = None  # a best state that is not on the disk yet
        # ends of stages that could not be written: later stages cannot be resumed without them
        self.unwritten_stage_ends: list[PendingSave] = []
        self.unwritten_epochs: list[PendingSave] = []  # that are to be kept forever; the newest
        self.saved: tuple[Any, ...] = ()  # the place of the newest state on the disk
        self.newest: tuple[Any, ...] = ()  # the place of the newest that was to be saved
        self.failed = False

    def step_end(self, engine: Engine) -> None:
        if self.error:
            self.wait()
        if self.every is None:
            return
        seconds = time.perf_counter() - self.last_save_began
        if engine.step % self.every.steps == 0 or seconds >= self.every.seconds:
            self.save(engine)

    def evaluation_end(self, engine: Engine) -> None:
        self._compare(engine)
        self.is_among_best = self._ranks_among_best(engine)
        is_within_epoch = not engine.exhausted and not engine.halted
        if is_within_epoch and (self.improved or self.is_among_best):
            self.save_or_hold(engine, self.is_among_best or self.is_affordable())

    def _ranks_among_best(self, engine: Engine) -> bool:
        """Return whether the last evaluation is one of several best ones to keep.

        The checkpoints on the disk decide, so a resumed run needs no list of its own.
        """
        rank = evaluated_rank(engine)
        if self.store.keep_best == 1 or rank is None:
            return False
        self.wait()
        ranked = self.store.ranked((engine.stage.name, engine.stage.watch))
        ranks = [saved.rank for saved in ranked[: self.store.keep_best] if saved.rank is not None]
        return len(ranks) < self.store.keep_best or rank >= ranks[-1]

    def _compare(self, engine: Engine) -> None:
        """Keep the evaluation if it is the best so far; the later one wins a tie."""
        stage = engine.stage
        figures = {name: v for name, v in engine.scores.items() if isinstance(v, float)}
        require_metric(stage.watch, figures)
        if stage.name != self.best.get("stage"):
            self.best = {}  # the best checkpoint is that of the last stage that watches a metric
        value = figures.get(stage.watch, math.nan)
        if not math.isfinite(value):
            return
        if not self.best or stage.rank(value) >= stage.rank(self.best["value"]):
            self.best = {
                "metric": stage.watch,
                "mode": stage.mode,
                "value": value,
                "stage": stage.name,
                "epoch": engine.epoch + 1,
                "step": engine.step,
                "metrics": figures,
            }
            self.improved = True

    def resumed(self, engine: Engine) -> None:
        """Start without a best state if its checkpoint is lost."""
        if self.best and self.store.pointed("best") is None:
            log.warning(
                f"the best state so far ({self.best['metric']} {self.best['value']:g}) is lost; "
                "the next evaluation is the best"
            )
            self.best = {}

    def epoch_end(self, engine: Engine) -> None:
        is_over = engine.halted or engine.epoch >= engine.stage.epochs
        if is_over or self.is_among_best or self._keeps_epoch(engine):
            self.save(engine)
        elif self.every:
            self.save_or_hold(engine, engine.epoch % self.every.epochs == 0)
        else:
            self.save_or_hold(engine, self.is_affordable())

    def _keeps_epoch(self, engine: Engine) -> bool:
        """Return whether the state is that of an epoch's end whose checkpoint is never removed."""
        if self.keep_every is None or engine.position or not engine.epoch:
            return False
        return engine.epoch % self.keep_every == 0

    def is_affordable(self) -> bool:
        """Return whether a save now stays within its fraction of the time."""
        if self.thread and self.thread.is_alive():
            return False
        pause = min(self.save_seconds / MAX_TIME_FRACTION, MAX_UNSAVED_SECONDS)
        return time.perf_counter() - self.saved_at >= pause

    def save_or_hold(self, engine: Engine, is_due: bool) -> None:
        """Save if a save is due; otherwise hold the state in memory if it is the best."""
        if is_due:
            self.save(engine)
        elif self.improved:
            self.improved = False
            self.held_best = self._copy(engine, ("best",))

    def stage_end(self, engine: Engine) -> None:
        self.save(engine)
        folder = self.store.stage_end(engine.index, engine.step)
        state = snapshot(engine.stage_end_state())
        self._write(PendingSave(folder, state, self._about(engine), is_stage_end=True))

    def run_end(self, engine: Engine) -> None:
        self.finish()

    def save(self, engine: Engine) -> None:
        """Save the state as the last, and as the best if it is; unless it is already saved."""
        self.wait()
        if self._place(engine) == self.saved:
            return
        points: tuple[str, ...] = ("last",)
        if self.improved:
            points = ("best", "last")
            self.held_best = None  # this state is better
        self.improved = False
        self.is_among_best = False
        self.finish()  # a held state of the same step gets its name first
        pending = self._copy(engine, points)
        self.last_save_began = time.perf_counter()
        self.newest = pending.place
        self._write(pending)

    def _copy(self, engine: Engine, points: tuple[str, ...]) -> PendingSave:
        """Return a copy of the engine's state, to be written."""
        start = time.perf_counter()
        require_finite(engine)
        if self.writing and self.writing.folder.name.startswith(f"{engine.step:09d}"):
            self.wait()  # until the folder exists: `new_name` then avoids its name
        folder = self.store.folder / self.store.new_name(engine.step)
        about = {**self._about(engine), "points": points}
        require_plain_states(engine)
        state = snapshot(engine.state_dict())
        require_finite_copy(engine, state)
        seconds = time.perf_counter() - start
        return PendingSave(folder, state, about, points, self._place(engine), seconds)

    def _place(self, engine: Engine) -> tuple[Any, ...]:
        return engine.index, engine.step, engine.epoch, engine.position, engine.settled

    def _about(self, engine: Engine) -> dict[str, Any]:
        about = {
            **self.description,
            "step": engine.step,
            "epoch": engine.epoch,
            "position": engine.position,
            "stage": engine.stage.name,
        }
        rank = evaluated_rank(engine)
        if rank is not None:
            about |= {"metric": engine.stage.watch, "rank": rank}
        if self._keeps_epoch(engine) and engine.settled:
            about["kept"] = True
        return about

    def finish(self) -> None:
        """Write all states that are still held in memory, and wait until they are on the disk."""
        waiting = [*self.unwritten_stage_ends, *self.unwritten_epochs]
        if self.held_best:
            waiting = [*waiting, self.held_best]
        self.unwritten_stage_ends = []
        self.unwritten_epochs = []
        self.held_best = None
        for pending in waiting:
            self._write(pending)
        self.wait()

    def best_state(self) -> dict[str, Any] | None:
        """Return the state at the best evaluation: from memory if it is not on the disk."""
        if self.held_best:
            return self.held_best.state
        saved = self.store.read("best")
        if saved is None:
            return None
        _, state = saved
        return state

    def _write(self, pending: PendingSave) -> None:
        """Start a thread that commits a state and sets its pointers."""
        self.wait()
        self.writing = pending
        self.thread = threading.Thread(
            target=self._commit, args=(pending,), name="checkpoint writer"
        )
        self.thread.start()

    def _commit(self, pending: PendingSave) -> None:
        """Commit a state, in the thread; errors are kept for `wait`."""
        start = time.perf_counter()
        try:
            self.sync()
            if not pending.folder.exists():
                commit(pending.folder, pending.state, pending.about)
            for pointer in pending.points:
                self.store.point(pointer, pending.folder.name)
            self.store.prune(KEEP)
            self.store.point_to_ranked()
        except SaveError as e:
            self.error = e
        except OSError as e:
            self.error = SaveError(pending.folder, e, 0)
        except Exception as e:  # raised in the training thread
            self.error = e
        self.saved_at = time.perf_counter()
        self.save_seconds = pending.copy_seconds + self.saved_at - start

    def wait(self) -> None:
        """Wait until the state that is being written is committed; log or raise what went wrong."""
        if self.thread:
            self.thread.join()
            self.thread = None
        pending, self.writing = self.writing, None
        error, self.error = self.error, None
        if error is None:
            self._succeeded(pending)
        else:
            self._failed(pending, error)

    def _succeeded(self, pending: PendingSave | None) -> None:
        """Note the place of a state that was written."""
        if pending and pending.place:
            self.saved = pending.place
        unwritten = self.unwritten_stage_ends or self.unwritten_epochs
        if self.failed and self.saved == self.newest and not unwritten:
            log.info("saving works again")
            self.failed = False

    def _failed(self, pending: PendingSave | None, error: Exception) -> None:
        """Raise the error of a state that could not be written, or log it and keep the state."""
        if pending:
            self._keep(pending)
        if not isinstance(error, SaveError) or self.on_error == "stop":
            raise error
        if not self.failed:
            log.warning(
                f"{error}; training continues, and the next save tries again "
                "(trainer.on_save_error=stop ends it)"
            )
        self.failed = True

    def _keep(self, pending: PendingSave) -> None:
        """Keep a state that could not be written, if a later one does not replace it.

        That is a best one, the end of a stage, or that of an epoch that is to be kept.
        """
        if "best" in pending.points and not self.held_best:
            self.held_best = pending
        if pending.is_stage_end:
            self.unwritten_stage_ends.append(pending)
        elif pending.about.get("kept"):
            self.unwritten_epochs.append(replace(pending, points=()))
            del self.unwritten_epochs[:-MAX_UNWRITTEN_EPOCHS]

    def require_complete(self) -> None:
        """Raise DltrainError if the final state of the run is not on the disk."""
        if self.failed:
            raise DltrainError(
                f"the last state of the run could not be saved in {self.store.folder}"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = dict(state.get("best", {}))

    @classmethod
    def best_in(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Return the best evaluation so far from a state of the engine; {} before the first."""
        best: dict[str, Any] = state["callbacks"][cls.name]["best"]
        return best
