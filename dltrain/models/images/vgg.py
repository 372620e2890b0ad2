"""VGG: blocks of 3x3 convolutions, each block followed by pooling."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dltrain.models.images.vision import Stem, is_small, refuse_below
from dltrain.models.layers import dropout as dropout_layer
from dltrain.types import Fraction

WIDTHS = (64, 128, 256, 512, 512)  # of the five blocks
CONVOLUTIONS = {  # per block, by depth: Simonyan and Zisserman 2015, table 1
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """VGG (Simonyan and Zisserman 2015, "Very Deep Convolutional Networks", table 1).

    Maps images (B, C, H, W) to logits (B, num_classes). `depth` selects column A, B, D or E.
    `norm="batch"` adds batch norm after every convolution, as is usual today. The large form
    equals torchvision's, with its parameter names and initial weights. The small form has the same
    convolutions, which reduce 32 pixels to one, and one dense layer instead of three
    (github.com/kuangliu/pytorch-cifar): 15 million parameters instead of 138. `dropout` applies
    between dense layers; in the small form, before the only one.

    Raises:
        ValueError: The images are too small for the form.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        depth: Literal[11, 13, 16, 19] = 16,
        norm: Literal["none", "batch"] = "none",
        dropout: Fraction = 0.5,
        stem: Stem = "auto",
    ) -> None:
        super().__init__()
        small = is_small(stem, image_size)
        refuse_below(8 if small else 32, image_size, f"vgg{depth}", small)
        published = f"vgg{depth}_bn" if norm == "batch" else f"vgg{depth}"
        self.torchvision_name = "" if small else published
        layers: list[nn.Module] = []
        channels = in_channels
        for width, count in zip(WIDTHS, CONVOLUTIONS[depth], strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if norm == "batch":
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2, ceil_mode=small))  # rounding up suits 28 pixels too
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1) if small else (7, 7))
        if small:
            self.classifier = nn.Sequential(*dropout_layer(dropout), nn.Linear(512, num_classes))
        else:
            self.classifier = nn.Sequential(
                nn.Linear(512 * 7 * 7, 4096),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(4096, 4096),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(4096, num_classes),
            )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, C, H, W)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits
