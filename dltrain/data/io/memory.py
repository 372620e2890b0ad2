"""Asks the system how much memory is free."""

from __future__ import annotations

from pathlib import Path

UNKNOWN_FREE_BYTES = 4 * 2**30  # where the system does not say
BYTES_PER_UNIT = 1024  # of /proc/meminfo


def free_memory() -> int:
    """Return the bytes that can be used without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return UNKNOWN_FREE_BYTES
    for line in lines:
        if line.startswith("MemAvailable:"):
            return BYTES_PER_UNIT * int(line.split()[1])
    return UNKNOWN_FREE_BYTES
