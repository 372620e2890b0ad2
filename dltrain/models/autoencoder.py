"""Autoencoders: an encoder to a short code and a decoder back."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from dltrain.models.layers import activation as activation_layer
from dltrain.types import Activation, PositiveInt


class Coder(nn.Module):
    """Base class of autoencoders: an encoder of images (B, C, H, W) and a decoder of codes.

    The encoder of a variational autoencoder returns a normal distribution per image instead of a
    code: means (B, code_size) followed by logarithms of variances (B, code_size).
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, code_size: int, variational: bool
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.code_size = code_size
        self.variational = variational

    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, code_size), or means and logarithms of variances (B, 2 * code_size)."""
        codes: Tensor = self.encoder(images)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) or their logits, depending on the task's loss."""
        decoded: Tensor = self.decoder(codes)
        return decoded

    def forward(self, images: Tensor) -> Tensor:
        """Return the decoded images (B, C, H, W) of the codes, or of their means."""
        return self.decode(self.encode(images)[:, : self.code_size])


def encoded_size(code_size: int, variational: bool) -> int:
    """Return the number of an encoder's outputs: codes, or means and logarithms of variances."""
    return 2 * code_size if variational else code_size


class Autoencoder(Coder):
    """A fully connected autoencoder (Hinton and Salakhutdinov 2006).

    The encoder has layers of `hidden_sizes` and a linear code, the decoder the same layers in
    reverse. `variational` makes the code a distribution (Kingma and Welling 2014).
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
        encoder.append(nn.Linear(sizes[-1], encoded_size(code_size, variational)))
        decoder: list[nn.Module] = []
        decoder_sizes = (code_size, *reversed(hidden_sizes))
        for fan_in, fan_out in pairwise(decoder_sizes):
            decoder += [nn.Linear(fan_in, fan_out), activation_layer(activation)]
        decoder += [nn.Linear(decoder_sizes[-1], sizes[0]), nn.Unflatten(1, shape)]
        super().__init__(nn.Sequential(*encoder), nn.Sequential(*decoder), code_size, variational)
