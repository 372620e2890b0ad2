"""Saves the run: the last state, the best one, and the end of every stage."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

from dltrain.checkpoint import Store, commit, snapshot
from dltrain.engine import Callback, Engine
from dltrain.errors import UsageError

KEEP = 2
SHARE = 0.01  # of the wall time at most goes into saving,
LONGEST = 60.0  # but no more than so many seconds pass without a save at an epoch's end


class Checkpoint(Callback):
    """After an epoch, and after an evaluation within one that is the best so far, a folder under checkpoints/.

    "Best" is by the stage's watched metric. The state is copied at once; a thread writes it while training goes on, and
    `wait` returns when it is on the disk (or raises what went wrong). Where epochs are so short that saving after each
    would take more than a hundredth of the time, some are passed over: a best state is then held in memory until the
    next save or the end, whatever ends the run.
    """

    name = "checkpoint"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.best: dict[str, Any] = {}
        self.improved = False
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None
        self.cost, self.written = 0.0, 0.0  # seconds that the last save took, and when it ended
        self.held: tuple[Path, dict[str, Any], dict[str, Any]] | None = None  # a best state, not yet on the disk
        self.saved: tuple[int, int] | None = None  # index of the stage and step of the newest save

    def evaluation_end(self, engine: Engine) -> None:
        figures = {name: v for name, v in engine.scores.items() if isinstance(v, float)}
        if engine.stage.watch and engine.stage.watch not in figures:
            raise UsageError(f"trainer.watch={engine.stage.watch} is none of the metrics: {', '.join(figures)}")
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
            self.save_or_hold(engine)

    def epoch_end(self, engine: Engine) -> None:
        over = engine.halted or engine.epoch >= engine.stage.epochs
        (self.save if over else self.save_or_hold)(engine)

    def save_or_hold(self, engine: Engine) -> None:
        """Save if the time for it has come; if not, hold a best state."""
        if time.perf_counter() - self.written >= min(self.cost / SHARE, LONGEST) and not (
            self.thread and self.thread.is_alive()
        ):
            self.save(engine)
        elif self.improved:
            self.improved = False
            self.held = (self.new_folder(engine), snapshot(engine.state_dict()), self.about(engine))

    def stage_end(self, engine: Engine) -> None:
        if self.saved != (engine.index, engine.step):
            self.save(engine)
        state = snapshot(engine.stage_end_state())
        self.write(self.store.stage_end(engine.index, engine.step), state, self.about(engine), points=())

    def run_end(self, engine: Engine) -> None:
        self.finish()

    def save(self, engine: Engine) -> None:
        """Save now, as the last checkpoint, and as the best if the last evaluation was."""
        points = ("best", "last") if self.improved else ("last",)
        if self.improved:
            self.held = None  # this one is better
        self.improved = False
        self.finish()
        self.write(self.new_folder(engine), snapshot(engine.state_dict()), self.about(engine), points)
        self.saved = (engine.index, engine.step)

    def finish(self) -> None:
        """Until everything is on the disk, a held best state too."""
        if self.held:
            folder, state, about = self.held
            self.held = None
            self.write(folder, state, about, ("best",))
        self.wait()

    def new_folder(self, engine: Engine) -> Path:
        return self.store.folder / self.store.new_name(engine.step)

    def about(self, engine: Engine) -> dict[str, Any]:
        where = {"step": engine.step, "epoch": engine.epoch, "position": engine.position}
        return {**where, "stage": engine.stage.name}

    def write(self, folder: Path, state: dict[str, Any], about: dict[str, Any], points: tuple[str, ...]) -> None:
        """Commit `state` in a thread, then point at it."""
        self.wait()

        def work() -> None:
            start = time.perf_counter()
            try:
                if not folder.exists():
                    commit(folder, state, about)
                for pointer in points:
                    self.store.point(pointer, folder.name)
                self.store.prune(KEEP)
            except Exception as e:  # handed to the training thread by wait()
                self.error = e
            self.written = time.perf_counter()
            self.cost = self.written - start

        self.thread = threading.Thread(target=work, name="checkpoint writer")
        self.thread.start()

    def wait(self) -> None:
        """Until the checkpoint under way is committed."""
        if self.thread:
            self.thread.join()
            self.thread = None
        if self.error:
            error, self.error = self.error, None
            raise error

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = dict(state.get("best", {}))
