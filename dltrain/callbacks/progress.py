"""What a person or a log sees while a run goes: a live bar in a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.timer import Timer
from dltrain.engine import Callback, Engine
from dltrain.report.figures import shown_as
from dltrain.report.text import duration, number
from dltrain.types import PositiveFloat

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

log = logging.getLogger("dltrain")


class Progress(Callback):
    """Epoch, loss, watched metric, samples a second and time left.

    In a terminal a bar is redrawn every `refresh` seconds; a pipe gets no escape codes.
    """

    name = "progress"

    def __init__(self, log: MetricsLog, timer: Timer, refresh: PositiveFloat = 0.25) -> None:
        self.metrics, self.timer, self.refresh = log, timer, refresh
        self.live = sys.stdout is not None and sys.stdout.isatty()
        self.bar: Bar | None = None
        self.due = 0.0
        self.first = 0

    def step_end(self, engine: Engine) -> None:
        if self.live and time.perf_counter() >= self.due:
            self.due = time.perf_counter() + self.refresh
            self.draw(engine)

    def draw(self, engine: Engine) -> None:
        from rich import progress

        batches = engine.stage.batches
        total = -(-batches.samples // batches.batch_size) or None
        if self.bar is None:
            self.bar = progress.Progress(
                "{task.description}",
                progress.BarColumn(bar_width=None),
                progress.MofNCompleteColumn(),
                "{task.fields[figures]}",
                transient=True,
                auto_refresh=False,
            )
            self.bar.add_task("", total=total, figures="")
            self.bar.start()
        loss = self.metrics.latest.get("train/loss")
        rate = self.timer.rate(engine)
        figures = [f"loss {number(loss)}"] if loss is not None else []
        for name in shown_as(engine.task, engine.stage.watch):
            watched = self.metrics.latest.get(name)
            figures += [f"{name} {number(watched)}"] if watched is not None else []
        if rate and total and engine.stage.epochs < sys.maxsize:
            left = (engine.stage.epochs - engine.epoch) * batches.samples - engine.position * batches.batch_size
            figures += [f"{rate:,.0f} samples/s", f"{duration(max(0, left) / rate)} left"]
        self.bar.update(
            self.bar.task_ids[0],
            description=self.title(engine, engine.epoch + 1),
            total=total,
            completed=engine.position,
            figures="  ".join(figures),
        )
        self.bar.refresh()

    def epoch_end(self, engine: Engine) -> None:
        self.stop()
        finished = engine.epoch if engine.position == 0 else engine.epoch + 1
        log.info(self.line(engine, self.title(engine, finished)))

    def title(self, engine: Engine, epoch: int) -> str:
        epochs = engine.stage.epochs
        return f"{engine.stage.name} {epoch}" + (f"/{epochs}" if epochs < sys.maxsize else "")

    def line(self, engine: Engine, title: str) -> str:
        """One finished epoch: the mean training loss over it, and its evaluation."""
        figures: dict[str, Any] = {"train/loss": self.metrics.epoch_means.get("loss")}
        for name in ("val/loss", *shown_as(engine.task, engine.stage.watch)):
            figures[name] = engine.scores.get(name)
        if engine.stage.watch == "val/loss":
            figures |= dict(self.first_score(engine))
        parts = [f"{name} {number(value)}" for name, value in figures.items() if isinstance(value, float)]
        rate = self.timer.rate(engine)
        parts += [f"{rate:,.0f} samples/s"] if rate else []
        return "  ".join([f"{title:<12}", *parts, duration(self.timer.seconds())])

    def first_score(self, engine: Engine) -> list[tuple[str, float]]:
        """What the task names first beside the loss, such as accuracy; none if it scores nothing else."""
        scores = [(k, v) for k, v in engine.scores.items() if isinstance(v, float) and k.startswith("val/")]
        return [score for score in scores if score[0] != "val/loss"][:1]

    def run_end(self, engine: Engine) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
