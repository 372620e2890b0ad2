"""Autoencoders: an encoder to a short code, and a decoder back."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from dltrain.models.layers import activation as activation_layer
from dltrain.types import Activation, PositiveInt


class Coder(nn.Module):
    """What autoencoders have in common: `encode` images (B, C, H, W) to codes, and `decode` codes to pixels or their logits.

    A variational one's encoder gives a normal distribution for each image instead of a code: means (B, code_size) beside
    logarithms of variances (B, code_size).
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, code_size: int, variational: bool
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.code_size, self.variational = (
            encoder,
            decoder,
            code_size,
            variational,
        )

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, code_size), or means and logarithms of variances (B, 2 * code_size)."""
        codes: Tensor = self.encoder(images)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """What makes pixels (B, C, H, W): which way is the task's."""
        decoded: Tensor = self.decoder(codes)
        return decoded

    def forward(self, images: Tensor) -> Tensor:
        """What is decoded (B, C, H, W) of the codes, or of their means."""
        return self.decode(self.encode(images)[:, : self.code_size])


class Autoencoder(Coder):
    """A fully connected autoencoder: layers of `hidden_sizes`, the code, and the same layers back (Hinton and
    Salakhutdinov 2006). The code is linear; `variational` makes it a distribution (Kingma and Welling 2014).
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        hidden_sizes: tuple[PositiveInt, ...] = (1000, 500, 250),
        code_size: PositiveInt = 30,
        activation: Activation = "relu",
        variational: bool = False,
    ) -> None:
        shape = (in_channels, *image_size)
        sizes = (in_channels * image_size[0] * image_size[1], *hidden_sizes)
        encoder: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(sizes):
            encoder += [nn.Linear(fan_in, fan_out), activation_layer(activation)]
        encoder.append(nn.Linear(sizes[-1], code_size * (2 if variational else 1)))
        decoder: list[nn.Module] = []
        for fan_in, fan_out in pairwise((code_size, *reversed(hidden_sizes))):
            decoder += [nn.Linear(fan_in, fan_out), activation_layer(activation)]
        decoder += [
            nn.Linear((code_size, *reversed(hidden_sizes))[-1], sizes[0]),
            nn.Unflatten(1, shape),
        ]
        super().__init__(nn.Sequential(*encoder), nn.Sequential(*decoder), code_size, variational)
