"""The network of a speed record on CIFAR-10, with a first layer that is computed from the data."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from dltrain.models.images.vision import refuse_below
from dltrain.types import PositiveFloat

PATCH = 2  # pixels a side, of the whitening layer's kernels
WIDTHS = (64, 256, 256)  # channels of the three groups
NORM_MOMENTUM = 0.4  # weight of the newest batch in the running statistics
NORM_EPSILON = 1e-12
EIGENVALUE_FLOOR = 5e-4  # added to the variances that the whitening layer divides by
OUTPUT_SCALE = 1 / 9
HALVINGS = 3
MIN_PIXELS = 2 ** (HALVINGS - 1) + 1  # after three poolings of which the last may be left out


class Whitening(nn.Conv2d):
    """A convolution whose outputs are uncorrelated and of variance 1 over the training images.

    Maps images (B, C, H, W) to (B, 2 C 4, H - 1, W - 1): the projections of each patch of 2x2
    pixels on the eigenvectors of the patches' covariance, divided by the standard deviations along
    them, and the negatives of these. The kernels are not trained, the bias is. Before
    `initialize_from` the patches count as white already.
    """

    def __init__(self, in_channels: int) -> None:
        size = in_channels * PATCH**2
        super().__init__(in_channels, 2 * size, PATCH)
        kernels = torch.eye(size).view(size, in_channels, PATCH, PATCH)
        del self.weight
        self.register_buffer("weight", torch.cat([kernels, -kernels]))
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def initialize_from(self, images: Tensor) -> None:
        """Compute the kernels from the patches of standardized images (B, C, H, W)."""
        covariance = patch_covariance(images).cpu()
        variances, vectors = torch.linalg.eigh(covariance)  # in ascending order
        scaled = vectors / (variances + EIGENVALUE_FLOOR).sqrt()  # a column for each kernel
        kernels = scaled.T.flip(0).view_as(self.weight[: len(scaled)])
        self.weight.copy_(torch.cat([kernels, -kernels]))


def patch_covariance(images: Tensor) -> Tensor:
    """Return the mean (D, D) of x x^T over all patches x (D = C 4) of images (B, C, H, W)."""
    channels = images.shape[1]
    patches = images.float().unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # (B, C, H - 1, W - 1, 2, 2)
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * PATCH**2)
    return rows.T @ rows / len(rows)


class ShiftNorm(nn.BatchNorm2d):
    """Batch norm with a trained shift and no scale, which the next convolution has already."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)
        del self.weight
        self.register_buffer("weight", torch.ones(channels))


def passing_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3x3 convolution whose first kernels pass the input channels on as they are.

    The network begins as a residual one does, without the additions.
    """
    layer = nn.Conv2d(in_channels, out_channels, 3, padding="same", bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:in_channels])
    return layer


class Group(nn.Module):
    """Two convolutions with norm and GELU, the first with max-pooling right after it.

    Maps (B, C, H, W) to (B, K, H / 2, W / 2). Without `pools` the size stays.
    """

    def __init__(self, in_channels: int, out_channels: int, pools: bool) -> None:
        super().__init__()
        self.conv1 = passing_convolution(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2) if pools else nn.Identity()
        self.norm1 = ShiftNorm(out_channels)
        self.conv2 = passing_convolution(out_channels, out_channels)
        self.norm2 = ShiftNorm(out_channels)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps (B, K, H / 2, W / 2) of x (B, C, H, W)."""
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        out: Tensor = self.activation(self.norm2(self.conv2(x)))
        return out


class Airbench(nn.Module):
    """The network of airbench94 (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU").

    Maps images (B, C, H, W) to logits (B, num_classes): a `Whitening` layer, three groups of two
    convolutions, global max-pooling and a linear layer, whose outputs are divided by 9 (section
    3.1). For images of 32 pixels all sizes are those of the paper. The whitening layer is computed
    from training images when a run begins (section 3.2).

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes.
        width_factor: Factor of the channels of the groups, which are 64, 256 and 256. A quarter
            trains on a CPU.

    Raises:
        ValueError: The images are too small.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        width_factor: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        refuse_below(MIN_PIXELS, image_size, "airbench", True)
        self.whiten = Whitening(in_channels)
        side = min(image_size) - PATCH + 1
        widths = [max(8, round(width * width_factor)) for width in WIDTHS]
        groups: list[nn.Module] = []
        for before, width in pairwise([self.whiten.out_channels, *widths]):
            groups.append(Group(before, width, pools=side > 1))
            side //= 2
        self.activation = nn.GELU()
        self.groups = nn.Sequential(*groups)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.output = nn.Linear(widths[-1], num_classes, bias=False)

    def initialize_from(self, images: Tensor) -> None:
        """Compute the whitening layer from standardized training images (B, C, H, W)."""
        self.whiten.initialize_from(images)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images x (B, C, H, W)."""
        maps = self.groups(self.activation(self.whiten(x)))
        logits: Tensor = self.output(self.pool(maps).flatten(1)) * OUTPUT_SCALE
        return logits
