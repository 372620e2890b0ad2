"""What a person or a log sees while a run goes: a live bar in a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dltrain import rng
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.timer import Timer
from dltrain.engine import Callback, Engine
from dltrain.report.figures import shown_as
from dltrain.report.text import duration, number
from dltrain.terminal import cells, cut, pad
from dltrain.types import PositiveFloat

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.text import Text

log = logging.getLogger("dltrain")
MIN_BAR = 5  # columns


class Progress(Callback):
    """Epoch, loss, watched metric, samples a second and time left.

    In a terminal a bar is redrawn every `refresh` seconds; a pipe gets no escape codes.
    """

    name = "progress"
    draws = False

    def __init__(self, log: MetricsLog, timer: Timer, refresh: PositiveFloat = 0.25) -> None:
        self.metrics, self.timer, self.refresh = log, timer, refresh
        self.live = sys.stdout is not None and sys.stdout.isatty()
        self.bar: Bar | None = None
        self.due = 0.0
        self.first = 0

    def step_end(self, engine: Engine) -> None:
        if self.live and time.perf_counter() >= self.due:
            self.due = time.perf_counter() + self.refresh
            with rng.preserved():  # rich draws from Python's generator when it is imported
                self.draw(engine)

    def draw(self, engine: Engine) -> None:
        """Redraw the bar with as many figures as the terminal has room for by now."""
        batches = engine.stage.batches
        total = -(-batches.samples // batches.batch_size) or None
        if self.bar is None:
            self.bar = new_bar()
            self.bar.add_task("", total=total, line="")
            self.bar.start()
        line = Line.fitting(
            self.bar.console.width,
            self.title(engine, engine.epoch + 1),
            f"{engine.position}/{total or '?'}",
            self.figures(engine, total),
        )
        share = engine.position / total if total else 0.0
        drawn = line.drawn(share, ascii_only=self.bar.console.options.ascii_only)
        self.bar.update(self.bar.task_ids[0], total=total, completed=engine.position, line=drawn)
        self.bar.refresh()

    def figures(self, engine: Engine, total: int | None) -> list[str]:
        """Return the figures beside the bar, the most important first."""
        loss = self.metrics.latest.get("train/loss")
        figures = [f"loss {number(loss)}"] if loss is not None else []
        for name in shown_as(engine.task, engine.stage.watch):
            watched = self.metrics.latest.get(name)
            figures += [f"{name} {number(watched)}"] if watched is not None else []
        rate = self.timer.rate(engine)
        if rate and total and engine.stage.epochs < sys.maxsize:
            batches = engine.stage.batches
            left = (
                engine.stage.epochs - engine.epoch
            ) * batches.samples - engine.position * batches.batch_size
            figures += [f"{duration(max(0, left) / rate)} left", f"{rate:,.0f} samples/s"]
        return figures

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
        parts = [
            f"{name} {number(value)}" for name, value in figures.items() if isinstance(value, float)
        ]
        rate = self.timer.rate(engine)
        parts += [f"{rate:,.0f} samples/s"] if rate else []
        return "  ".join([pad(title, 12), *parts, duration(self.timer.seconds())])

    def first_score(self, engine: Engine) -> list[tuple[str, float]]:
        """What the task names first beside the loss, such as accuracy; none if it scores nothing else."""
        scores = [
            (k, v)
            for k, v in engine.scores.items()
            if isinstance(v, float) and k.startswith("val/")
        ]
        return [score for score in scores if score[0] != "val/loss"][:1]

    def run_end(self, engine: Engine) -> None:
        self.stop()

    def close(self, engine: Engine) -> None:
        """Take the bar off the screen, also after a failure."""
        self.stop()

    def stop(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


@dataclass(frozen=True)
class Line:
    """The parts of a progress line, and how wide its bar is; 0 for none."""

    title: str
    bar_width: int
    count: str
    figures: str

    @classmethod
    def fitting(cls, width: int, title: str, count: str, figures: Sequence[str]) -> Line:
        """Return a line of at most `width` columns.

        The count of steps is never cut; the title is where it takes more than the count leaves.
        Figures are left out whole, the last first, and a bar that is too small to be read.
        """
        title = cut(title, max(0, width - cells(count) - 1))
        room = width - cells(title) - cells(count) - 1  # one space between two parts
        shown: list[str] = []
        for figure in figures:
            bar = MIN_BAR + 1 if shown else 0
            if cells("  ".join([*shown, figure])) + 1 + bar <= room:
                shown.append(figure)
        text = "  ".join(shown)
        left = room - 1 - (cells(text) + 1 if text else 0)
        return cls(title, left if left >= MIN_BAR else 0, count, text)

    def drawn(self, share: float, ascii_only: bool = False) -> Text:
        """Return the line with `share` of its bar filled."""
        from rich.text import Text

        mark = "-" if ascii_only else "━"
        filled = min(self.bar_width, round(share * self.bar_width))
        line = Text(self.title, no_wrap=True, overflow="crop", end="")
        if self.bar_width:
            line.append(" ")
            line.append(mark * filled, style="bar.complete")
            line.append((" " if ascii_only else mark) * (self.bar_width - filled), style="bar.back")
        for part in (self.count, self.figures):
            line.append(f" {part}" if part else "")
        return line


def new_bar() -> Bar:
    """Return a display that shows the field `line` of its task."""
    from rich import progress

    class Whole(progress.ProgressColumn):
        """The line as it is."""

        def render(self, task: progress.Task) -> Any:
            return task.fields["line"]

    return progress.Progress(Whole(), transient=True, auto_refresh=False)
