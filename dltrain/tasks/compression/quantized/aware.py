"""Layers that are trained with the rounding of their later int8 form (QAT)."""

from __future__ import annotations

from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.tasks.compression.quantized.layers import Range
from dltrain.tasks.compression.quantized.rounding import fake_activation, fake_weight

ConvolutionSettings: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]


class AwareLinear(nn.Module):
    """A linear layer whose weight (O, I) and inputs are rounded as `StaticLinear` will round them.

    Gradients pass the rounding unchanged (Jacob et al. 2018, section 3).
    """

    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, inputs: Range) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("input_scale", inputs[0])
        self.register_buffer("input_zero_point", inputs[1])

    def rounded(self, x: Tensor) -> Tensor:
        """Return inputs x (...) as the int8 layer reads them."""
        return fake_activation(x, self.input_scale.to(x.dtype), self.input_zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b (..., O) of x (..., I), with rounded W and x."""
        return F.linear(self.rounded(x), fake_weight(self.weight), self.bias)


class AwareConv2d(AwareLinear):
    """A convolution whose weight and inputs are rounded as `StaticConv2d` will round them.

    `settings` are stride, padding, dilation and groups. A batch norm is already folded into it.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        inputs: Range,
        settings: ConvolutionSettings,
    ) -> None:
        super().__init__(weight, bias, inputs)
        self.settings = settings

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps of x (B, I, H, W)."""
        return F.conv2d(self.rounded(x), fake_weight(self.weight), self.bias, *self.settings)
