"""Recurrent layers with int8 weights.

The weights are stored in int8, and the fused kernel of oneDNN runs the steps. On a CPU with
instructions for bfloat16 it computes in that type, which reads half the bytes of a step; elsewhere
in float32. An integer kernel for each step costs more than the fused step itself: torch's own
(`torch.quantized_lstm`, now deprecated) took 60 us for a step that the fused kernel makes in 3 us
(batch 1, 64 hidden units).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.tasks.compression.quantized.kernels import computes_bfloat16, is_recorded
from dltrain.tasks.compression.quantized.packing import PackingLayer
from dltrain.tasks.compression.quantized.rounding import (
    channel_scales,
    int8_weight,
    real_weight,
)

# has biases, one layer, no dropout, not in training, one direction, time first
SINGLE_LAYER = (True, 1, 0.0, False, False, False)


class Int8Recurrent(PackingLayer):
    """A recurrent layer over steps (T, B, F) with int8 weights.

    `weight_ih` (G H, F) and `weight_hh` (G H, H) stack the weights of G gates, as in torch's
    layers; the biases (G H,) are real.
    """

    weight_ih_int8: Tensor
    weight_ih_scale: Tensor
    weight_hh_int8: Tensor
    weight_hh_scale: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def __init__(
        self, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
    ) -> None:
        super().__init__()
        for name, weight in (("weight_ih", weight_ih), ("weight_hh", weight_hh)):
            scales = channel_scales(weight)
            self.register_buffer(f"{name}_int8", int8_weight(weight, scales))
            self.register_buffer(f"{name}_scale", scales)
        self.register_buffer("bias_ih", bias_ih.detach().float().clone())
        self.register_buffer("bias_hh", bias_hh.detach().float().clone())

    def real_parameters(self) -> list[Tensor]:
        """Return the weights and biases as real numbers, in the order of torch's layers."""
        return [
            real_weight(self.weight_ih_int8, self.weight_ih_scale),
            real_weight(self.weight_hh_int8, self.weight_hh_scale),
            self.bias_ih,
            self.bias_hh,
        ]

    def extra_repr(self) -> str:
        """Return the sizes, for the printed network."""
        return f"{self.weight_ih_int8.shape[1]}, {self.weight_hh_int8.shape[1]}, int8"

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return outputs (T, B, H) of x (T, B, F), and the state (1, B, H) after the last step.

        An LSTM's state is a pair.
        """
        if is_recorded():
            return self.run(x.float(), state, self.real_parameters())
        dtype = torch.bfloat16 if computes_bfloat16(x) else torch.float32
        if self.packed is None:
            self.packed = [parameter.to(dtype) for parameter in self.real_parameters()]
        before = in_type(state, dtype)
        outputs, after = self.run(x.to(dtype), before, self.packed)
        return outputs.float(), in_type(after, torch.float32)

    @abstractmethod
    def run(self, x: Tensor, state: Any, parameters: list[Tensor]) -> tuple[Tensor, Any]:
        """Return outputs and state of a layer of torch with `parameters`."""


def in_type(state: Any, dtype: torch.dtype) -> Any:
    """Return the state of a layer, a tensor or a pair of tensors, in another type."""
    if isinstance(state, tuple):
        return tuple(part.to(dtype) for part in state)
    return state.to(dtype)


class Int8LSTM(Int8Recurrent):
    """An LSTM layer with int8 weights, in the place of an `nn.LSTM` of one layer."""

    def run(self, x: Tensor, state: Any, parameters: list[Tensor]) -> tuple[Tensor, Any]:
        """Return the outputs (T, B, H), and the pair of h and c (1, B, H) after the last step."""
        outputs, h, c = torch.lstm(x, state, parameters, *SINGLE_LAYER)
        return outputs, (h, c)


class Int8GRU(Int8Recurrent):
    """A GRU layer with int8 weights, in the place of an `nn.GRU` of one layer."""

    def run(self, x: Tensor, state: Any, parameters: list[Tensor]) -> tuple[Tensor, Any]:
        """Return the outputs (T, B, H), and h (1, B, H) after the last step."""
        outputs, h = torch.gru(x, state, parameters, *SINGLE_LAYER)
        return outputs, h


def recurrent_like(layer: nn.RNNBase) -> Int8Recurrent:
    """Return an LSTM or a GRU of one layer with its weights in int8."""
    kind = Int8LSTM if isinstance(layer, nn.LSTM) else Int8GRU
    weight_ih, weight_hh, bias_ih, bias_hh = layer.parameters()
    return kind(weight_ih, weight_hh, bias_ih, bias_hh)
