"""Shows the progress of a run: a live bar in a terminal, and a line for each epoch."""

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
from dltrain.console import encodable
from dltrain.engine import Callback, Engine
from dltrain.host import current_host
from dltrain.report.figures import shown_as
from dltrain.report.text import duration, number
from dltrain.terminal import ELLIPSIS, can_redraw, cells, cut, pad
from dltrain.types import PositiveFloat

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.text import Text

log = logging.getLogger("dltrain")
MIN_BAR_CELLS = 5
TITLE_CELLS = 12


class Progress(Callback):
    """Shows epoch, loss, watched metric, samples per second and time left.

    In a terminal, and in a notebook with ipywidgets, a bar is redrawn every `refresh` seconds; a
    pipe gets no escape codes.
    """

    name = "progress"
    draws = False

    def __init__(self, log: MetricsLog, timer: Timer, refresh: PositiveFloat = 0.25) -> None:
        self.metrics = log
        self.timer = timer
        self.refresh = refresh
        self.live = current_host().shows_progress and can_redraw()
        self.bar: Bar | None = None
        self.due = 0.0  # the time of the next redraw

    def step_end(self, engine: Engine) -> None:
        if self.live and time.perf_counter() >= self.due:
            self.due = time.perf_counter() + self.refresh
            with rng.preserved():  # rich draws from Python's generator when it is imported
                self.draw(engine)

    def draw(self, engine: Engine) -> None:
        """Redraw the bar with as many figures as the terminal has room for."""
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
            self.bar.console.encoding,
        )
        share = engine.position / total if total else 0.0
        drawn = line.drawn(share, ascii_only=self.bar.console.options.ascii_only)
        self.bar.update(self.bar.task_ids[0], total=total, completed=engine.position, line=drawn)
        self.bar.refresh()

    def figures(self, engine: Engine, total: int | None) -> list[str]:
        """Return the figures beside the bar, the most important first."""
        loss = self.metrics.latest.get("train/loss")
        figures = []
        if loss is not None:
            figures.append(f"loss {number(loss)}")
        for name in shown_as(engine.task, engine.stage.watch):
            watched = self.metrics.latest.get(name)
            if watched is not None:
                figures.append(f"{name} {number(watched)}")
        rate = self.timer.rate(engine)
        if rate and total and engine.stage.epochs < sys.maxsize:
            seconds_left = max(0, samples_left(engine)) / rate
            figures += [f"{duration(seconds_left)} left", f"{rate:,.0f} samples/s"]
        return figures

    def epoch_end(self, engine: Engine) -> None:
        self.stop()
        finished = engine.epoch if engine.position == 0 else engine.epoch + 1
        log.info(self.line(engine, self.title(engine, finished)))

    def title(self, engine: Engine, epoch: int) -> str:
        """Return the name of the stage and the epoch, and their number if it is limited."""
        title = f"{engine.stage.name} {epoch}"
        if engine.stage.epochs < sys.maxsize:
            title += f"/{engine.stage.epochs}"
        return title

    def line(self, engine: Engine, title: str) -> str:
        """Return the line of a finished epoch: its mean training loss and its evaluation."""
        figures: dict[str, Any] = {"train/loss": self.metrics.epoch_means.get("loss")}
        for name in ("val/loss", *shown_as(engine.task, engine.stage.watch)):
            figures[name] = engine.scores.get(name)
        if engine.stage.watch == "val/loss":
            figures |= dict(self.first_score(engine))
        parts = [
            f"{name} {number(value)}" for name, value in figures.items() if isinstance(value, float)
        ]
        rate = self.timer.rate(engine)
        if rate:
            parts.append(f"{rate:,.0f} samples/s")
        return "  ".join([pad(title, TITLE_CELLS), *parts, duration(self.timer.seconds())])

    def first_score(self, engine: Engine) -> list[tuple[str, float]]:
        """Return the task's first metric besides the loss, such as accuracy, if it has one."""
        for name, value in engine.scores.items():
            if isinstance(value, float) and name.startswith("val/") and name != "val/loss":
                return [(name, value)]
        return []

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


def samples_left(engine: Engine) -> int:
    """Return how many samples the stage will still train on."""
    batches = engine.stage.batches
    epochs_left = engine.stage.epochs - engine.epoch
    return epochs_left * batches.samples - engine.position * batches.batch_size


@dataclass(frozen=True)
class Line:
    """The parts of a progress line, and the width of its bar in cells; 0 for no bar."""

    title: str
    bar_width: int
    count: str
    figures: str

    @classmethod
    def fitting(
        cls, width: int, title: str, count: str, figures: Sequence[str], encoding: str = "utf-8"
    ) -> Line:
        """Return a line of at most `width` cells, of characters that `encoding` has.

        The count of steps is never cut; the title is, if it needs more than the rest of the line.
        Whole figures are left out, the last one first, and a bar that is too small to be read.
        """
        title = encodable(title, encoding)
        title = cut(title, max(0, width - cells(count) - 1), encodable(ELLIPSIS, encoding))
        room = width - cells(title) - cells(count) - 1  # one space between two parts
        shown: list[str] = []
        for figure in figures:
            bar = MIN_BAR_CELLS + 1 if shown else 0
            if cells("  ".join([*shown, figure])) + 1 + bar <= room:
                shown.append(figure)
        text = "  ".join(shown)
        left = room - 1 - (cells(text) + 1 if text else 0)
        return cls(title, left if left >= MIN_BAR_CELLS else 0, count, text)

    def drawn(self, share: float, ascii_only: bool = False) -> Text:
        """Return the line with `share` of its bar filled."""
        from rich.text import Text

        mark = "-" if ascii_only else "━"
        background = " " if ascii_only else mark
        filled = min(self.bar_width, round(share * self.bar_width))
        line = Text(self.title, no_wrap=True, overflow="crop", end="")
        if self.bar_width:
            line.append(" ")
            line.append(mark * filled, style="bar.complete")
            line.append(background * (self.bar_width - filled), style="bar.back")
        for part in (self.count, self.figures):
            if part:
                line.append(f" {part}")
        return line


def new_bar() -> Bar:
    """Return a display that shows the field `line` of its task."""
    from rich import progress

    class WholeLine(progress.ProgressColumn):
        """The whole line."""

        def render(self, task: progress.Task) -> Any:
            return task.fields["line"]

    return progress.Progress(WholeLine(), transient=True, auto_refresh=False)
