"""Saves the run: the last state, the best one, and the end of every stage."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dltrain.callbacks.nonfinite import require_finite
from dltrain.engine import Callback, Engine
from dltrain.errors import DltrainError, SaveError, UsageError
from dltrain.runs.checkpoint import Store, commit, snapshot
from dltrain.types import Interval

log = logging.getLogger("dltrain")

KEEP = 2
SHARE = 0.01  # of the wall time at most goes into saving, where nothing else is asked for,
LONGEST = 60.0  # but no more than so many seconds pass without a save at an epoch's end


@dataclass
class Saving:
    """A state on its way to the disk: where to, what it is, and the pointers that will name it."""

    folder: Path
    state: dict[str, Any]
    about: dict[str, Any]
    points: tuple[str, ...] = ()
    place: tuple[Any, ...] = ()
    seconds: float = 0.0  # that the training waited for the copy


class Checkpoint(Callback):
    """A folder under checkpoints/ after an epoch, after an evaluation within one that is the best so far, and `every` so
    often where that is set.

    "Best" is by the stage's watched metric. The state is copied at once; a thread writes it while training goes on, and
    `wait` returns when it is on the disk. Where nothing else is set and epochs are so short that saving after each would
    take more than a hundredth of the time, some are passed over: a best state is then held in memory until the next save
    or the end, whatever ends the run. A state that cannot be written is said in a line, and the next save tries again
    (`on_error` continue), or SaveError ends the run (stop). `sync` puts on the disk what the run has logged, before each
    save. DivergedError where the state holds a number that is not finite: such a one is never written.
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
    ) -> None:
        self.store, self.every, self.on_error, self.sync = store, every, on_error, sync
        self.description = about or {}
        self.best: dict[str, Any] = {}
        self.improved = False
        self.thread: threading.Thread | None = None
        self.writing: Saving | None = None
        self.error: Exception | None = None
        self.cost, self.written = 0.0, 0.0  # seconds that the last save took, and when it ended
        self.begun = time.perf_counter()  # when the last save began
        self.held: Saving | None = None  # a best state, not yet on the disk
        self.owed: list[
            Saving
        ] = []  # ends of stages that could not be written: no later stage is resumed without them
        self.saved: tuple[Any, ...] = ()  # the place of the newest state on the disk, and of
        self.newest: tuple[Any, ...] = ()  # the newest that was to be saved
        self.failed = False

    def step_end(self, engine: Engine) -> None:
        if self.error:
            self.wait()
        if self.every and (
            engine.step % self.every.steps == 0
            or time.perf_counter() - self.begun >= self.every.seconds
        ):
            self.save(engine)

    def evaluation_end(self, engine: Engine) -> None:
        figures = {name: v for name, v in engine.scores.items() if isinstance(v, float)}
        if engine.stage.watch and engine.stage.watch not in figures:
            raise UsageError(
                f"trainer.watch={engine.stage.watch} is not one of the metrics: {', '.join(figures)}"
            )
        if engine.stage.name != self.best.get("stage"):
            self.best = {}  # the last stage that watches a metric is the one whose best counts
        value = float(engine.scores.get(engine.stage.watch, float("nan")))
        sign = 1 if engine.stage.mode == "max" else -1
        if math.isfinite(value) and (
            not self.best or sign * value >= sign * self.best["value"]
        ):  # of equals, the later
            where = {"stage": engine.stage.name, "epoch": engine.epoch + 1, "step": engine.step}
            self.best = {"metric": engine.stage.watch, "value": value, **where, "metrics": figures}
            self.improved = True
        if self.improved and not engine.exhausted and not engine.halted:
            self.save_or_hold(engine, due=self.affordable())

    def resumed(self, engine: Engine) -> None:
        """Start without a best state if its checkpoint is lost."""
        if self.best and self.store.pointed("best") is None:
            log.warning(
                f"the best state so far ({self.best['metric']} {self.best['value']:g}) is lost; "
                "the next evaluation is the best"
            )
            self.best = {}

    def epoch_end(self, engine: Engine) -> None:
        if engine.halted or engine.epoch >= engine.stage.epochs:
            self.save(engine)
        else:
            self.save_or_hold(
                engine, engine.epoch % self.every.epochs == 0 if self.every else self.affordable()
            )

    def affordable(self) -> bool:
        """Whether a save now keeps to its share of the time."""
        idle = not (self.thread and self.thread.is_alive())
        return idle and time.perf_counter() - self.written >= min(self.cost / SHARE, LONGEST)

    def save_or_hold(self, engine: Engine, due: bool) -> None:
        """Save if it is `due`; if not, hold a best state."""
        if due:
            self.save(engine)
        elif self.improved:
            self.improved = False
            self.held = self.saving(engine, ("best",))

    def stage_end(self, engine: Engine) -> None:
        self.save(engine)
        state = snapshot(engine.stage_end_state())
        self.write(
            Saving(self.store.stage_end(engine.index, engine.step), state, self.about(engine))
        )

    def run_end(self, engine: Engine) -> None:
        self.finish()

    def save(self, engine: Engine) -> None:
        """Save now, as the last checkpoint, and as the best if the last evaluation was; nothing if this state is saved."""
        self.wait()
        if self.place(engine) == self.saved:
            return
        points = ("best", "last") if self.improved else ("last",)
        if self.improved:
            self.held = None  # this one is better
        self.improved = False
        self.finish()  # a held state of the same step takes its name first
        saving = self.saving(engine, points)
        self.begun, self.newest = time.perf_counter(), saving.place
        self.write(saving)

    def saving(self, engine: Engine, points: tuple[str, ...]) -> Saving:
        start = time.perf_counter()
        require_finite(engine)
        if self.writing and self.writing.folder.name.startswith(f"{engine.step:09d}"):
            self.wait()  # until its name is taken
        folder = self.store.folder / self.store.new_name(engine.step)
        about = {**self.about(engine), "points": points}
        state = snapshot(engine.state_dict())
        return Saving(folder, state, about, points, self.place(engine), time.perf_counter() - start)

    def place(self, engine: Engine) -> tuple[Any, ...]:
        return engine.index, engine.step, engine.epoch, engine.position, engine.settled

    def about(self, engine: Engine) -> dict[str, Any]:
        where = {"step": engine.step, "epoch": engine.epoch, "position": engine.position}
        return {**self.description, **where, "stage": engine.stage.name}

    def finish(self) -> None:
        """Until everything is on the disk, a held best state too."""
        held, self.held = self.held, None
        waiting, self.owed = [*self.owed, *([held] if held else [])], []
        for saving in waiting:
            self.write(saving)
        self.wait()

    def best_state(self) -> dict[str, Any] | None:
        """The state at the best evaluation: from memory where it could not be written, else from the disk."""
        if self.held:
            return self.held.state
        found = self.store.read("best")
        return found[1] if found else None

    def write(self, saving: Saving) -> None:
        """Commit a state in a thread, then point at it."""
        self.wait()

        def work() -> None:
            start = time.perf_counter()
            try:
                self.sync()
                if not saving.folder.exists():
                    commit(saving.folder, saving.state, saving.about)
                for pointer in saving.points:
                    self.store.point(pointer, saving.folder.name)
                self.store.prune(KEEP)
            except SaveError as e:
                self.error = e
            except OSError as e:
                self.error = SaveError(saving.folder, e, 0)
            except Exception as e:  # handed to the training thread by wait()
                self.error = e
            self.written = time.perf_counter()
            self.cost = saving.seconds + self.written - start

        self.writing = saving
        self.thread = threading.Thread(target=work, name="checkpoint writer")
        self.thread.start()

    def wait(self) -> None:
        """Until the checkpoint under way is committed; what went wrong is said, or raised."""
        if self.thread:
            self.thread.join()
            self.thread = None
        saving, self.writing = self.writing, None
        error, self.error = self.error, None
        if error is None:
            if saving and saving.place:
                self.saved = saving.place
            if self.failed and self.saved == self.newest and not self.owed:
                log.info("saving works again")
                self.failed = False
            return
        if saving and "best" in saving.points and not self.held:
            self.held = saving
        if saving and not saving.points:
            self.owed.append(saving)
        if not isinstance(error, SaveError) or self.on_error == "stop":
            raise error
        if not self.failed:
            log.warning(
                f"{error}; training goes on, and the next save tries again (trainer.on_save_error=stop ends it)"
            )
        self.failed = True

    def require_complete(self) -> None:
        """DltrainError if what the run ended with is not on the disk."""
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
        """Return what a state of the engine names as the best evaluation so far; {} before the first."""
        best: dict[str, Any] = state["callbacks"][cls.name]["best"]
        return best
