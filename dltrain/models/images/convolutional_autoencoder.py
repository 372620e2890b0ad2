"""An autoencoder of convolutions."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dltrain.models.autoencoder import Coder
from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import channel_norm, halved
from dltrain.types import Activation, Norm, PositiveInt


class ConvolutionalAutoencoder(Coder):
    """Each of `channels` is a convolution that halves the image; a linear layer makes the code of the last maps; transposed
    convolutions lead back (Masci et al. 2011, with strides instead of pooling). ValueError for an image whose sides
    cannot be halved so often.
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
        deepest = (channels or (in_channels,))[-1]
        features = deepest * height * width
        encoder += [nn.Flatten(), nn.Linear(features, code_size * (2 if variational else 1))]
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
        decoder += [nn.ConvTranspose2d(channels[0], in_channels, 4, 2, 1)] if channels else []
        super().__init__(nn.Sequential(*encoder), nn.Sequential(*decoder), code_size, variational)
