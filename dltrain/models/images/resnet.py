"""Residual networks: torchvision's with two stems, and a small one for a processor."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torchvision.models import resnet

from dltrain.models.images.vision import Stem, is_small, refuse_below, stem_convolution
from dltrain.types import PositiveInt

STAGES: dict[
    int, tuple[type[nn.Module], list[int]]
] = {  # He et al. 2016, table 1: the block, and how many a stage
    18: (resnet.BasicBlock, [2, 2, 2, 2]),
    34: (resnet.BasicBlock, [3, 4, 6, 3]),
    50: (resnet.Bottleneck, [3, 4, 6, 3]),
    101: (resnet.Bottleneck, [3, 4, 23, 3]),
}


class ResNet(resnet.ResNet):
    """Logits (B, num_classes) of images (B, C, H, W) by He et al. 2016, "Deep Residual Learning", table 1.

    A block learns what to add to its input (equation 1), so that gradients pass through any number of them. It is
    torchvision's network, with its parameter names and initial weights, also its stride in the 3x3 convolution of a
    bottleneck. The small form begins with a 3x3 convolution and no pooling, and so sees 32 pixels as the large one sees
    224 after its first quarter; widths stay 64, 128, 256, 512 (github.com/kuangliu/pytorch-cifar).
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        depth: Literal[18, 34, 50, 101] = 18,
        stem: Stem = "auto",
    ) -> None:
        small = is_small(stem, image_size)
        refuse_below(8 if small else 32, image_size, f"resnet{depth}", small)
        super().__init__(*STAGES[depth], num_classes=num_classes)
        self.torchvision_name = "" if small else f"resnet{depth}"
        if small or in_channels != 3:
            self.conv1 = stem_convolution(in_channels, 64, small)
        if small:
            self.maxpool = nn.Identity()


def convolution(
    in_channels: int, out_channels: int, stride: int = 1, pooled: bool = False
) -> nn.Sequential:
    """A 3x3 convolution, batch norm and ReLU; the largest of every 2x2 pixels goes on if `pooled`, before both, which
    then have a quarter to do."""
    layer = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(
        layer,
        *([nn.MaxPool2d(2)] if pooled else []),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """x + F(x) of maps (B, C, H, W), F a convolution with batch norm and ReLU: He et al. 2016, equation 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.residual(x)
        return out


class SmallResNet(nn.Sequential):
    """Logits (B, num_classes) of images (B, C, H, W): a residual network that a processor trains in minutes.

    A stem of two 3x3 convolutions with the two numbers of channels `stem_channels`, the second of which halves the image,
    as `stem_halving` says, by max-pooling, by steps of two, or not at all; of each of `widths` a convolution that halves
    it by max-pooling and `blocks` residual ones; the average of each map, and a linear layer. Small and wide maps are what
    a processor computes fastest; that pooling stands between convolution and norm, and one path around a convolution and
    not two, is after github.com/KellerJordan/cifar10-airbench.
    ValueError for images that cannot be halved so often.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        stem_channels: tuple[PositiveInt, PositiveInt] = (16, 48),
        widths: tuple[PositiveInt, ...] = (112, 128),
        blocks: PositiveInt = 1,
        stem_halving: Literal["pool", "stride", "none"] = "pool",
    ) -> None:
        if not widths:
            raise ValueError(
                "model.widths is empty: give the width of each stage, such as [112,128]"
            )
        halvings = len(widths) + (stem_halving != "none")
        refuse_below(2**halvings, image_size, "resnet_small", True)
        stages: list[nn.Module] = []
        for before, width in pairwise([stem_channels[1], *widths]):
            stages += [
                convolution(before, width, pooled=True),
                *(Residual(width) for _ in range(blocks)),
            ]
        super().__init__(
            convolution(in_channels, stem_channels[0]),
            convolution(
                *stem_channels, 2 if stem_halving == "stride" else 1, stem_halving == "pool"
            ),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], num_classes),
        )
