"""The choice of torch's fused optimizer kernels by the device of the parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices


def fused_if_available(
    params: Iterable[Tensor | dict[str, Any]], takes_divided: bool = True
) -> bool | None:
    """Return True if torch has fused kernels for the device of all parameters.

    Otherwise return None: torch then chooses by itself between one call for all parameters and one
    for each. `params` are tensors, or groups of them as dicts. `takes_divided` says whether the
    kernel takes parameters that are divided among processes (DTensor).
    """
    fused_devices = _get_fused_kernels_supported_devices()
    for param in flat(params):
        is_divided = type(param) not in (Tensor, nn.Parameter)
        if param.device.type not in fused_devices or (is_divided and not takes_divided):
            return None
    return True


def flat(params: Iterable[Tensor | dict[str, Any]]) -> list[Tensor]:
    """Return the parameters of all groups."""
    tensors: list[Tensor] = []
    for entry in params:
        if isinstance(entry, dict):
            tensors.extend(entry["params"])
        else:
            tensors.append(entry)
    return tensors
