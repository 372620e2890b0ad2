"""AlexNet."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.models.images.vision import Stem, is_small, refuse_below
from dltrain.types import Fraction


class AlexNet(nn.Module):
    """AlexNet as in Krizhevsky 2014, "One Weird Trick for Parallelizing CNNs", section 4.

    Maps images (B, C, H, W) to logits (B, num_classes). Five convolutions and three dense layers
    with `dropout`: the network of Krizhevsky et al. 2012, "ImageNet Classification", with one
    column and without local response normalization. The large form equals torchvision's, with its
    parameter names. The small form has only 3x3 convolutions, max-pooling after the first, second
    and last one, and dense layers of 1,024 units.

    Raises:
        ValueError: The images are too small for the form.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        dropout: Fraction = 0.5,
        stem: Stem = "auto",
    ) -> None:
        super().__init__()
        small = is_small(stem, image_size)
        refuse_below(8 if small else 63, image_size, "alexnet", small)
        self.torchvision_name = "" if small else "alexnet"
        if small:
            first = nn.Conv2d(in_channels, 64, 3, padding=1)
            second = nn.Conv2d(64, 192, 3, padding=1)
            window = 2  # of the pooling
            side = 4  # pixels before the dense layers
            hidden = 1024  # units of a dense layer
        else:
            first = nn.Conv2d(in_channels, 64, 11, stride=4, padding=2)
            second = nn.Conv2d(64, 192, 5, padding=2)
            window = 3
            side = 6
            hidden = 4096
        self.features = nn.Sequential(  # sizes of the large form at 224 pixels
            first,  # (B, 64, 55, 55)
            nn.ReLU(inplace=True),
            nn.MaxPool2d(window, stride=2),  # (B, 64, 27, 27)
            second,  # (B, 192, 27, 27)
            nn.ReLU(inplace=True),
            nn.MaxPool2d(window, stride=2),  # (B, 192, 13, 13)
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(window, stride=2),  # (B, 256, 6, 6)
        )
        self.avgpool = nn.AdaptiveAvgPool2d((side, side))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * side * side, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, C, H, W)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits
