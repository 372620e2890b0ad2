"""The output of a sweep: its table on the screen and the files in its folder."""

from __future__ import annotations

import logging
from pathlib import Path

from dltrain.shell import shell_word
from dltrain.sweeps.results import overview, report_curves, write_rows
from dltrain.sweeps.samplers.sampler import Sampler
from dltrain.sweeps.trial import Row

log = logging.getLogger("dltrain")
RESULTS = "sweep.json"
EVENT_FILES = "events.out.tfevents.*"  # as TensorBoard calls them


class Display:
    """The table of a sweep, on the screen and in its folder."""

    def __init__(self, folder: Path, sampler: Sampler) -> None:
        self.folder = folder
        self.sampler = sampler

    def begin(self) -> None:
        """Print the folder, and the number of trials."""
        keys = ", ".join(self.sampler.swept) or "no key"
        log.info(f"{self.folder}: {self.sampler.total()} jobs over {keys}")

    def show(self, rows: list[Row], row: Row) -> None:
        """Show the end of a trial; `rows` are those of all trials so far."""
        write_rows(self.folder / RESULTS, rows)

    def finish(self, rows: list[Row]) -> None:
        """Print the table of all trials, and where their curves are."""
        swept = self.sampler.swept
        log.info(f"\n{self.folder}\n{overview(rows, swept)}{curves_line(self.folder)}")
        report_curves(self.folder, rows, swept)


def curves_line(sweep: Path) -> str:
    """Return the command that shows the curves of all jobs; "" if none of them has written any."""
    if not any(sweep.rglob(EVENT_FILES)):
        return ""
    return f"\ncurves  tensorboard --logdir {shell_word(str(sweep))}"
