"""Saves the run: the last state, the best one, and the end of every stage."""

from __future__ import annotations

import math
import threading
from typing import Any

from dltrain.checkpoint import Store, commit, snapshot
from dltrain.engine import Callback, Engine

KEEP = 2


class Checkpoint(Callback):
    """After every epoch, and after an evaluation within one that is the best so far, a folder under checkpoints/.

    "Best" is by the stage's watched metric. The state is copied at once; a thread writes it while training goes on, and
    `wait` returns when it is on the disk (or raises what went wrong).
    """

    name = "checkpoint"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.best: dict[str, Any] = {}
        self.improved = False
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None

    def evaluation_end(self, engine: Engine) -> None:
        if engine.stage.name != self.best.get("stage"):
            self.best = {}  # the last stage that watches a metric is the one whose best counts
        value = float(engine.scores.get(engine.stage.watch, float("nan")))
        sign = 1 if engine.stage.mode == "max" else -1
        if math.isfinite(value) and (
            not self.best or sign * value >= sign * self.best["value"]
        ):  # of equals, the later
            figures = {name: v for name, v in engine.scores.items() if isinstance(v, float)}
            where = {"stage": engine.stage.name, "epoch": engine.epoch + 1, "step": engine.step}
            self.best = {"metric": engine.stage.watch, "value": value, **where, "metrics": figures}
            self.improved = True
        if self.improved and not engine.exhausted and not engine.halted:
            self.save(engine)

    def epoch_end(self, engine: Engine) -> None:
        self.save(engine)

    def stage_end(self, engine: Engine) -> None:
        state = snapshot(engine.stage_end_state())
        self.write(self.store.stage_end(engine.index, engine.step), state, engine, points=())

    def run_end(self, engine: Engine) -> None:
        self.wait()

    def save(self, engine: Engine) -> None:
        """Save now, as the last checkpoint, and as the best if the last evaluation was."""
        self.wait()
        folder = self.store.folder / self.store.new_name(engine.step)
        points = ("best", "last") if self.improved else ("last",)
        self.improved = False
        self.write(folder, snapshot(engine.state_dict()), engine, points)

    def write(self, folder: Any, state: dict[str, Any], engine: Engine, points: tuple[str, ...]) -> None:
        about = {"step": engine.step, "epoch": engine.epoch, "position": engine.position, "stage": engine.stage.name}
        self.wait()

        def work() -> None:
            try:
                if not folder.exists():
                    commit(folder, state, about)
                for pointer in points:
                    self.store.point(pointer, folder.name)
                self.store.prune(KEEP)
            except Exception as e:  # handed to the training thread by wait()
                self.error = e

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
