"""Layers with int8 weights: linear, convolution, embedding, and what lies between them.

Each holds plain tensors, so that a checkpoint is one of plain tensors: `weight_int8` and
`weight_scale`, and for inputs of a fixed range `input_scale` and `input_zero_point`. A convolution
with `output_scale` hands integers to the next layer; one with `relu` includes the activation.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.tasks.compression.quantized.kernels import (
    PackedConv2d,
    PackedLinear,
    computes_integers,
    is_recorded,
)
from dltrain.tasks.compression.quantized.packing import PackingLayer
from dltrain.tasks.compression.quantized.rounding import (
    SMALLEST_SCALE,
    WEIGHT_BOUND,
    channel_scales,
    int8_weight,
    real_weight,
    uint8_steps,
)

MIDDLE = 128  # of uint8
MIN_ROUNDED_WEIGHTS = 2**17  # of a linear layer whose inputs are rounded as they come
Range = tuple[Tensor, Tensor]
"""The scale () and the zero point () of activations in uint8."""


class Int8Layer(PackingLayer):
    """A layer with an int8 weight (O, ...), a scale for each output, and a bias (O,) or None."""

    weight_int8: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales = channel_scales(weight)
        self.register_buffer("weight_int8", int8_weight(weight, scales))
        self.register_buffer("weight_scale", scales)
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())

    @property
    def weight(self) -> Tensor:
        """The weight (O, ...) as real numbers."""
        return real_weight(self.weight_int8, self.weight_scale)

    def real_parameters(self) -> list[Tensor]:
        """Return the weight and the bias, if there is one, as real numbers."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def extra_repr(self) -> str:
        """Return the shape of the weight, for the printed network."""
        return f"{tuple(self.weight_int8.shape)}, int8"


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors x (..., I) as integers in -127..127, still real, and their scales (..., 1).

    Each vector has its own scale, so no prediction depends on the other samples of its batch.
    """
    scales = (x.abs().amax(-1, keepdim=True) / WEIGHT_BOUND).clamp_min(SMALLEST_SCALE)
    return (x / scales).round_(), scales


class DynamicLinear(Int8Layer):
    """A linear layer W (O, I) in int8, whose inputs are rounded as they come.

    Each input vector (..., I) is rounded to int8 by its own largest number. A small layer computes
    with real inputs, because rounding them takes longer than the product.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b (..., O) of x (..., I)."""
        if self.weight_int8.numel() < MIN_ROUNDED_WEIGHTS:
            return self._by_real_weights(x.float())
        steps, scales = quantize_rows(x.float())
        if computes_integers(x):
            if self.packed is None:
                self.packed = PackedLinear(self.weight_int8, self.weight_scale, None)
            # the kernels are slow for signed inputs
            product = self.packed((steps + MIDDLE).to(torch.uint8), 1.0, MIDDLE).mul_(scales)
        else:
            product = F.linear(steps, self.weight) * scales
        return product if self.bias is None else product + self.bias

    def _by_real_weights(self, x: Tensor) -> Tensor:
        """Return W x + b (..., O) of x (..., I), all real; the real weights are kept."""
        if is_recorded():
            return F.linear(x, self.weight, self.bias)
        if self.packed is None:
            self.packed = self.weight
        return F.linear(x, self.packed, self.bias)


class StaticLayer(Int8Layer):
    """An int8 layer whose inputs have a fixed range, known from calibration.

    They are real numbers, or integers that a layer before it handed over.
    """

    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, inputs: Range) -> None:
        super().__init__(weight, bias)
        self.register_buffer("input_scale", inputs[0])
        self.register_buffer("input_zero_point", inputs[1])

    def integers(self, x: Tensor, scale: Tensor | float, zero_point: Tensor | int) -> Tensor:
        """Return x (...) as integers from 0 to 255, uint8."""
        if x.dtype == torch.uint8:
            return x
        return uint8_steps(x.float(), scale, zero_point).to(torch.uint8)

    def real_inputs(self, x: Tensor) -> Tensor:
        """Return x (...) as the real numbers that the kernels compute with."""
        integers = self.integers(x, self.input_scale, self.input_zero_point)
        return (integers.float() - self.input_zero_point) * self.input_scale

    def numbers(self) -> tuple[float, int]:
        """Return scale and zero point of the inputs as numbers; this waits for the device."""
        return float(self.input_scale), int(self.input_zero_point)


class StaticLinear(StaticLayer):
    """A linear layer W (O, I) in int8 with inputs of a fixed range."""

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b (..., O) of x (..., I)."""
        if not computes_integers(x):
            return F.linear(self.real_inputs(x), self.weight, self.bias)
        if self.packed is None:
            packed = PackedLinear(self.weight_int8, self.weight_scale, self.bias)
            self.packed = (packed, self.numbers())
        kernel, inputs = self.packed
        product: Tensor = kernel(self.integers(x, *inputs), *inputs)
        return product


