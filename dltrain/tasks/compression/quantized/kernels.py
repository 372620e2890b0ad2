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
    return HAS_KERNELS and x.device.type == "cpu" and not is_recorded()


def is_recorded() -> bool:
    """Return whether the calls of the network are recorded now, to compile or to export it."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


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


MAX_KERNEL_ROWS = 8  # for more the product with a dense weight is faster
KERNEL_OUTPUTS = 16  # of whose multiples the kernel computes


def has_int4_kernel() -> bool:
    """Return whether this build of torch multiplies by int4 weights on a CPU."""
    try:
        return bool(torch.ops.aten._weight_int4pack_mm_for_cpu)
    except AttributeError:
        return False


HAS_INT4_KERNEL = has_int4_kernel()


class PackedInt4:
    """Int4 weights for products in bfloat16: packed for a few rows, and dense for many.

    `integers` (O, I) are 0 to 15, `parameters` (O, I / G, 2) the scale and offset of each group,
    `dense` (O, I) the real weight.
    """

    def __init__(self, integers: Tensor, parameters: Tensor, dense: Tensor) -> None:
        self.dense = dense.to(torch.bfloat16)
        self.group_size = integers.shape[1] // parameters.shape[1]
        self.parameters = parameters.transpose(0, 1).contiguous().to(torch.bfloat16)
        self.packed: Tensor | None = None
        if HAS_INT4_KERNEL and len(integers) % KERNEL_OUTPUTS == 0:
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(integers.int(), 1)
            self.packed = packed

    def __call__(self, x: Tensor) -> Tensor:
        """Return the products (..., O), float32, of x (..., I)."""
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        if self.packed is None or len(rows) > MAX_KERNEL_ROWS:
            product = rows @ self.dense.T
        else:
            product = torch.ops.aten._weight_int4pack_mm_for_cpu(
                rows, self.packed, self.group_size, self.parameters
            )
        return product.float().view(*x.shape[:-1], -1)
