"""DenseNet: every layer gets the feature maps of all earlier layers of its block."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models import densenet

from dltrain.models.images.vision import Stem, is_small, refuse_below, stem_convolution
from dltrain.types import Fraction

LAYERS = {  # of the four dense blocks: Huang et al. 2017, table 1
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
}
GROWTH_RATE = 32  # feature maps that each layer adds


class DenseNet(densenet.DenseNet):
    """DenseNet (Huang et al. 2017, "Densely Connected Convolutional Networks", equation 2).

    Maps images (B, C, H, W) to logits (B, num_classes). The input of a layer is the concatenation
    of the feature maps of all earlier layers of its block; it adds 32 maps. The network is
    torchvision's, with its parameter names and initial weights. The small form begins with a 3x3
    convolution and no pooling, so that its blocks get 32, 16, 8 and 4 pixels from an image of 32.
    `dropout` applies after every layer, as in section 4.2.

    Raises:
        ValueError: The images are too small for the form.
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
        super().__init__(GROWTH_RATE, LAYERS[depth], drop_rate=dropout, num_classes=num_classes)
        self.torchvision_name = "" if small else f"densenet{depth}"
        if small or in_channels != 3:
            self.features.conv0 = stem_convolution(in_channels, 2 * GROWTH_RATE, small)
        if small:
            self.features.pool0 = nn.Identity()
