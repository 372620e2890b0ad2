"""The message about a job whose process died: its overrides, and the end of its log."""

from __future__ import annotations

import logging
from collections import deque

from dltrain.sweeps.job import SweepJob

log = logging.getLogger("dltrain")
MAX_LOG_LINES = 12


def print_last_words(job: SweepJob) -> None:
    """Print the overrides of a job, and the last lines of its log, if it has one."""
    lines = [f"  overrides  {' '.join(job.overrides)}"]
    lines += [f"  | {line}" for line in last_lines(job)]
    log.warning("\n".join(lines))


def last_lines(job: SweepJob) -> list[str]:
    """Return the last lines of a job's log."""
    try:
        with job.log.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, MAX_LOG_LINES)]
    except OSError:
        return []
