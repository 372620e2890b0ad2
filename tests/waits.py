"""Finds waits for a device without one: torch's `meta` device has shapes and no values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class WaitError(AssertionError):
    """A copy that waits for the device."""


class NoBlockingCopies(TorchDispatchMode):
    """Fails at a copy from the host to the `meta` device that is not non_blocking.

    Such a copy waits on a CUDA device. Reading a value of a `meta` tensor fails by itself.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in COPIES and isinstance(result, Tensor) and result.device == META:
            source = args[-1] if func is COPIES[0] else args[1]
            waits = not (kwargs.get("non_blocking") or (func is COPIES[1] and args[2:] == (True,)))
            if source.device.type == "cpu" and waits:
                raise WaitError(f"a copy of {tuple(source.shape)} from the host waits")
        return result
