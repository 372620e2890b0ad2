"""The output of a job in a process of its own, which goes to the job's log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dltrain.console import STDERR, STDOUT
from dltrain.screen import screen_messages
from dltrain.sweeps.jobs.job import SweepJob


@contextmanager
def logged_output(job: SweepJob) -> Iterator[None]:
    """Append all that the process prints in the block to the log file of a job.

    That includes what extensions and child processes print. Each attempt begins with a line that
    has the time and the overrides.
    """
    flush()
    before = [os.dup(STDOUT), os.dup(STDERR)]
    output = opened(job.log)
    os.dup2(output, STDOUT)
    os.dup2(output, STDERR)
    os.close(output)
    try:
        print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(job.overrides)}", flush=True)
        with screen_messages():
            yield
    finally:
        flush()
        for saved, descriptor in zip(before, (STDOUT, STDERR), strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)


def opened(path: Path) -> int:
    """Return a descriptor that appends to a file, or drops everything if that cannot be opened."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # a full disk: the job still runs
        return os.open(os.devnull, os.O_WRONLY)


def flush() -> None:
    """Write what the standard streams hold."""
    sys.stdout.flush()
    sys.stderr.flush()
