"""A small convolutional network: the default model."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.types import Activation, Fraction, PositiveInt


class CNN(nn.Sequential):
    """Logits (B, num_classes) of images (B, C, H, W): blocks of conv 3x3, batch norm, activation, max-pool, then linear.

    Each block halves the image, so it must have at least 2 ** len(channels) pixels a side (ValueError). The
    convolutions have no bias: the batch norm after them brings one. `dropout` stands before the linear layer.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        channels: tuple[PositiveInt, ...] = (32, 64),
        activation: Activation = "relu",
        dropout: Fraction = 0.0,
    ) -> None:
        height, width = (side // 2 ** len(channels) for side in image_size)
        if not height or not width:
            raise ValueError(
                f"model=cnn halves the image {len(channels)} times: {image_size[0]}x{image_size[1]} pixels are too few; "
                "give model.channels fewer entries"
            )
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((in_channels, *channels)):
            layers += [
                nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(fan_out),
                activation_layer(activation),
                nn.MaxPool2d(2),
            ]
        features = (in_channels, *channels)[-1] * height * width
        super().__init__(*layers, nn.Flatten(), *dropout_layer(dropout), nn.Linear(features, num_classes))
