"""A convolutional classifier whose last pooling is that of regions: what detectors do, on its own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import channel_norm, pool
from dltrain.models.layers import dropout as dropout_layer
from dltrain.types import Activation, Fraction, Norm, Pooling, PositiveInt


class CNNRoI(nn.Module):
    """Logits (B, num_classes) of images (B, C, H, W): blocks of a convolution and pooling, whose maps regions are cut from.

    An entry n of `regions` divides the image into n x n regions: (1, 2) are the whole and its quarters, five in all. Each is
    a box on the last feature map, whatever its size, and becomes `region_size` x `region_size` numbers a channel: either
    the largest of each part, with borders rounded to whole pixels of the map (`max`, RoI pooling; Girshick 2015, "Fast
    R-CNN", section 2.1), or the mean of `samples` x `samples` points of each part, interpolated between pixels (`align`;
    He et al. 2017, "Mask R-CNN", section 3). All regions together go into the output layer: a spatial pyramid (He et al.
    2014, "Spatial Pyramid Pooling in Deep Convolutional Networks", section 2.2), so images may be of any size once it is
    trained.
    ValueError for images that cannot be halved so often.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        channels: tuple[PositiveInt, ...] = (32, 64),
        norm: Norm = "batch",
        activation: Activation = "relu",
        pooling: Pooling = "max",
        regions: tuple[PositiveInt, ...] = (1, 2),
        region_pooling: Literal["align", "max"] = "align",
        region_size: PositiveInt = 2,
        samples: PositiveInt = 2,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if min(image_size) < 2 ** len(channels):
            raise ValueError(
                f"model=cnn_roi halves the image {len(channels)} times: {image_size[0]}x{image_size[1]} pixels are too few; "
                "give model.channels fewer entries"
            )
        if not regions:
            raise ValueError(
                "model.regions=[] pools nothing: [1] is the whole image, [1, 2] that and its quarters"
            )
        layers: list[nn.Module] = []
        fan_in = in_channels
        for fan_out in channels:
            layers += [
                nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=norm == "none"),
                *channel_norm(norm, fan_out),
            ]
            layers += [activation_layer(activation), pool(pooling)]
            fan_in = fan_out
        self.maps = nn.Sequential(*layers)
        self.region_pooling, self.region_size, self.samples = region_pooling, region_size, samples
        self.register_buffer("shares", torch.tensor(grid(regions)), persistent=False)
        width = len(self.shares) * fan_in * region_size**2
        self.head = nn.Sequential(
            nn.Flatten(), *dropout_layer(dropout), nn.Linear(width, num_classes)
        )

    shares: Tensor  # of the image's width and height, a region a row: x1, y1, x2, y2

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pooled(self.maps(x)))
        return logits

    def pooled(self, maps: Tensor) -> Tensor:
        """(B, R, C, S, S) of feature maps (B, C, H', W'): every region at the same size."""
        height, width = maps.shape[2:]
        boxes = self.shares * self.shares.new_tensor([width, height, width, height])  # on the map
        maps = (
            maps.contiguous()
        )  # the operators are several times as slow on maps with channels last
        each = [boxes.to(maps.dtype)] * len(maps)
        if self.region_pooling == "max":
            found = roi_pool(maps, each, self.region_size)
        else:
            found = roi_align(
                maps, each, self.region_size, sampling_ratio=self.samples, aligned=True
            )
        return found.view(len(maps), len(boxes), *found.shape[1:])


def grid(regions: tuple[int, ...]) -> list[list[float]]:
    """The regions of an image, row by row: x1, y1, x2, y2 as shares of its width and height."""
    return [
        [x / n, y / n, (x + 1) / n, (y + 1) / n]
        for n in regions
        for y in range(n)
        for x in range(n)
    ]
