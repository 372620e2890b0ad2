"""Layers with int4 weights: a scale and an offset for each group of inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.tasks.compression.quantized.kernels import PackedInt4, computes_bfloat16, is_recorded
from dltrain.tasks.compression.quantized.packing import PackingLayer

LEVELS = 16
MIDDLE = 8  # the integer that stands for the offset of its group
FRACTIONS = 20  # of a group's range that are tried for the smallest error
LEAST_FRACTION = 0.6
SMALLEST_SCALE = 1e-6


def packed_pairs(integers: Tensor) -> Tensor:
    """Return integers (O, I) in 0..15 as bytes (O, I / 2), the first in the low bits."""
    low, high = integers.to(torch.uint8).unflatten(1, (-1, 2)).unbind(2)
    return low | (high << 4)


def unpacked_pairs(pairs: Tensor) -> Tensor:
    """Return bytes (O, I / 2) as integers (O, I) in 0..15."""
    return torch.stack([pairs & 15, pairs >> 4], dim=2).flatten(1)


def grouped(weight: Tensor, group_size: int, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight (O, I) as integers (O, I) in 0..15, and scales and offsets (O, I / G, 2).

    The real weight is (integer - 8) scale + offset. The range of each group of G inputs is the part
    of its extremes with the smallest squared error of the output: errors of a weight count by the
    `importance` (I,) of its input, its mean square.
    """
    groups = weight.detach().float().unflatten(1, (-1, group_size))  # (O, I / G, G)
    weights = importance.float().view(1, -1, group_size)
    lowest = groups.amin(2, keepdim=True)
    highest = groups.amax(2, keepdim=True)
    best_error = torch.full_like(lowest, float("inf"))
    best_integers = torch.zeros_like(groups)
    best_parameters = torch.zeros_like(groups[:, :, :2])
    for fraction in torch.linspace(LEAST_FRACTION, 1, FRACTIONS).tolist():
        parameters = range_parameters(fraction * lowest, fraction * highest)
        scale, offset = parameters.float().split(1, dim=2)
        integers = ((groups - offset) / scale + MIDDLE).round().clamp(0, LEVELS - 1)
        rounded = (integers - MIDDLE) * scale + offset
        error = ((rounded - groups).square() * weights).sum(2, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_integers = torch.where(better, integers, best_integers)
        best_parameters = torch.where(better, parameters.float(), best_parameters)
    return best_integers.flatten(1), best_parameters.half()


def range_parameters(lowest: Tensor, highest: Tensor) -> Tensor:
    """Return scale and offset (..., 2), half precision, of ranges (..., 1)."""
    scale = ((highest - lowest) / (LEVELS - 1)).clamp_min(SMALLEST_SCALE)
    return torch.cat([scale, lowest + MIDDLE * scale], dim=2).half()


class Int4Layer(PackingLayer):
    """A weight (O, I) in int4: `weight_int4` (O, I / 2), two numbers a byte.

    `weight_groups` (O, I / G, 2), half precision, are the scale and the offset of each group of G
    inputs.
    """

    weight_int4: Tensor
    weight_groups: Tensor

    def __init__(self, weight: Tensor, group_size: int, importance: Tensor) -> None:
        super().__init__()
        integers, parameters = grouped(weight, group_size, importance)
        self.register_buffer("weight_int4", packed_pairs(integers))
        self.register_buffer("weight_groups", parameters)

    @property
    def weight(self) -> Tensor:
        """The weight (O, I) as real numbers."""
        return self.rows(self.weight_int4, self.weight_groups)

    @staticmethod
    def rows(pairs: Tensor, parameters: Tensor) -> Tensor:
        """Return rows (N, I) as real numbers, from bytes (N, I / 2) and groups (N, I / G, 2)."""
        scale, offset = parameters.float().split(1, dim=2)
        integers = unpacked_pairs(pairs).float().unflatten(1, (parameters.shape[1], -1))
        return ((integers - MIDDLE) * scale + offset).flatten(1)

    def real_parameters(self) -> list[Tensor]:
        """Return the weight as real numbers."""
        return [self.weight]

    def extra_repr(self) -> str:
        """Return the shape of the weight, for the printed network."""
        rows, half = self.weight_int4.shape
        return f"{(rows, 2 * half)}, int4"


class Int4Linear(Int4Layer):
    """A linear layer with int4 weights; its inputs (..., I) stay real.

    On a CPU with instructions for bfloat16 the products are of that type.
    """

    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, group_size: int, importance: Tensor
    ) -> None:
        super().__init__(weight, group_size, importance)
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())

    def real_parameters(self) -> list[Tensor]:
        """Return the weight and the bias, if there is one, as real numbers."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b (..., O) of x (..., I)."""
        if is_recorded():
            return F.linear(x.float(), self.weight, self.bias)
        if self.packed is None:
            self.packed = self._pack(x)
        product: Tensor = self.packed(x)
        return product if self.bias is None else product + self.bias

    def _pack(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what multiplies x by the weight."""
        if computes_bfloat16(x):
            return PackedInt4(unpacked_pairs(self.weight_int4), self.weight_groups, self.weight)
        weight = self.weight
        return lambda x: F.linear(x.float(), weight)


class Int4Embedding(Int4Layer):
    """An embedding (V, D) in int4; maps token numbers (...) to vectors (..., D)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors (..., D) of tokens (...)."""
        chosen = tokens.flatten()
        pairs = self.weight_int4.index_select(0, chosen)
        parameters = self.weight_groups.index_select(0, chosen)
        return self.rows(pairs, parameters).view(*tokens.shape, -1)
