"""The pictures and texts of a run as files in its folder."""

from __future__ import annotations

import logging
import textwrap
from typing import Any

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.files import replace_file
from dltrain.report.drawing import as_png, draw
from dltrain.report.run_curves import draw_run
from dltrain.runs.folder import METRICS, RunFolder, clean
from dltrain.types import Text

log = logging.getLogger("dltrain")
FOLDER = "pictures"
CURVES = "curves"
MAX_LISTED = 4  # files in the closing table


class Pictures(Callback):
    """Writes `pictures/` in the run's folder at the end of a run, with or without TensorBoard.

    `curves.png` shows the losses and the watched metric over the steps. The other files hold the
    pictures (PNG) and texts of the test, or of the last evaluation where there is no test, and what
    explains them. Those of an earlier stage have its name before their own. If a file cannot be
    drawn or written, that is logged once and the run continues. A resumed run replaces the files.
    """

    name = "pictures"

    def __init__(self, run: RunFolder, log: MetricsLog) -> None:
        self.run = run
        self.stage = ""  # the stage of `scores`
        self.scores: dict[str, Any] = {}  # pictures of that stage that are not written yet
        self.extras: dict[str, Any] = {}  # pictures that other callbacks show
        self.written: list[str] = []
        self.failed = False
        log.subscribe(self.note_extras)

    def note_extras(self, engine: Engine, record: dict[str, Any]) -> None:
        """Keep the pictures that other callbacks pass to the log."""
        for name, value in record.items():
            if is_shown(value):
                self.extras[name] = value

    def stage_end(self, engine: Engine) -> None:
        """Keep the pictures of the last evaluation, and write those of the stage before."""
        self.write_all(self.scores, f"{self.stage}_")
        self.stage = engine.stage.name
        self.scores = {}
        for name, value in engine.scores.items():
            if is_shown(value):
                self.scores[without_split(name)] = value

    def test_end(self, engine: Engine) -> None:
        """Write the files of the run."""
        self.write_curves(engine)
        tested = {without_split(name): value for name, value in engine.test_scores.items()}
        self.write_all({**self.scores, **tested, **self.extras})

    def write_curves(self, engine: Engine) -> None:
        """Write the learning curves."""
        try:
            pixels = draw_run(self.run.folder / METRICS, engine.stage.watch)
            if pixels is not None:
                self.save(f"{CURVES}.png", as_png(pixels))
        except Exception as e:
            self.report(CURVES, e)

    def write_all(self, values: dict[str, Any], prefix: str = "") -> None:
        """Write the pictures and texts among `values`, each to a file of its name."""
        for name, value in values.items():
            try:
                self.write(clean(f"{prefix}{name}"), value)
            except Exception as e:  # of a value of the user's, or of the disk; the run is trained
                self.report(name, e)

    def write(self, stem: str, value: Any) -> None:
        """Write a picture or a text; other values are ignored."""
        if isinstance(value, Text):
            self.save(f"{stem}.txt", f"{textwrap.dedent(value.markdown)}\n".encode())
            return
        pixels = draw(value)
        if pixels is not None:
            self.save(f"{stem}.png", as_png(pixels))

    def save(self, name: str, content: bytes) -> None:
        """Replace a file in the folder, which is made when it is first needed."""
        folder = self.run.folder / FOLDER
        folder.mkdir(exist_ok=True)
        replace_file(folder / name, content)
        self.written.append(name)

    def report(self, name: str, error: Exception) -> None:
        """Log the first file that could not be written, and why."""
        if not self.failed:
            reason = str(error)
            if isinstance(error, OSError):
                reason = error.strerror or reason
            place = self.run.folder / FOLDER
            log.warning(f"{place}: {name} cannot be drawn or written ({reason})")
        self.failed = True

    def summary_rows(self) -> list[tuple[str, str]]:
        """Return the folder and the first files in it."""
        if not self.written:
            return []
        names = list(dict.fromkeys(self.written))
        shown = ", ".join(names[:MAX_LISTED])
        if len(names) > MAX_LISTED:
            shown += f" and {len(names) - MAX_LISTED} more"
        return [(FOLDER, f"{FOLDER}/ in the run: {shown}")]


def is_shown(value: Any) -> bool:
    """Return whether a result of an evaluation is a picture, a table or a text."""
    return not isinstance(value, int | float | str)


def without_split(name: str) -> str:
    """Return the name of a result without its split: confusion for val/confusion."""
    return name.partition("/")[2] or name
