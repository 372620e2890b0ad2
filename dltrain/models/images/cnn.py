"""A convolutional network of blocks: the default model."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import channel_norm, pool
from dltrain.models.layers import dropout as dropout_layer
from dltrain.types import Activation, Fraction, Norm, Pooling, PositiveInt


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
        ValueError: The images are too small for so many blocks.
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
    ) -> None:
        margin = kernel_size // 2 if padding == "same" else 0
        removed = kernel_size - 1 - 2 * margin  # pixels per side, by every convolution
        height, width = image_size
        fan_in = in_channels
        layers: list[nn.Module] = []
        for block in channels:
            widths = (block,) if isinstance(block, int) else block
            for fan_out in widths:
                layers += [
                    nn.Conv2d(fan_in, fan_out, kernel_size, padding=margin, bias=norm == "none"),
                    *channel_norm(norm, fan_out),
                    activation_layer(activation),
                ]
                fan_in = fan_out
            place = len(layers)
            if pool_first:  # right after the last convolution
                place -= len(channel_norm(norm, fan_in)) + 1
            layers.insert(place, pool(pooling))
            layers += dropout_layer(conv_dropout)
            height = (height - removed * len(widths)) // 2
            width = (width - removed * len(widths)) // 2
        if height < 1 or width < 1:
            hint = "give model.channels fewer entries"
            if padding == "valid":
                hint += " or set model.padding=same"
            raise ValueError(
                f"the network halves the image {len(channels)} times: "
                f"{image_size[0]}x{image_size[1]} pixels are too few; {hint}"
            )
        features = fan_in * height * width
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
