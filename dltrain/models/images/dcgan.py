"""The deep convolutional generative adversarial network (DCGAN)."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dltrain.models.images.gan import Adversaries
from dltrain.models.layers import channel_norm, halved
from dltrain.types import Norm, PositiveInt

LEAKY_SLOPE = 0.2  # Radford, Metz, Chintala 2016, section 4
INITIAL_STD = 0.02  # of the weights; the same section


class DCGAN(Adversaries):
    """Generator and discriminator of convolutions with stride 2 (Radford, Metz, Chintala 2016).

    Both have batch norm and no pooling; the generator has ReLUs, the discriminator leaky ReLUs.
    Initial weights are N(0, 0.02) as in the paper; larger ones saturate the final tanh.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes, used if `conditional`.
        latent_size: Numbers of the noise vector.
        channels: Channels of the generator, from the deepest layer on. Each entry doubles the
            generator's image, and in reverse order halves the discriminator's: 28 pixels take two
            entries, 32 three, 64 four.
        norm: Normalization in the generator.
        discriminator_norm: Normalization in the discriminator, but not in its first layer, where
            it would hide the distribution of the pixels.
        separable: Replace every convolution by a depthwise and a pointwise one (Howard et al.
            2017, "MobileNets"): fewer weights and operations, but more kernel calls.
        conditional: Condition both networks on the class.

    Raises:
        ValueError: `channels` is empty, or the image cannot be halved that often.
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
            raise ValueError(
                '"model.channels=[]": a DCGAN needs at least one entry, such as [64,32]'
            )
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
            body += halving(fan_in, fan_out, separable)
            if i > 0:
                body += channel_norm(discriminator_norm, fan_out)
            body.append(nn.LeakyReLU(LEAKY_SLOPE))
        super().__init__(
            nn.Sequential(*generator),
            nn.Sequential(*body, nn.Flatten()),
            channels[0] * height * width,
            latent_size,
            classes,
        )
        self.apply(initialize)


def halving(fan_in: int, fan_out: int, separable: bool) -> list[nn.Module]:
    """Return a convolution that halves the image."""
    if separable:
        return [
            nn.Conv2d(fan_in, fan_in, 4, 2, 1, groups=fan_in, bias=False),
            nn.Conv2d(fan_in, fan_out, 1),
        ]
    return [nn.Conv2d(fan_in, fan_out, 4, 2, 1)]


def doubling(fan_in: int, fan_out: int, separable: bool) -> list[nn.Module]:
    """Return a transposed convolution that doubles the image."""
    if separable:
        return [
            nn.Conv2d(fan_in, fan_out, 1),
            nn.ConvTranspose2d(fan_out, fan_out, 4, 2, 1, groups=fan_out),
        ]
    return [nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1)]


def initialize(module: nn.Module) -> None:
    """Set the paper's initial weights: N(0, 0.02), scales of norms N(1, 0.02), zero biases."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, 0.0, INITIAL_STD)
        return
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, INITIAL_STD)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, INITIAL_STD)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
