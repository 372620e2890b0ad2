"""Convolutional blocks of several kinds, which networks and searches choose by name.

All of them map images (B, C_in, H, W) to (B, C_out, H, W), if the padding keeps the size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from dltrain.models.layers import activation, channel_norm
from dltrain.types import Activation, BlockKind, Norm

REDUCTION = 4  # of the channels within a bottleneck; He et al. 2016, figure 5


@dataclass(frozen=True)
class BlockStyle:
    """The settings that all blocks of a network share; `padding` is that of its kernels."""

    kernel_size: int
    padding: int
    norm: Norm
    activation: Activation


class WithShortcut(nn.Module):
    """The sum of a body and a shortcut (He et al. 2016, "Deep Residual Learning", equation 2)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return body(x) + shortcut(x)."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total


def normed(style: BlockStyle, fan_in: int, fan_out: int, size: int) -> list[nn.Module]:
    """Return a convolution with a kernel of `size` pixels per side, and its norm."""
    padding = style.padding if size > 1 else 0
    bias = style.norm == "none"
    return [
        nn.Conv2d(fan_in, fan_out, size, padding=padding, bias=bias),
        *channel_norm(style.norm, fan_out),
    ]


def plain(style: BlockStyle, fan_in: int, fan_out: int) -> list[nn.Module]:
    """Return a convolution, its norm and its activation."""
    return [*normed(style, fan_in, fan_out, style.kernel_size), activation(style.activation)]


def separable(style: BlockStyle, fan_in: int, fan_out: int) -> list[nn.Module]:
    """Return a depthwise and a pointwise convolution, each with norm and activation.

    Howard et al. 2017, "MobileNets", figure 3.
    """
    depthwise = nn.Conv2d(
        fan_in,
        fan_in,
        style.kernel_size,
        padding=style.padding,
        groups=fan_in,
        bias=style.norm == "none",
    )
    return [
        depthwise,
        *channel_norm(style.norm, fan_in),
        activation(style.activation),
        *normed(style, fan_in, fan_out, 1),
        activation(style.activation),
    ]


def residual(style: BlockStyle, fan_in: int, fan_out: int) -> list[nn.Module]:
    """Return two convolutions with a shortcut around them, and an activation.

    He et al. 2016, "Deep Residual Learning for Image Recognition", figure 5, left.
    """
    size = style.kernel_size
    body = nn.Sequential(
        *normed(style, fan_in, fan_out, size),
        activation(style.activation),
        *normed(style, fan_out, fan_out, size),
    )
    shortcut = projection(style, fan_in, fan_out)
    return [WithShortcut(body, shortcut), activation(style.activation)]


def bottleneck(style: BlockStyle, fan_in: int, fan_out: int) -> list[nn.Module]:
    """Return a narrow convolution between two of one pixel, with a shortcut, and an activation.

    He et al. 2016, "Deep Residual Learning for Image Recognition", figure 5, right.
    """
    width = max(1, fan_out // REDUCTION)
    body = nn.Sequential(
        *normed(style, fan_in, width, 1),
        activation(style.activation),
        *normed(style, width, width, style.kernel_size),
        activation(style.activation),
        *normed(style, width, fan_out, 1),
    )
    shortcut = projection(style, fan_in, fan_out)
    return [WithShortcut(body, shortcut), activation(style.activation)]


def projection(style: BlockStyle, fan_in: int, fan_out: int) -> nn.Module:
    """Return the shortcut of a residual block: a convolution of one pixel if channels differ."""
    if fan_in == fan_out:
        return nn.Identity()
    return nn.Sequential(*normed(style, fan_in, fan_out, 1))


BLOCKS: dict[BlockKind, Callable[[BlockStyle, int, int], list[nn.Module]]] = {
    "plain": plain,
    "separable": separable,
    "residual": residual,
    "bottleneck": bottleneck,
}


def layers_after_sum(kind: BlockKind, style: BlockStyle) -> int:
    """Return the number of layers of a block after its last convolution or its sum."""
    if kind in ("residual", "bottleneck"):
        return 1
    return len(channel_norm(style.norm, 1)) + 1
