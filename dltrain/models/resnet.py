"""Residual networks: torchvision's with two stems, and a small one for a processor."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torchvision.models import resnet

from dltrain.models.vision import Stem, is_small, refuse_below, stem_convolution
from dltrain.types import PositiveInt

STAGES: dict[int, tuple[type[nn.Module], list[int]]] = {  # He et al. 2016, table 1: the block, and how many a stage
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


class Residual(nn.Module):
    """relu(x + F(x)) of maps (B, C, H, W), F two convolutions with batch norm: He et al. 2016, equations 1 and 2.

    Where F halves the image or changes its channels, x goes through a 1x1 convolution (option B of section 3.3).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.shortcut(x) + self.residual(x))


class SmallResNet(nn.Sequential):
    """Logits (B, num_classes) of images (B, C, H, W): a residual network that a processor trains in minutes.

    A stem, then a stage of `blocks` residual blocks for each of `widths`, all but the first halving the image, the average
    of each map, and a linear layer. The stem is a 3x3 convolution, or with `patch` 2 a 4x4 one by steps of 2, after which
    everything costs a quarter. ValueError for images that cannot be halved so often.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        widths: tuple[PositiveInt, ...] = (48, 96, 128),
        blocks: PositiveInt = 1,
        patch: Literal[1, 2] = 2,
    ) -> None:
        if not widths:
            raise ValueError("model.widths is empty: give the width of each stage, such as [48,96,128]")
        refuse_below(patch * 2 ** (len(widths) - 1), image_size, "resnet_small", True)
        stages: list[nn.Module] = [Residual(widths[0], widths[0], 1) for _ in range(blocks)]
        for before, width in pairwise(widths):
            stages += [Residual(before, width, 2), *(Residual(width, width, 1) for _ in range(blocks - 1))]
        super().__init__(
            nn.Conv2d(in_channels, widths[0], kernel_size=2 + patch, stride=patch, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], num_classes),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
