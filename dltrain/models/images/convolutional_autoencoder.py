"""The convolutional autoencoder."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dltrain.models.autoencoder import Coder, encoded_size
from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import channel_norm, halved
from dltrain.types import Activation, Norm, PositiveInt


class ConvolutionalAutoencoder(Coder):
    """An autoencoder of convolutions with stride 2 (Masci et al. 2011, with strides, not pooling).

    Each entry of `channels` is a convolution that halves the image. A linear layer maps the last
    feature maps to the code. The decoder has transposed convolutions.

    Raises:
        ValueError: The sides of the image cannot be halved that often.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        channels: tuple[PositiveInt, ...] = (32, 64),
        code_size: PositiveInt = 30,
        norm: Norm = "none",
        activation: Activation = "relu",
        variational: bool = False,
    ) -> None:
        height, width = halved(image_size, len(channels), "model.channels")
        encoder: list[nn.Module] = []
        for fan_in, fan_out in pairwise((in_channels, *channels)):
            encoder += [
                nn.Conv2d(fan_in, fan_out, 4, 2, 1),
                *channel_norm(norm, fan_out),
                activation_layer(activation),
            ]
        deepest = channels[-1] if channels else in_channels
        features = deepest * height * width
        encoder += [nn.Flatten(), nn.Linear(features, encoded_size(code_size, variational))]
        decoder: list[nn.Module] = [
            nn.Linear(code_size, features),
            activation_layer(activation),
            nn.Unflatten(1, (deepest, height, width)),
        ]
        for fan_in, fan_out in pairwise(reversed(channels)):
            decoder += [
                nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1),
                *channel_norm(norm, fan_out),
                activation_layer(activation),
            ]
        if channels:
            decoder.append(nn.ConvTranspose2d(channels[0], in_channels, 4, 2, 1))
        super().__init__(nn.Sequential(*encoder), nn.Sequential(*decoder), code_size, variational)
