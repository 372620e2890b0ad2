"""Transfers from the host to a device that nothing waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` of the host on `device`, without waiting for what the device computes.

    CUDA copies ordinary memory into a buffer of its own before the call returns, so `values` may
    be freed or changed at once. Metal (mps) promises no such thing: there the call waits.
    """
    return values.to(device, non_blocking=device.type != "mps")


def sent_like(values: Tensor, like: Tensor) -> Tensor:
    """Return `values` of the host with the type and on the device of `like`; see `sent`."""
    return sent(values.to(like.dtype), like.device)
