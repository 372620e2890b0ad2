"""A convolutional network of blocks: the default model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from dltrain.models.blocks import BLOCKS, BlockStyle, layers_after_sum
from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.layers import pool
from dltrain.types import (
    Activation,
    BlockKind,
    Fraction,
    Norm,
    Pooling,
    PositiveFloat,
    PositiveInt,
)

Widths = tuple[int, ...]  # the channels of each convolution of a block


def block_widths(
    channels: Sequence[int | Sequence[int]], depth: int | None, width: float, repeats: int
) -> list[Widths]:
    """Return the channels of the convolutions of each block; see `CNN`.

    Raises:
        ValueError: There is no block whose channels further ones could double.
    """
    blocks: list[Widths] = []
    for entry in channels:
        blocks.append((entry,) if isinstance(entry, int) else tuple(entry))
    if depth is not None and not blocks:
        raise ValueError("model.depth doubles the last entry of model.channels: give it one")
    while depth is not None and len(blocks) < depth:
        blocks.append(tuple(2 * one for one in blocks[-1]))
    scaled = []
    for block in blocks[:depth]:
        widths = [max(1, round(width * one)) for one in block]
        scaled.append(tuple(one for one in widths for _ in range(repeats)))
    return scaled


class CNN(nn.Sequential):
    """Blocks of convolutions and pooling, dense layers, and a linear output layer.

    Maps images (B, C, H, W) to logits (B, num_classes).

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes.
        channels: One entry per block: a number for one convolution, a list for several. Each
            convolution is followed by `norm` and `activation`, each block by pooling, which halves
            the image, and `conv_dropout`. A convolution has a bias only without a norm.
        depth: Number of blocks; further ones have twice the channels of the one before. None for
            one for each entry of `channels`.
        width: Factor of all channels.
        repeats: How often each convolution of a block stands in it.
        block: What stands in place of each convolution: itself ("plain"), a depthwise and a
            pointwise one ("separable"), two with a shortcut ("residual"), or a narrow one between
            two of one pixel, with a shortcut ("bottleneck"); see `dltrain.models.blocks`.
        kernel_size: Height and width of the kernels.
        padding: "same" keeps the image size; with "valid", a convolution removes kernel_size - 1
            pixels per side.
        norm: Normalization after every convolution.
        activation: Activation after every convolution and dense layer.
        pooling: Pooling at the end of every block.
        pool_first: Pool right after the last convolution of a block, before its norm and
            activation, which then have a quarter of the work.
        conv_dropout: Dropout probability after every block.
        head: "flatten" uses all pixels of the last feature maps, "average" the mean of each map.
        hidden_sizes: Units of the dense layers, each followed by `activation` and `dropout`.
        dropout: Dropout probability of the dense layers; without any, it applies before the output.

    Raises:
        ValueError: The images are too small for so many blocks, or a block with a shortcut would
            change their size.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        channels: tuple[PositiveInt | tuple[PositiveInt, ...], ...] = (32, 64),
        kernel_size: Literal[1, 3, 5, 7, 9, 11] = 3,
        padding: Literal["same", "valid"] = "same",
        norm: Norm = "batch",
        activation: Activation = "relu",
        pooling: Pooling = "max",
        pool_first: bool = False,
        conv_dropout: Fraction = 0.0,
        head: Literal["flatten", "average"] = "flatten",
        hidden_sizes: tuple[PositiveInt, ...] = (),
        dropout: Fraction = 0.0,
        depth: PositiveInt | None = None,
        width: PositiveFloat = 1.0,
        repeats: PositiveInt = 1,
        block: BlockKind = "plain",
    ) -> None:
        if padding == "valid" and block in ("residual", "bottleneck"):
            raise ValueError(f"model.block={block} has shortcuts, which need model.padding=same")
        margin = kernel_size // 2 if padding == "same" else 0
        removed = kernel_size - 1 - 2 * margin  # pixels per side, by every convolution
        rows, columns = image_size
        style = BlockStyle(kernel_size, margin, norm, activation)
        fan_in = in_channels
        layers: list[nn.Module] = []
        blocks = block_widths(channels, depth, width, repeats)
        for widths in blocks:
            for fan_out in widths:
                layers += BLOCKS[block](style, fan_in, fan_out)
                fan_in = fan_out
            place = len(layers)
            if pool_first:
                place -= layers_after_sum(block, style)
            layers.insert(place, pool(pooling))
            layers += dropout_layer(conv_dropout)
            rows = (rows - removed * len(widths)) // 2
            columns = (columns - removed * len(widths)) // 2
        if rows < 1 or columns < 1:
            hint = "give model.channels fewer entries"
            if depth is not None:
                hint = "set a lower model.depth"
            if padding == "valid":
                hint += " or set model.padding=same"
            raise ValueError(
                f"the network halves the image {len(blocks)} times: "
                f"{image_size[0]}x{image_size[1]} pixels are too few; {hint}"
            )
        features = fan_in * rows * columns
        if head == "average":
            layers.append(nn.AdaptiveAvgPool2d(1))
            features = fan_in
        layers.append(nn.Flatten())
        for fan_in, fan_out in pairwise((features, *hidden_sizes)):
            layers += [
                nn.Linear(fan_in, fan_out),
                activation_layer(activation),
                *dropout_layer(dropout),
            ]
        if not hidden_sizes:
            layers += dropout_layer(dropout)
        last = hidden_sizes[-1] if hidden_sizes else features
        super().__init__(*layers, nn.Linear(last, num_classes))
