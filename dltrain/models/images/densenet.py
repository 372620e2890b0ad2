"""DenseNet: every layer sees the maps of all before it."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models import densenet

from dltrain.models.images.vision import Stem, is_small, refuse_below, stem_convolution
from dltrain.types import Fraction

LAYERS = {
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
}  # of the four dense blocks: Huang et al. 2017, table 1
GROWTH = 32  # maps that each layer adds


class DenseNet(densenet.DenseNet):
    """Logits (B, num_classes) of images (B, C, H, W) by Huang et al. 2017, "Densely Connected Networks", equation 2.

    A layer's input are the maps of all layers of its block before it, side by side, and it adds 32 of its own. It is
    torchvision's network, with its parameter names and initial weights. The small form begins with a 3x3 convolution and no
    pooling, so that its blocks see 32, 16, 8 and 4 of 32 pixels. `dropout` follows every layer, as in section 4.2.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        depth: Literal[121, 169] = 121,
        dropout: Fraction = 0.0,
        stem: Stem = "auto",
    ) -> None:
        small = is_small(stem, image_size)
        refuse_below(8 if small else 29, image_size, f"densenet{depth}", small)
        super().__init__(GROWTH, LAYERS[depth], drop_rate=dropout, num_classes=num_classes)
        self.torchvision_name = "" if small else f"densenet{depth}"
        if small or in_channels != 3:
            self.features.conv0 = stem_convolution(in_channels, 2 * GROWTH, small)
        if small:
            self.features.pool0 = nn.Identity()
