"""Inception v3: GoogLeNet's blocks, with large convolutions taken apart into small ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import inception

from dltrain.models.images.vision import Stem, is_small, refuse_below
from dltrain.types import Fraction, NonNegative

LARGE_FROM = 75  # pixels: the least that the large form takes


class Head(inception.InceptionAux):
    """Logits (B, num_classes) of maps (B, 768, H, W) in the network's middle: torchvision's head, but that it takes maps
    of less than 17x17 too, by their averages over a grid of 5x5."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 5, 3) if min(x.shape[2:]) >= 17 else F.adaptive_avg_pool2d(x, 5)
        x = self.conv1(self.conv0(x))  # (B, 768, 1, 1) of 17x17
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


BLOCKS = [
    inception.BasicConv2d,
    *(getattr(inception, f"Inception{letter}") for letter in "ABCDE"),
    Head,
]


class InceptionV3(inception.Inception3):
    """Logits (B, num_classes) of images (B, C, H, W) by Szegedy et al. 2016, "Rethinking the Inception Architecture".

    Table 1 has it. While it trains, those of an auxiliary head come with them: see `types.AuxiliaryHeads`. Its loss counts
    `auxiliary_weight`; with 0 there is none. It is torchvision's network, with its parameter names and initial weights,
    for 299 pixels or any number from 75 on. The small form goes through its first five convolutions by single steps and
    pools once, not twice, so that the three groups of blocks see 16, 7 and 3 of 32 pixels instead of 35, 17 and 8 of 299.
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
        small = is_small(stem, image_size, LARGE_FROM)
        refuse_below(14 if small else LARGE_FROM, image_size, "inception_v3", small)
        super().__init__(
            num_classes, auxiliary_weight > 0, False, BLOCKS, init_weights=False, dropout=dropout
        )
        self.auxiliary_weight, self.torchvision_name = (
            auxiliary_weight,
            "" if small else "inception_v3",
        )
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
                nn.init.normal_(
                    layer.weight, std=getattr(layer, "stddev", 0.1)
                )  # torchvision cuts it off at 20 deviations

    def auxiliary_heads(self) -> Sequence[nn.Module]:
        return [self.AuxLogits] if self.AuxLogits is not None else []
