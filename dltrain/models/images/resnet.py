"""Residual networks: torchvision's with two stems, and a small one for a CPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torchvision.models import resnet

from dltrain.models.images.vision import Stem, is_small, refuse_below, stem_convolution
from dltrain.types import PositiveInt

Stages: TypeAlias = tuple[type[nn.Module], list[int]]
STAGES: dict[int, Stages] = {  # He et al. 2016, table 1: the block, and how many per stage
    18: (resnet.BasicBlock, [2, 2, 2, 2]),
    34: (resnet.BasicBlock, [3, 4, 6, 3]),
    50: (resnet.Bottleneck, [3, 4, 6, 3]),
    101: (resnet.Bottleneck, [3, 4, 23, 3]),
}


class ResNet(resnet.ResNet):
    """ResNet (He et al. 2016, "Deep Residual Learning for Image Recognition", table 1).

    Maps images (B, C, H, W) to logits (B, num_classes). A block learns a residual that is added to
    its input (equation 1), so gradients pass through any number of blocks. The network is
    torchvision's, with its parameter names and initial weights, and with stride 2 in the 3x3
    convolution of a bottleneck. The small form begins with a 3x3 convolution of stride 1 and no
    pooling; the widths stay 64, 128, 256 and 512 (github.com/kuangliu/pytorch-cifar).

    Raises:
        ValueError: The images are too small for the form.
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
    """Return a 3x3 convolution, batch norm and ReLU.

    If `pooled`, max-pooling comes right after the convolution, so that norm and ReLU have a quarter
    of the work.
    """
    layer = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    layers: list[nn.Module] = [layer]
    if pooled:
        layers.append(nn.MaxPool2d(2))
    layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """A residual block of one convolution with batch norm and ReLU.

    Maps feature maps x (B, C, H, W) to x + F(x) (He et al. 2016, equation 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + F(x) for feature maps x (B, C, H, W)."""
        out: Tensor = x + self.residual(x)
        return out


class SmallResNet(nn.Sequential):
    """A residual network that trains in minutes on a CPU.

    Maps images (B, C, H, W) to logits (B, num_classes). The stem has two 3x3 convolutions. Each
    stage has a convolution with max-pooling and `blocks` residual blocks. Global average pooling
    and a linear layer follow. A CPU computes small feature maps with many channels fastest.
    Pooling between convolution and norm, and residual blocks of one convolution, are after
    github.com/KellerJordan/cifar10-airbench.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes.
        stem_channels: Channels of the two convolutions of the stem.
        widths: Channels of each stage.
        blocks: Residual blocks per stage.
        stem_halving: The way in which the stem halves the image: max-pooling, stride 2, or not at
            all.

    Raises:
        ValueError: `widths` is empty, or the images cannot be halved that often.
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
        stride = 2 if stem_halving == "stride" else 1
        super().__init__(
            convolution(in_channels, stem_channels[0]),
            convolution(*stem_channels, stride, pooled=stem_halving == "pool"),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], num_classes),
        )
