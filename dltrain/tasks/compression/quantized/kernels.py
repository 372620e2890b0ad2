"""Products of 8-bit integers on a CPU, by the kernels of oneDNN that torch.compile uses too.

They compute with the integer instructions of the CPU (AVX-512 VNNI where it has them). Other
devices, exported programs and builds of torch without oneDNN compute with the same integers, held
in real numbers; the layers have both paths.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

REAL = torch.float32


def has_kernels() -> bool:
    """Return whether this build of torch has the kernels."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return bool(torch.ops.onednn.qconv_pointwise and torch.ops.onednn.qlinear_pointwise)
    except AttributeError:
        return False


HAS_KERNELS = has_kernels()


def computes_integers(x: Tensor) -> bool:
    """Return whether the kernels take x: on a CPU, and unless the network is being exported."""
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return HAS_KERNELS and x.device.type == "cpu" and not is_recorded


def has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16."""
    try:
        return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    except AttributeError:  # a version of torch without the function
        return False


HAS_BFLOAT16 = has_bfloat16()


def computes_bfloat16(x: Tensor) -> bool:
    """Return whether products of x are faster in bfloat16 than in float32."""
    return HAS_BFLOAT16 and x.device.type == "cpu" and torch.backends.mkldnn.is_available()


class PackedLinear:
    """A weight (O, I), int8, in the kernel's layout, with scales (O,) and a bias (O,) or None."""

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        self.weight = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
        self.scales = scales.float()
        self.zero_points = torch.zeros(len(weight), dtype=torch.int64)
        self.bias = bias

    def __call__(self, x: Tensor, scale: float = 1.0, zero_point: int = 0) -> Tensor:
        """Return the product (..., O), float32, of integers x (..., I), int8 or uint8."""
        arguments = (x, scale, zero_point, self.weight, self.scales, self.zero_points, self.bias)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            *arguments, 1.0, 0, REAL, "none", [], ""
        )
        return product


class PackedConv2d:
    """A convolution in the kernel's layout.

    Its weight (O, I, h, w), int8, has scales (O,) and a bias (O,) or None. `settings` are stride,
    padding, dilation and groups, `source` the scale and zero point of the inputs, `output` those of
    outputs in uint8, None for real outputs.
    """

    def __init__(
        self,
        weight: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        settings: tuple[Any, Any, Any, int],
        source: tuple[float, int],
        output: tuple[float, int] | None,
        relu: bool,
    ) -> None:
        scales = scales.float()
        self.settings = settings
        self.source = source
        self.weight = torch.ops.onednn.qconv_prepack(
            weight.contiguous(), scales, *source, *settings, None
        )
        zero_points = torch.zeros(len(weight), dtype=torch.int64)
        self.parameters = (scales, zero_points, bias)
        self.output: tuple[float, int, torch.dtype] = (1.0, 0, REAL)
        if output is not None:
            self.output = (*output, torch.uint8)
        self.activation = "relu" if relu else "none"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the feature maps of integers x (B, I, H, W), uint8."""
        maps: Tensor = torch.ops.onednn.qconv_pointwise(
            x,
            *self.source,
            self.weight,
            *self.parameters,
            *self.settings,
            *self.output,
            self.activation,
            [],
            "",
        )
        return maps
