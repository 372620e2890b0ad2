"""GoogLeNet: blocks of parallel convolutions, and auxiliary heads during training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models.googlenet import BasicConv2d
from torchvision.models.googlenet import GoogLeNet as Published

from dltrain.models.images.vision import Stem, is_small, refuse_below
from dltrain.types import Fraction, NonNegative


class GoogLeNet(Published):
    """GoogLeNet (Szegedy et al. 2015, "Going Deeper with Convolutions", table 1).

    Maps images (B, C, H, W) to logits (B, num_classes). In training mode it returns the logits of
    two auxiliary heads as well (`AuxiliaryHeads`). Section 5 weighs their losses by 0.3 and drops
    the heads after training; with an `auxiliary_weight` of 0 there are none. The network is
    torchvision's, with batch norm, its parameter names and its initial weights. The small form
    begins with one 3x3 convolution to 192 maps and pools only between the groups of blocks
    (github.com/kuangliu/pytorch-cifar). `dropout` applies before the last layer; that of the
    heads is 0.7, as in the paper.

    Raises:
        ValueError: The images are too small for the form.
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
        self.auxiliary_weight = auxiliary_weight
        self.torchvision_name = "" if small else "googlenet"
        if small:
            self.conv1 = BasicConv2d(in_channels, 192, kernel_size=3, padding=1)
            self.maxpool1 = self.conv2 = self.conv3 = self.maxpool2 = nn.Identity()
        elif in_channels != 3:
            self.conv1 = BasicConv2d(in_channels, 64, kernel_size=7, stride=2, padding=3)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # torchvision truncates at 200 standard deviations, which takes seconds
                nn.init.normal_(layer.weight, std=0.01)

    def auxiliary_heads(self) -> Sequence[nn.Module]:
        """Return the auxiliary heads."""
        return [head for head in (self.aux1, self.aux2) if head is not None]
