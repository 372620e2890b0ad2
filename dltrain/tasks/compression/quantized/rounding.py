"""Numbers of few bits: scales, rounding, and rounding with a straight-through gradient.

A real number r is stored as an integer q with r = scale (q - zero_point) (Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
equation 1). Weights are symmetric, with zero_point 0 and a scale for each output channel;
activations have one scale and one zero point a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHT_BOUND = 127  # of int8 weights, symmetric about 0
LARGEST_UINT8 = 255
SMALLEST_SCALE = 1e-12  # of values that are all 0


def channel_scales(weight: Tensor) -> Tensor:
    """Return the scale (O,) of each output channel of a weight (O, ...)."""
    largest = weight.detach().float().flatten(1).abs().amax(1)
    return (largest / WEIGHT_BOUND).clamp_min(SMALLEST_SCALE)


def over_channels(scales: Tensor, weight: Tensor) -> Tensor:
    """Return scales (O,) in the shape (O, 1, ...), which multiplies a weight (O, ...)."""
    return scales.view(-1, *[1] * (weight.ndim - 1))


def int8_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """Return a weight (O, ...) as int8, by the scales (O,) of its channels."""
    steps = weight.detach().float() / over_channels(scales, weight)
    return steps.round().clamp(-WEIGHT_BOUND, WEIGHT_BOUND).to(torch.int8)


def real_weight(integers: Tensor, scales: Tensor) -> Tensor:
    """Return the real weight (O, ...) of int8 numbers (O, ...) with scales (O,)."""
    return integers.float() * over_channels(scales.float(), integers)


def activation_parameters(lowest: Tensor, highest: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return scale () and zero point (), int32, of numbers between `lowest` and `highest`.

    The range becomes the integers from 0 to 2^bits - 1. It is widened to include 0, which is then
    an integer exactly.
    """
    lowest = lowest.float().clamp_max(0)
    highest = highest.float().clamp_min(0)
    most = 2**bits - 1
    scale = ((highest - lowest) / most).clamp_min(SMALLEST_SCALE)
    zero_point = (-lowest / scale).round().clamp(0, most)
    return scale, zero_point.to(torch.int32)


def uint8_steps(x: Tensor, scale: Tensor | float, zero_point: Tensor | int) -> Tensor:
    """Return numbers x as integers from 0 to 255, still of a floating-point type."""
    return ((x / scale).round() + zero_point).clamp(0, LARGEST_UINT8)


def straight_through(x: Tensor) -> Tensor:
    """Return x rounded; the gradient is that of x.

    This is the estimator of Bengio et al. 2013, "Estimating or Propagating Gradients Through
    Stochastic Neurons for Conditional Computation".
    """
    return x + (x.round() - x).detach()


def fake_activation(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Return x as it would be after quantization, with a gradient inside the range."""
    lowest = -zero_point.to(x.dtype)
    steps = (x / scale).clamp(lowest, lowest + LARGEST_UINT8)
    return straight_through(steps) * scale


def fake_weight(weight: Tensor) -> Tensor:
    """Return a weight (O, ...) as it would be after quantization; gradients pass unchanged."""
    scales = over_channels(channel_scales(weight), weight)
    return straight_through(weight / scales) * scales
