"""A convolutional classifier with region pooling, as detectors use it."""

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
    """Blocks of convolution and pooling, region pooling, and a linear output layer.

    Maps images (B, C, H, W) to logits (B, num_classes). All regions together go into the output
    layer: a spatial pyramid (He et al. 2014, "Spatial Pyramid Pooling in Deep Convolutional
    Networks", section 2.2), so that a trained network processes images of any size.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes.
        channels: Channels of each block, which halves the image.
        norm: Normalization after every convolution.
        activation: Activation after every convolution.
        pooling: Pooling at the end of every block.
        regions: An entry n divides the image into n x n regions: (1, 2) are the whole image and
            its quarters, five regions.
        region_pooling: Each region is pooled to `region_size` x `region_size` numbers per channel:
            with "max", the maximum of each part with borders rounded to pixels of the feature map
            (RoI pooling; Girshick 2015, "Fast R-CNN", section 2.1); with "align", the mean of
            `samples` x `samples` interpolated points (He et al. 2017, "Mask R-CNN", section 3).
        region_size: Height and width of a pooled region.
        samples: Interpolated points per side of a part.
        dropout: Dropout probability before the output layer.

    Raises:
        ValueError: The image cannot be halved that often, or `regions` is empty.
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
                f"model=cnn_roi halves the image {len(channels)} times: "
                f"{image_size[0]}x{image_size[1]} pixels are too few; "
                "give model.channels fewer entries"
            )
        if not regions:
            raise ValueError(
                '"model.regions=[]" has no region: [1] is the whole image, [1,2] adds its quarters'
            )
        layers: list[nn.Module] = []
        fan_in = in_channels
        for fan_out in channels:
            layers += [
                nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=norm == "none"),
                *channel_norm(norm, fan_out),
                activation_layer(activation),
                pool(pooling),
            ]
            fan_in = fan_out
        self.maps = nn.Sequential(*layers)
        self.region_pooling = region_pooling
        self.region_size = region_size
        self.samples = samples
        self.register_buffer("shares", torch.tensor(grid(regions)), persistent=False)
        width = len(self.shares) * fan_in * region_size**2
        self.head = nn.Sequential(
            nn.Flatten(), *dropout_layer(dropout), nn.Linear(width, num_classes)
        )

    shares: Tensor  # (R, 4): x1, y1, x2, y2 of each region, relative to width and height

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, C, H, W)."""
        logits: Tensor = self.head(self.pooled(self.maps(x)))
        return logits

    def pooled(self, maps: Tensor) -> Tensor:
        """Pool all regions of feature maps (B, C, H', W') to (B, R, C, S, S)."""
        height, width = maps.shape[2:]
        boxes = self.shares * self.shares.new_tensor([width, height, width, height])
        maps = maps.contiguous()  # the operators are several times as slow on channels-last maps
        boxes_per_image = [boxes.to(maps.dtype)] * len(maps)
        size = self.region_size
        if self.region_pooling == "max":
            pooled = roi_pool(maps, boxes_per_image, size)
        else:
            pooled = roi_align(
                maps, boxes_per_image, size, sampling_ratio=self.samples, aligned=True
            )
        return pooled.view(len(maps), len(boxes), *pooled.shape[1:])


def grid(regions: tuple[int, ...]) -> list[list[float]]:
    """Return the regions row by row: x1, y1, x2, y2 relative to width and height."""
    return [
        [x / n, y / n, (x + 1) / n, (y + 1) / n]
        for n in regions
        for y in range(n)
        for x in range(n)
    ]
