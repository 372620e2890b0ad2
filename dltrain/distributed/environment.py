"""The processes that torchrun started, by their environment; this file imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

ADDRESS = "DLTRAIN_LEADER"  # the environment variable with the port of process 0


def launched_size() -> int:
    """Return the number of processes that torchrun started; 1 without it."""
    if "RANK" not in os.environ or ADDRESS in os.environ:
        return 1
    return int(os.environ.get("WORLD_SIZE", "1"))


def follows() -> bool:
    """Return whether torchrun started this process as another than the first."""
    return launched_size() > 1 and os.environ["RANK"] != "0"


def launch_key() -> str:
    """Return a name of what torchrun runs, the same after it has restarted its processes.

    It is empty without torchrun, or if that restarts nothing.
    """
    if launched_size() == 1 or os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") == "0":
        return ""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if run_id != "none":
        return f"torchrun {run_id}"
    return f"torchrun {os.getppid()} {started(os.getppid())}"


def started(process: int) -> str:
    """Return when a process has started, in ticks; "" where the system does not say it."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]
