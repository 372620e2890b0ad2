"""How much memory there is for data."""

from __future__ import annotations

from pathlib import Path

UNKNOWN = 4 * 2**30  # bytes that are free where the system does not say


def free_memory() -> int:
    """Bytes that can be taken without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return UNKNOWN
    return next(
        (1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), UNKNOWN
    )