class StaticConv2d(StaticLayer):
    """A convolution in int8 with inputs of a fixed range.

    Maps (B, I, H, W) to (B, O, H', W'): real numbers, or with a range of `outputs` integers for the
    next layer. `settings` are stride, padding, dilation and groups.
    """

    output_scale: Tensor | None
    output_zero_point: Tensor | None
    relu: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        settings: tuple[Any, Any, Any, int],
        inputs: Range,
        outputs: Range | None,
        relu: bool,
    ) -> None:
        super().__init__(weight, bias, inputs)
        output_scale, output_zero_point = outputs or (None, None)
        self.register_buffer("output_scale", output_scale)
        self.register_buffer("output_zero_point", output_zero_point)
        marker = torch.ones((), dtype=torch.uint8, device=weight.device)
        self.register_buffer("relu", marker if relu else None)
        self.settings = settings

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps of x."""
        if not computes_integers(x):
            return self._real_maps(x)
        if self.packed is None:
            self.packed = self._pack()
        kernel, inputs = self.packed
        maps: Tensor = kernel(self.integers(x, *inputs))
        return maps

    def _pack(self) -> tuple[PackedConv2d, tuple[float, int]]:
        """Return the kernel, and the numbers that its inputs are rounded by."""
        outputs = None
        if self.output_scale is not None and self.output_zero_point is not None:
            outputs = (float(self.output_scale), int(self.output_zero_point))
        inputs = self.numbers()
        kernel = PackedConv2d(
            self.weight_int8,
            self.weight_scale,
            self.bias,
            self.settings,
            inputs,
            outputs,
            self.relu is not None,
        )
        return kernel, inputs

    def _real_maps(self, x: Tensor) -> Tensor:
        """Return the same feature maps, up to rounding, by products of real numbers."""
        maps = F.conv2d(self.real_inputs(x), self.weight, self.bias, *self.settings)
        if self.relu is not None:
            maps = maps.relu()
        if self.output_scale is None or self.output_zero_point is None:
            return maps
        return uint8_steps(maps, self.output_scale, self.output_zero_point).to(torch.uint8)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return a height and a width; one number is both."""
    return (size, size) if isinstance(size, int) else size


class IntegerMaxPool2d(nn.Module):
    """Max-pooling of feature maps (B, C, H, W) that are integers, uint8.

    The marker `pooled` tells in a saved state that the pooling is one of integers.
    """

    pooled: Tensor

    def __init__(self, pool: nn.MaxPool2d, device: torch.device) -> None:
        super().__init__()
        stride = pool.kernel_size if pool.stride is None else pool.stride
        self.window = (pair(pool.kernel_size), pair(stride), pair(pool.padding))
        self.register_buffer("pooled", torch.ones((), dtype=torch.uint8, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima (B, C, H', W'), uint8."""
        if computes_integers(x):
            pooled: Tensor = torch.ops.quantized.max_pool2d(x, *self.window, (1, 1), False)
            return pooled
        return F.max_pool2d(x.float(), *self.window).to(torch.uint8)


class Folded(nn.Module):
    """Stands in the place of a layer that the convolution before it includes; returns its input.

    The marker `folded` tells so in a saved state.
    """

    folded: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("folded", torch.ones((), dtype=torch.uint8, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


class Int8Embedding(nn.Module):
    """An embedding (V, D) in int8, with a scale for each token in half precision.

    Maps token numbers (...) to vectors (..., D).
    """

    weight_int8: Tensor
    weight_scale: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scales = channel_scales(weight).clamp_min(torch.finfo(torch.float16).tiny).half()
        self.register_buffer("weight_int8", int8_weight(weight, scales.float()))
        self.register_buffer("weight_scale", scales)

    @property
    def weight(self) -> Tensor:
        """The vectors (V, D) as real numbers."""
        return real_weight(self.weight_int8, self.weight_scale)

    def real_parameters(self) -> list[Tensor]:
        """Return the vectors as real numbers."""
        return [self.weight]

    def extra_repr(self) -> str:
        """Return the shape of the table, for the printed network."""
        return f"{tuple(self.weight_int8.shape)}, int8"

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors (..., D) of tokens (...)."""
        vectors = F.embedding(tokens, self.weight_int8).float()
        return vectors * F.embedding(tokens, self.weight_scale.unsqueeze(1)).float()
