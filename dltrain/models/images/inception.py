"""Inception v3: GoogLeNet's blocks with large convolutions factorized into small ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import inception

from dltrain.models.images.vision import Stem, is_small, refuse_below
from dltrain.types import Fraction, NonNegative

MIN_LARGE_PIXELS = 75  # per side, for the large form


DEFAULT_STD = 0.1  # of initial weights; torchvision marks layers with another one by `stddev`


class Head(inception.InceptionAux):
    """torchvision's auxiliary head, for feature maps of less than 17x17 pixels too.

    Maps feature maps (B, 768, H, W) to logits (B, num_classes). Smaller maps are averaged over a
    grid of 5x5.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of feature maps (B, 768, H, W)."""
        if min(x.shape[2:]) >= 17:
            x = F.avg_pool2d(x, 5, 3)
        else:
            x = F.adaptive_avg_pool2d(x, 5)
        x = self.conv1(self.conv0(x))  # (B, 768, 1, 1) from 17x17
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


BLOCKS = [
    inception.BasicConv2d,
    inception.InceptionA,
    inception.InceptionB,
    inception.InceptionC,
    inception.InceptionD,
    inception.InceptionE,
    Head,
]


class InceptionV3(inception.Inception3):
    """Inception v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture", table 1).

    Maps images (B, C, H, W) to logits (B, num_classes). In training mode it returns the logits of
    an auxiliary head as well (`AuxiliaryHeads`), whose loss is weighed by `auxiliary_weight`; with
    0 there is no head. The network is torchvision's, with its parameter names and initial weights,
    for 299 pixels, or 75 at least. The first five convolutions of the small form have stride 1, and
    it pools once instead of twice, so that the three groups of blocks get 16, 7 and 3 pixels from
    an image of 32, where the large form gets 35, 17 and 8 from 299.

    Raises:
        ValueError: The images are too small for the form.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        auxiliary_weight: NonNegative = 0.3,
        dropout: Fraction = 0.5,
        stem: Stem = "auto",
    ) -> None:
        small = is_small(stem, image_size, MIN_LARGE_PIXELS)
        refuse_below(14 if small else MIN_LARGE_PIXELS, image_size, "inception_v3", small)
        super().__init__(
            num_classes, auxiliary_weight > 0, False, BLOCKS, init_weights=False, dropout=dropout
        )
        self.auxiliary_weight = auxiliary_weight
        self.torchvision_name = "" if small else "inception_v3"
        if small:
            self.Conv2d_1a_3x3 = inception.BasicConv2d(in_channels, 32, kernel_size=3, padding=1)
            self.Conv2d_2a_3x3 = inception.BasicConv2d(32, 32, kernel_size=3, padding=1)
            self.maxpool1 = nn.Identity()
            self.Conv2d_4a_3x3 = inception.BasicConv2d(80, 192, kernel_size=3, padding=1)
            self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        elif in_channels != 3:
            self.Conv2d_1a_3x3 = inception.BasicConv2d(in_channels, 32, kernel_size=3, stride=2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # torchvision truncates at 20 standard deviations
                nn.init.normal_(layer.weight, std=getattr(layer, "stddev", DEFAULT_STD))

    def auxiliary_heads(self) -> Sequence[nn.Module]:
        """Return the auxiliary head, if there is one."""
        return [head for head in (self.AuxLogits,) if head is not None]
