"""The output of a sweep: its tables on the screen and the files in its folder."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from dltrain.host import current_host
from dltrain.report.text import counted_noun
from dltrain.runs.comparison.groups import OVER
from dltrain.runs.identity import FOLD_KEY
from dltrain.shell import setting, shell_word
from dltrain.sweeps.jobs.job import INTERRUPTED, is_over
from dltrain.sweeps.samplers.sampler import Sampler
from dltrain.sweeps.summary.best import best_lines, best_outcome
from dltrain.sweeps.summary.csv_file import RESULTS_CSV, write_results_csv
from dltrain.sweeps.summary.front import front_lines, write_front
from dltrain.sweeps.summary.hparams import has_events, write_experiment
from dltrain.sweeps.summary.importance import Importance, importance_of
from dltrain.sweeps.summary.learning_curves import report_curves
from dltrain.sweeps.summary.live import LiveScreen
from dltrain.sweeps.summary.progress import (
    SweepClock,
    counts_line,
    ended_line,
    failed_lines,
)
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.summary.tables import best_so_far, has_failed, overview, shortened
from dltrain.sweeps.trial import Row, Trial
from dltrain.terminal import can_redraw, cut, screen_width

log = logging.getLogger("dltrain")
LIVE_ROWS = 10  # of the best trials so far
LIVE_OTHER_LINES = 4  # of the screen: counts, header, the line of the cursor
REDRAW_SECONDS = 1.0


class Display:
    """The tables of a sweep, on the screen and in its folder.

    On a terminal a table of the best trials so far is redrawn while jobs run; elsewhere each trial
    that has ended gets a line. If `jobs_print`, jobs print on the same screen, and the table is
    printed after each of them.
    """

    def __init__(self, folder: Path, sampler: Sampler, jobs_print: bool = False) -> None:
        self.folder = folder
        self.sampler = sampler
        self.jobs_print = jobs_print
        self.rows: list[Row] = []  # without those of earlier attempts that will be repeated
        self.to_repeat: set[int] = set()
        self.attempts: dict[int, int] = {}
        self.running: set[int] = set()
        self.clock = SweepClock()
        self.live: LiveScreen | None = None
        self.drawn_seconds = 0.0

    def begin(self, trials: dict[int, Trial]) -> None:
        """Print the folder and the number of trials; `trials` are those of an earlier attempt."""
        self.attempts = {number: trial.attempts for number, trial in trials.items()}
        self.to_repeat = {number for number, trial in trials.items() if not trial.is_done}
        self.rows = [trial.row for trial in trials.values() if trial.is_done and trial.row]
        keys = ", ".join(self.sampler.swept) or "no key"
        jobs = counted_noun(self.sampler.total(), "job")
        log.info(f"{self.folder}: {jobs} over {keys}")
        if current_host().shows_progress and can_redraw() and not self.jobs_print:
            self.live = LiveScreen()

    def started(self, trial: Trial) -> None:
        """Show that a job starts."""
        self.running.add(trial.number)
        self.to_repeat.discard(trial.number)
        self.attempts[trial.number] = trial.attempts
        if self.live is not None:
            self.draw(self.live)
        else:
            blank = "\n" if self.jobs_print else ""
            log.info(f"{blank}trial {trial.number} starts  {' '.join(trial.overrides)}")

    def ended(self, rows: list[Row], row: Row) -> None:
        """Show the end of a trial; `rows` are those of all trials so far."""
        self.to_repeat.discard(row["job"])
        self.rows = [one for one in rows if one["job"] not in self.to_repeat]
        if row["job"] in self.running:  # otherwise it ended before this process began
            self.running.discard(row["job"])
            self.clock.ended += 1
        write_results_csv(self.folder, rows, self.sampler.swept, self.attempts)
        if self.live is None or has_failed(row):
            log.info(self.line_of(row))
        if self.live is not None:
            self.draw(self.live)
        elif self.jobs_print and current_host().shows_progress and can_redraw():
            log.info(self.so_far(screen_width(), LIVE_ROWS))

    def waiting(self) -> None:
        """Redraw the table, which has the time left, if it is due."""
        is_due = time.monotonic() - self.drawn_seconds > REDRAW_SECONDS
        if self.live is not None and is_due:
            self.draw(self.live)

    def draw(self, live: LiveScreen) -> None:
        """Redraw the table of the best trials so far."""
        self.drawn_seconds = time.monotonic()
        width, height = live.size()
        count = max(1, min(LIVE_ROWS, height - LIVE_OTHER_LINES))
        live.show(self.so_far(width, count, live.encoding))

    def line_of(self, row: Row) -> str:
        """Return the line of a trial that has ended."""
        return ended_line(
            self.folder,
            self.rows,
            row,
            self.sampler.total(),
            self.sampler.swept,
            self.criteria(self.rows),
        )

    def so_far(self, width: int | None, count: int, encoding: str = "utf-8") -> str:
        """Return counts and the best `count` trials so far."""
        criteria = self.criteria(self.rows)
        total = self.sampler.total()
        counts = counts_line(self.rows, len(self.running), total, self.clock)
        if width is not None:
            counts = cut(counts, width)
        swept = self.sampler.swept
        table = best_so_far(self.rows, swept, criteria, count, width, encoding)
        return "\n".join(filter(None, [table, counts]))

    def close(self) -> None:
        """Take the table off the screen, also after an error."""
        if self.live is not None:
            self.live.close()
            self.live = None

    def criteria(self, rows: list[Row]) -> list[Criterion]:
        """Return by what the trials of the sweep are compared."""
        return self.sampler.criteria(rows)

    def finish(self, rows: list[Row]) -> dict[str, Any]:
        """Print the table of all trials, the best one, and where results and curves are.

        Return what --json adds to the rows: the best trial or, of several objectives, the Pareto
        front and its picture; and the importance of the swept keys.
        """
        criteria = self.criteria(rows)
        if not self.clock.ended:  # a resume found no trial to run
            write_results_csv(self.folder, rows, self.sampler.swept, self.attempts)
        importance = self.importance(rows, criteria)
        lines = [f"\n{self.folder}", *self.table_lines(rows, criteria)]
        lines += failed_lines(self.folder, rows)
        lines += front_lines(rows, self.sampler.swept, criteria)
        lines += self.best_lines(rows, criteria)
        if importance is not None:
            lines += importance.lines()
        front = write_front(self.folder, rows, criteria)
        lines += [f"front   {path}" for path in front.values()]
        lines += self.file_lines()
        lines += self.resume_lines(rows)
        log.info("\n".join(lines))
        if has_events(self.folder):
            write_experiment(self.folder, rows, criteria)
        report_curves(self.folder, rows, self.sampler.swept)
        return {
            "best": best_outcome(rows, criteria),
            "importance": dict(importance.shares) if importance is not None else {},
            **front,
        }

    def best_lines(self, rows: list[Row], criteria: list[Criterion]) -> list[str]:
        """Return lines on the best trial; runs that differ only in their fold have no best one."""
        swept = set(self.sampler.swept)
        if FOLD_KEY in swept and swept <= set(OVER):
            return ["no best trial: the runs differ only in their fold or seed; their mean counts"]
        return best_lines(rows, criteria)

    def resume_lines(self, rows: list[Row]) -> list[str]:
        """Return the command that completes the sweep, with the number of trials left, if any.

        Plugins are in it, since a resume has to name them again.
        """
        left = self.sampler.total() - sum(map(is_over, rows))
        if left <= 0:
            return []
        command = f"dltrain resume {shell_word(str(self.folder))}"
        plugins = self.sampler.first.config["plugins"]
        if plugins:
            command += f" {setting('plugins', plugins)}"
        return [f"continue {command}  ({counted_noun(left, 'trial')} left)"]

    def importance(self, rows: list[Row], criteria: list[Criterion]) -> Importance | None:
        """Return the importance of the swept keys; None if the sweep was interrupted."""
        if any(row["status"] == INTERRUPTED for row in rows):
            return None
        return importance_of(rows, self.sampler.swept, criteria)

    def table_lines(self, rows: list[Row], criteria: list[Criterion]) -> list[str]:
        """Return the table at the end, and how many trials are in results.csv only."""
        shown = shortened(rows, criteria)
        lines = [overview(shown, self.sampler.swept, criteria, screen_width())]
        if len(shown) < len(rows):
            others = counted_noun(len(rows) - len(shown), "further trial")
            lines.append(f"  {others} in {self.folder / RESULTS_CSV}")
        return lines

    def file_lines(self) -> list[str]:
        """Return lines that name the table as a file, and the command that shows the curves."""
        lines = [f"results {self.folder / RESULTS_CSV}"]
        if has_events(self.folder):
            lines.append(f"curves  tensorboard --logdir {shell_word(str(self.folder))}")
        return lines
