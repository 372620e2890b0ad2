"""The message about a job whose process died: its overrides, and the end of its log."""

from __future__ import annotations

import logging
from collections import deque

from dltrain.sweeps.jobs.job import SweepJob

log = logging.getLogger("dltrain")
MAX_LOG_LINES = 12
MAX_READ_LINES = 500
MAX_LINE_CHARS = 200
FAULT = "Current thread"  # begins what faulthandler writes, the innermost frame first


def print_last_words(job: SweepJob) -> None:
    """Print the overrides of a job, and the last lines of its log, if it has one."""
    lines = [f"  overrides  {' '.join(job.overrides)}"]
    lines += [f"  | {line}" for line in last_lines(job)]
    log.warning("\n".join(lines))


def last_lines(job: SweepJob) -> list[str]:
    """Return the last lines of a job's log, or where it stood when it died of a fault."""
    try:
        with job.log.open(encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n")[:MAX_LINE_CHARS] for line in deque(file, MAX_READ_LINES)]
    except OSError:
        return []
    faults = [index for index, line in enumerate(lines) if line.startswith(FAULT)]
    begin = faults[-1] if faults else -MAX_LOG_LINES
    return lines[begin:][:MAX_LOG_LINES]
