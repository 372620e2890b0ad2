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
    """Logits (B, num_classes) of images (B, C, H, W): blocks of convolutions and pooling, dense layers, then linear.

    An entry of `channels` is a block: a number for one convolution, a list for several; each is followed by `norm` and
    `activation`, the block by pooling, which halves the image, and `conv_dropout`. A convolution has a bias only without
    a norm, which brings one. `padding` valid takes kernel_size - 1 pixels a side at every convolution; ValueError if none
    are left. `head` says what becomes of the last maps: all their pixels, or the average of each map. `hidden_sizes` are
    the dense layers after it, each with `activation` and `dropout`; without any, `dropout` stands before the output.
    """

    def __init__(
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
        conv_dropout: Fraction = 0.0,
        head: Literal["flatten", "average"] = "flatten",
        hidden_sizes: tuple[PositiveInt, ...] = (),
        dropout: Fraction = 0.0,
    ) -> None:
        margin = kernel_size // 2 if padding == "same" else 0
        (height, width), fan_in = image_size, in_channels
        layers: list[nn.Module] = []
        for block in channels:
            for fan_out in (block,) if isinstance(block, int) else block:
                layers += [
                    nn.Conv2d(fan_in, fan_out, kernel_size, padding=margin, bias=norm == "none"),
                    *channel_norm(norm, fan_out),
                    activation_layer(activation),
                ]
                fan_in = fan_out
                height, width = (side + 2 * margin - (kernel_size - 1) for side in (height, width))
            layers += [pool(pooling), *dropout_layer(conv_dropout)]
            height, width = height // 2, width // 2
        if height < 1 or width < 1:
            raise ValueError(
                f"the network halves the image {len(channels)} times: {image_size[0]}x{image_size[1]} pixels are too few; "
                f"give model.channels fewer entries{' or set model.padding=same' if padding == 'valid' else ''}"
            )
        features = fan_in * height * width
        if head == "average":
            layers, features = [*layers, nn.AdaptiveAvgPool2d(1)], fan_in
        layers.append(nn.Flatten())
        for fan_in, fan_out in pairwise((features, *hidden_sizes)):
            layers += [
                nn.Linear(fan_in, fan_out),
                activation_layer(activation),
                *dropout_layer(dropout),
            ]
        if not hidden_sizes:
            layers += dropout_layer(dropout)
        super().__init__(*layers, nn.Linear((features, *hidden_sizes)[-1], num_classes))
