"""The deep autoencoder that a stack of restricted Boltzmann machines is unrolled into."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from dltrain.models.autoencoder import Coder
from dltrain.models.rbm import RBM
from dltrain.types import PositiveInt


class UnrolledAutoencoder(Coder):
    """An autoencoder of sigmoid layers with a linear code (Hinton and Salakhutdinov 2006).

    The encoder is a stack of RBMs; the last one has normal hidden units. Once they are trained,
    `unroll` copies their transposed weights into the decoder. From then on, encoder and decoder
    are trained independently.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        hidden_sizes: tuple[PositiveInt, ...] = (1000, 500, 250),
        code_size: PositiveInt = 30,
    ) -> None:
        shape = (in_channels, *image_size)
        sizes = (in_channels * image_size[0] * image_size[1], *hidden_sizes, code_size)
        rbms = [RBM(visible, hidden) for visible, hidden in pairwise(sizes[:-1])]
        rbms.append(RBM(sizes[-2], code_size, hidden_units="gaussian"))
        decoder: list[nn.Module] = []
        for fan_in, fan_out in pairwise(reversed(sizes)):
            decoder += [nn.Linear(fan_in, fan_out), nn.Sigmoid()]
        super().__init__(
            nn.Sequential(nn.Flatten(), *rbms),
            nn.Sequential(*decoder[:-1], nn.Unflatten(1, shape)),
            code_size,
            False,
        )

    @property
    def rbms(self) -> list[Any]:
        """The RBMs of the encoder, from the bottom up."""
        return list(self.encoder.children())[1:]

    @torch.no_grad()
    def unroll(self) -> None:
        """Copy the transposed weights of the encoder into the decoder."""
        layers = [layer for layer in self.decoder.modules() if isinstance(layer, nn.Linear)]
        for layer, rbm in zip(layers, reversed(self.rbms), strict=True):
            layer.weight.copy_(rbm.linear.weight.T)
            layer.bias.copy_(rbm.visible_bias)
