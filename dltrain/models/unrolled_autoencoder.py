"""The deep autoencoder that a stack of restricted Boltzmann machines unrolls to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from dltrain.models.autoencoder import Coder
from dltrain.models.rbm import RBM
from dltrain.types import PositiveInt


class UnrolledAutoencoder(Coder):
    """Sigmoid layers of `hidden_sizes`, a linear code, and back (Hinton and Salakhutdinov 2006).

    The encoder is a stack of RBMs, the last of which has normal hidden units; the decoder begins as its mirror image:
    `unroll` copies the transposed weights once the RBMs are trained. From then on both go their own ways.
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
        rbms = [RBM(v, h) for v, h in pairwise(sizes[:-1])] + [
            RBM(sizes[-2], code_size, hidden_units="gaussian")
        ]
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
        return list(self.encoder.children())[1:]

    @torch.no_grad()
    def unroll(self) -> None:
        """Make the decoder the mirror image of the encoder."""
        layers = [layer for layer in self.decoder.modules() if isinstance(layer, nn.Linear)]
        for layer, rbm in zip(layers, reversed(self.rbms), strict=True):
            layer.weight.copy_(rbm.linear.weight.T)
            layer.bias.copy_(rbm.visible_bias)
