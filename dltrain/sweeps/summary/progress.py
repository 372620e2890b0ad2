"""The progress of a sweep: a line for each ended trial, counts, and the time that is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dltrain.report.text import duration
from dltrain.runs.folder import FINISHED
from dltrain.sweeps.jobs.job import JOB_FILES
from dltrain.sweeps.names import values_by_key
from dltrain.sweeps.summary.csv_file import RESULTS_CSV
from dltrain.sweeps.summary.ranking import Criterion, best_rows
from dltrain.sweeps.summary.tables import first_line, has_failed, time_of
from dltrain.sweeps.trial import Row

MAX_FAILED = 20  # lines at the end of a sweep


class SweepClock:
    """The time that a sweep has taken since this process runs it, and an estimate of the rest."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.ended = 0  # trials that have ended since then

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.start

    def seconds_left(self, trials_left: int) -> float | None:
        """Return the expected seconds for the trials that are left; None before one has ended.

        Trials that run side by side count, since their ends come more often.
        """
        if not self.ended:
            return None
        return self.seconds() / self.ended * trials_left


def ended_line(
    sweep: Path,
    rows: Sequence[Row],
    row: Row,
    total: int,
    swept: Sequence[str],
    criteria: Sequence[Criterion],
) -> str:
    """Return the line of a trial that has ended, with the best value so far."""
    parts = [
        f"[{len(rows)}/{total}] trial {row['job']} {row['status']}{reason_suffix(row)}",
        figures_text(rows, row, criteria),
        seconds_text(row),
        swept_settings(row, swept),
        log_of(sweep, row),
    ]
    return "  ".join(filter(None, parts))


def reason_suffix(row: Row) -> str:
    """Return what follows the status: why a trial did not complete; "" without a reason."""
    reason = first_line(row)
    if reason.startswith(row["status"]):
        return reason.removeprefix(row["status"])
    return f": {reason}" if reason else ""


def seconds_text(row: Row) -> str:
    """Return how long a trial took; "" if it failed before its end."""
    return time_of(row) if "seconds" in row else ""


def figures_text(rows: Sequence[Row], row: Row, criteria: Sequence[Criterion]) -> str:
    """Return the deciding metrics of a trial, and the best trial so far if there is one."""
    figures = [f"{one.metric} {one.text(row)}" for one in criteria if one.text(row)]
    text = ", ".join(figures)
    best = best_rows(rows, criteria[:1])
    if not text or not best:
        return text
    return f"{text} (best so far {criteria[0].text(best[0])}, trial {best[0]['job']})"


def swept_settings(row: Row, swept: Sequence[str]) -> str:
    """Return the swept values of a trial as they are typed."""
    values = values_by_key(row["overrides"])
    return " ".join(f"{key}={values[key]}" for key in swept if key in values)


def log_of(sweep: Path, row: Row) -> str:
    """Return where the messages of a trial that failed are; "" for others, and without a file."""
    path = sweep / JOB_FILES / f"{row['job']}.log"
    if not has_failed(row) or not path.is_file():
        return ""
    return f"log {path}"


def failed_lines(sweep: Path, rows: Sequence[Row]) -> list[str]:
    """Return a line for each trial that failed and has a log, with the reason."""
    failed = [row for row in rows if log_of(sweep, row)]
    lines = []
    for row in failed[:MAX_FAILED]:
        why = f"{row['status']}{reason_suffix(row)}"
        lines.append(f"trial {row['job']} {why}  {log_of(sweep, row)}")
    if len(failed) > MAX_FAILED:
        lines.append(f"and {len(failed) - MAX_FAILED} more that failed; {RESULTS_CSV} has them all")
    return lines


def counts_line(rows: Sequence[Row], running: int, total: int, clock: SweepClock) -> str:
    """Return how many trials have ended, and how, with the time passed and left."""
    statuses = Counter(row["status"] for row in rows)
    completed = sum(statuses.pop(status, 0) for status in FINISHED)
    others = [f"{count} {status}" for status, count in sorted(statuses.items())]
    parts = [
        f"{completed}/{total} completed",
        f"{running} running" if running else "",
        *others,
        f"{duration(clock.seconds())} elapsed",
        left_text(clock.seconds_left(total - len(rows))),
    ]
    return ", ".join(filter(None, parts))


def left_text(seconds: float | None) -> str:
    """Return the expected time; "" if it is unknown or over."""
    return f"about {duration(seconds)} left" if seconds else ""
