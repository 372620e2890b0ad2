"""What a sweep prints when a job fails: its overrides, and where its log is."""

from __future__ import annotations

import logging
from collections import deque

from dltrain.sweeps.job import SweepJob
from dltrain.sweeps.trial import Row

log = logging.getLogger("dltrain")
FAILED = ("failed", "diverged")
MAX_LOG_LINES = 12
INDENT = "  | "


def warn_of_failure(job: SweepJob, row: Row, died: bool) -> None:
    """Print why a job failed, its overrides, and its log, if it has one.

    With `died`, its process could not say why: the end of the log is printed, too.
    """
    if not job.log.is_file():  # it ran in this process, which has printed all
        return
    lines = [
        f"job {job.number} {row['status']}: {row['reason']}",
        f"  overrides  {' '.join(job.overrides)}",
        f"  log        {job.log}",
    ]
    if died:
        lines += [f"{INDENT}{line}" for line in last_lines(job)]
    log.warning("\n".join(lines))


def last_lines(job: SweepJob) -> list[str]:
    """Return the last lines of a job's log."""
    try:
        with job.log.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, MAX_LOG_LINES)]
    except OSError:
        return []
