"""Generative adversarial networks: their base class, and fully connected ones."""

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
    """Base class: a `generator` of images in -1..1 and a `discriminator` of images.

    With `num_classes` > 0 both are conditioned on the class: the generator by a one-hot vector
    appended to its noise, the discriminator by the product of its features with a learned
    embedding of the class (Miyato and Koyama 2018, equation 3).
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
        self.latent_size = latent_size
        self.num_classes = num_classes
        self.generator = generator
        self.discriminator = Discriminator(body, features, num_classes)

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in -1..1 from noise (B, latent_size).

        A conditional generator also gets class numbers (B,).
        """
        if self.num_classes and classes is not None:
            noise = torch.cat([noise, F.one_hot(classes, self.num_classes).to(noise)], dim=1)
        images: Tensor = self.generator(noise)
        return images

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return the discriminator's logits (B,) of images (B, C, H, W) in -1..1."""
        logits: Tensor = self.discriminator(images, classes)
        return logits


class Discriminator(nn.Module):
    """A linear layer on the features (B, F) of `body`; it returns logits (B,)."""

    def __init__(self, body: nn.Module, features: int, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(features, 1)
        self.of_class = nn.Embedding(num_classes, features) if num_classes else None

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return logits (B,) of images (B, C, H, W) and, if conditional, classes (B,)."""
        features = self.body(images)
        logits: Tensor = self.head(features).squeeze(1)
        if self.of_class is not None and classes is not None:
            logits = logits + (features * self.of_class(classes)).sum(1)
        return logits


class GAN(Adversaries):
    """Fully connected generator and discriminator (Goodfellow et al. 2014).

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes, used if `conditional`.
        latent_size: Numbers of the noise vector.
        generator_sizes: Units of the generator's hidden layers.
        discriminator_sizes: Units of the discriminator's hidden layers, which have leaky ReLUs so
            that gradients reach the generator everywhere.
        norm: Normalization in the generator.
        activation: Activation in the generator.
        discriminator_dropout: Dropout probability in the discriminator.
        conditional: Condition both networks on the class.
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
        features = discriminator_sizes[-1] if discriminator_sizes else pixels
        super().__init__(
            nn.Sequential(*generator), nn.Sequential(*body), features, latent_size, classes
        )
