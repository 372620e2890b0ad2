"""TF32: matrix products and convolutions on NVIDIA GPUs with factors of 10 bits of mantissa."""

from __future__ import annotations

import torch

AMPERE = (8, 0)  # the first compute capability with TF32


def has_tf32(device: torch.device) -> bool:
    """Return whether a device can round to TF32."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= AMPERE


def round_products(to_tf32: bool) -> None:
    """Round the factors of matrix products to TF32, or not, as after another run of the process.

    Convolutions round to TF32 in any case, which is torch's default. This older setting of torch
    sets the newer ones as well; torch's compiler raises if they say different things.
    """
    precision = {True: "high", False: "highest"}[to_tf32]
    torch.set_float32_matmul_precision(precision)
