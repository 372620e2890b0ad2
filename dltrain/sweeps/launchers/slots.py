"""The places in which jobs run side by side on this machine: their GPUs, and their CPU threads."""

from __future__ import annotations

import os

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


def gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get(VISIBLE_GPUS)
    if visible is None:
        return [str(number) for number in range(count)]
    names = [name.strip() for name in visible.split(",")]
    return names[:count]  # CUDA ignores what follows an unknown name


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if "sched_getaffinity" in dir(os):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment_of_slot(slot: int, names: list[str]) -> dict[str, str]:
    """Return the variables of the jobs in a slot: one GPU for each slot, in turn."""
    if not names:
        return {}
    return {VISIBLE_GPUS: names[slot % len(names)]}


def environment_of_jobs(jobs: int) -> dict[str, str]:
    """Return the variables of all jobs: the threads of each, so that they share the cores.

    A single job has all cores, as a run that is started alone. The user's own setting stays.
    """
    if jobs == 1 or THREADS in os.environ:
        return {}
    return {THREADS: str(max(1, cores() // jobs))}
