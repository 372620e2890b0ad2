"""The two networks of a generative adversarial network, fully connected."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.layers import feature_norm
from dltrain.types import Activation, Fraction, Norm, PositiveInt


class Adversaries(nn.Module):
    """What adversarial pairs have in common: a `generator` of images in -1..1 and a `discriminator` of images.

    With `num_classes` both are told the class: the generator by a one-hot vector beside its noise, the discriminator by
    the product of its features with a learned vector of the class (Miyato and Koyama 2018, equation 3).
    """

    def __init__(
        self,
        generator: nn.Module,
        body: nn.Module,
        features: int,
        latent_size: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.latent_size, self.num_classes = latent_size, num_classes
        self.generator, self.discriminator = generator, Discriminator(body, features, num_classes)

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in -1..1 from noise (B, latent_size) and, of a conditional pair, class numbers (B,)."""
        if self.num_classes and classes is not None:
            noise = torch.cat([noise, F.one_hot(classes, self.num_classes).to(noise)], dim=1)
        images: Tensor = self.generator(noise)
        return images

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """How real images (B, C, H, W) in -1..1 look, as logits (B,)."""
        logits: Tensor = self.discriminator(images, classes)
        return logits


class Discriminator(nn.Module):
    """Logits (B,) of what `body` makes of images: features (B, F)."""

    def __init__(self, body: nn.Module, features: int, num_classes: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(features, 1)
        self.of_class = nn.Embedding(num_classes, features) if num_classes else None

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        features = self.body(images)
        logits: Tensor = self.head(features).squeeze(1)
        if self.of_class is not None and classes is not None:
            logits = logits + (features * self.of_class(classes)).sum(1)
        return logits


class GAN(Adversaries):
    """Fully connected networks (Goodfellow et al. 2014): `generator_sizes` and `discriminator_sizes` are hidden layers.

    `norm` and `activation` are the generator's; the discriminator has leaky ReLUs, so that its gradient reaches the
    generator everywhere, and `discriminator_dropout`. `conditional` tells both the class.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        latent_size: PositiveInt = 64,
        generator_sizes: tuple[PositiveInt, ...] = (256, 512, 1024),
        discriminator_sizes: tuple[PositiveInt, ...] = (1024, 512, 256),
        norm: Norm = "batch",
        activation: Activation = "leaky_relu",
        discriminator_dropout: Fraction = 0.3,
        conditional: bool = False,
    ) -> None:
        classes = num_classes if conditional else 0
        shape = (in_channels, *image_size)
        pixels = math.prod(shape)
        generator: list[nn.Module] = []
        sizes = (latent_size + classes, *generator_sizes)
        for fan_in, fan_out in pairwise(sizes):
            generator += [
                nn.Linear(fan_in, fan_out, bias=norm == "none"),
                *feature_norm(norm, fan_out),
                activation_layer(activation),
            ]
        generator += [nn.Linear(sizes[-1], pixels), nn.Tanh(), nn.Unflatten(1, shape)]
        body: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise((pixels, *discriminator_sizes)):
            body += [
                nn.Linear(fan_in, fan_out),
                nn.LeakyReLU(0.2),
                *dropout_layer(discriminator_dropout),
            ]
        features = (pixels, *discriminator_sizes)[-1]
        super().__init__(
            nn.Sequential(*generator), nn.Sequential(*body), features, latent_size, classes
        )
