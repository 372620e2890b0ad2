"""The two networks of a deep convolutional generative adversarial network."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dltrain.models.images.gan import Adversaries
from dltrain.models.layers import channel_norm, halved
from dltrain.types import Norm, PositiveInt

SLOPE = 0.2  # of the leaky ReLUs
SPREAD = 0.02  # of the initial weights


class DCGAN(Adversaries):
    """Convolutions of stride 2 instead of pooling, batch norm, ReLU in the generator and leaky ReLU in the discriminator
    (Radford, Metz, Chintala 2016).

    Each of `channels` doubles the generator's image, from the deepest to the one before the pixels, and halves the
    discriminator's, in reverse: 28 pixels take two entries, 32 three, 64 four. ValueError for sides that cannot be
    halved so often. Weights begin as N(0, 0.02), the paper's choice: larger ones saturate the tanh at the end.
    `discriminator_norm` is not on its first layer, which would hide from it how the images are distributed. `separable`
    makes every convolution one within each channel and one across channels (Howard et al. 2017, "MobileNets"): fewer
    weights and products, more calls. `conditional` tells both networks the class.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        latent_size: PositiveInt = 64,
        channels: tuple[PositiveInt, ...] = (64, 32),
        norm: Norm = "batch",
        discriminator_norm: Norm = "batch",
        separable: bool = False,
        conditional: bool = False,
    ) -> None:
        if not channels:
            raise ValueError("channels=[]: a DCGAN doubles the image at least once")
        classes = num_classes if conditional else 0
        height, width = halved(image_size, len(channels), "model.channels")
        generator: list[nn.Module] = [
            nn.Linear(latent_size + classes, channels[0] * height * width, bias=False),
            nn.Unflatten(1, (channels[0], height, width)),
            *channel_norm(norm, channels[0]),
            nn.ReLU(),
        ]
        for fan_in, fan_out in pairwise(channels):
            generator += [
                *doubling(fan_in, fan_out, separable),
                *channel_norm(norm, fan_out),
                nn.ReLU(),
            ]
        generator += [*doubling(channels[-1], in_channels, separable), nn.Tanh()]
        body: list[nn.Module] = []
        for i, (fan_in, fan_out) in enumerate(pairwise((in_channels, *reversed(channels)))):
            normed = channel_norm(discriminator_norm, fan_out) if i else []
            body += [*halving(fan_in, fan_out, separable), *normed, nn.LeakyReLU(SLOPE)]
        super().__init__(
            nn.Sequential(*generator),
            nn.Sequential(*body, nn.Flatten()),
            channels[0] * height * width,
            latent_size,
            classes,
        )
        self.apply(begin)


def halving(fan_in: int, fan_out: int, separable: bool) -> list[nn.Module]:
    """A convolution that halves the image."""
    if separable:
        return [
            nn.Conv2d(fan_in, fan_in, 4, 2, 1, groups=fan_in, bias=False),
            nn.Conv2d(fan_in, fan_out, 1),
        ]
    return [nn.Conv2d(fan_in, fan_out, 4, 2, 1)]


def doubling(fan_in: int, fan_out: int, separable: bool) -> list[nn.Module]:
    """A transposed convolution that doubles the image."""
    if separable:
        return [
            nn.Conv2d(fan_in, fan_out, 1),
            nn.ConvTranspose2d(fan_out, fan_out, 4, 2, 1, groups=fan_out),
        ]
    return [nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1)]


def begin(module: nn.Module) -> None:
    """The paper's initial weights: N(0, 0.02), scales of norms around 1, and no biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, SPREAD)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, SPREAD)
    bias = getattr(module, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)
