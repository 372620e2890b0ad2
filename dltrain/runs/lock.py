"""The lock of a run's folder: one process at a time writes there.

A lock is free as soon as its process ends, however it ends. A file beside it names the process.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dltrain.errors import UsageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
OWNER = ".lock-owner"
PROBE_SECONDS = 0.2  # longer than `is_locked` of another process takes


def acquire_lock(folder: Path) -> BaseFileLock:
    """Return the lock of `folder`, held by this process.

    Raises UsageError, naming the other process, if another one holds it.
    """
    from filelock import FileLock, Timeout  # importing it takes time that --help does not have

    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=PROBE_SECONDS, poll_interval=PROBE_SECONDS / 10)
    except Timeout as e:
        raise UsageError(
            f"{folder} is being written by a run that is still going ({owner(folder)})"
        ) from e
    try:
        name = f"pid {os.getpid()} on {socket.gethostname()}\n"
        (folder / OWNER).write_text(name, encoding="utf-8")
    except OSError:
        lock.release()
        raise
    return lock


def is_locked(folder: Path) -> bool:
    """Tell if a process holds the lock of `folder`; nothing is written there.

    The lock is tried in its shared form, for a moment. A folder without a lock file is free.
    """
    import fcntl  # Windows has none

    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def owner(folder: Path) -> str:
    """Return which process holds the lock, as far as it is known."""
    with suppress(OSError, ValueError):
        name = (folder / OWNER).read_text(encoding="utf-8").strip()
        if name:
            return name
    return "another process"


def release_lock(lock: BaseFileLock, folder: Path) -> None:
    """Release the lock of `folder`."""
    with suppress(OSError):
        (folder / OWNER).unlink(missing_ok=True)
    lock.release()
