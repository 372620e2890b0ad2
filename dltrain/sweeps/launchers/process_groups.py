"""Groups of processes: a job with all that it has started, named by the job's first process."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Blocked in the fork server, so that a job gets those that arrive before it is ready for them."""


def group_lives(group: int) -> bool:
    """Tell if a process of a group is left."""
    try:
        os.killpg(group, 0)
    except OSError as e:
        return e.errno == errno.EPERM
    return True


def kill_group(group: int) -> None:
    """Kill what is left of a group."""
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)
