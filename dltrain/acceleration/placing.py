"""Decides where a data set is kept: in the memory of the device, or in the host's."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

log = logging.getLogger("dltrain")
DATA_FRACTION = 0.5  # of a device's free memory that a data set may take
GIB = 2**30


def fitting_device(
    device: torch.device, size: int, free_bytes: Callable[[torch.device], int] | None = None
) -> torch.device:
    """Return `device` if a data set of `size` bytes fits there, else the host.

    `free_bytes` returns the free memory of a device; by default that of a CUDA device, and no limit
    for others, which share the host's memory.
    """
    free = (free_bytes or free_memory)(device)
    if size <= DATA_FRACTION * free:
        return device
    log.info(
        f"the data set of {size / GIB:.1f} GiB stays in the host's memory, because {device.type} "
        f"has {free / GIB:.1f} GiB free; batches are copied ahead of their use "
        "(device.data=device keeps it on the device)"
    )
    return torch.device("cpu")


def free_memory(device: torch.device) -> int:
    """Return the free memory of a device in bytes, as far as it has a memory of its own."""
    if device.type != "cuda":
        return 2**63 - 1
    free, _ = torch.cuda.mem_get_info(device)
    return free
