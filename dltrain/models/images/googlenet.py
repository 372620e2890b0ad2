"""GoogLeNet: blocks of parallel convolutions, and heads in the middle that only training has."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models.googlenet import BasicConv2d
from torchvision.models.googlenet import GoogLeNet as Published

from dltrain.models.images.vision import Stem, is_small, refuse_below
from dltrain.types import Fraction, NonNegative


class GoogLeNet(Published):
    """Logits (B, num_classes) of images (B, C, H, W) by Szegedy et al. 2015, "Going Deeper with Convolutions", table 1.

    While it trains, logits of two auxiliary heads come with them: see `types.AuxiliaryHeads`. Section 5 counts their
    losses 0.3 each and drops them afterwards; with an `auxiliary_weight` of 0 there are none. It is torchvision's network,
    with batch norm, its parameter names and its initial weights. The small form begins with one 3x3 convolution
    to 192 maps and pools only between the groups of blocks (github.com/kuangliu/pytorch-cifar). `dropout` stands before
    the last layer, that of the heads, 0.7, is the paper's.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        auxiliary_weight: NonNegative = 0.3,
        dropout: Fraction = 0.4,
        stem: Stem = "auto",
    ) -> None:
        small = is_small(stem, image_size)
        refuse_below(8 if small else 32, image_size, "googlenet", small)
        super().__init__(num_classes, auxiliary_weight > 0, init_weights=False, dropout=dropout)
        self.auxiliary_weight, self.torchvision_name = (
            auxiliary_weight,
            "" if small else "googlenet",
        )
        if small:
            self.conv1 = BasicConv2d(in_channels, 192, kernel_size=3, padding=1)
            self.maxpool1 = self.conv2 = self.conv3 = self.maxpool2 = nn.Identity()
        elif in_channels != 3:
            self.conv1 = BasicConv2d(in_channels, 64, kernel_size=7, stride=2, padding=3)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(
                    layer.weight, std=0.01
                )  # torchvision cuts it off at 200 deviations, which takes seconds

    def auxiliary_heads(self) -> Sequence[nn.Module]:
        return [head for head in (self.aux1, self.aux2) if head is not None]
