"""Brings batches to the device on which a task computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Feed


class DeviceFeed(Feed):
    """Brings batches (tensors in tuples, lists, dicts) to a device without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def move(self, batch: Any) -> Any:
        """Return one batch on the device."""
        return moved(batch, self.device)

    def batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Return the batches of an epoch on the device."""
        return map(self.move, batches)


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch (tensors in tuples, lists, dicts) on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(moved(value, device) for value in batch)
    return batch
