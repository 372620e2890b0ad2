"""Elementary operations on batches of images, each image by an amount of its own: what augmentations are put together of.

Images are (B, C, H, W) of floats in 0..255 with C = 1 (grey) or 3 (colour), amounts (B,). Each does what the function of
torchvision.transforms.v2.functional does that its docstring names, and leaves its input alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform

GREY = (0.2989, 0.587, 0.114)  # of red, green and blue, as in torchvision (ITU-R BT.601)
WHITE = 255.0


class PhotoTransform(ImageTransform):
    """An augmentation that knows what a colour is."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As it was; ValueError for images that are neither grey nor in colour."""
        if super().shape(shape)[0] not in (1, 3):
            raise ValueError(
                f"{type(self).__name__} works on grey and colour images, not on {shape[0]} channels"
            )
        return shape


def each(amounts: Tensor) -> Tensor:
    return amounts.view(-1, 1, 1, 1)


def grey(images: Tensor) -> Tensor:
    """Brightness (B, 1, H, W) as the eye weighs it."""
    if images.shape[1] == 1:
        return images
    return (images * torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)).sum(
        dim=1, keepdim=True
    )


def blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """`factors` of the images and the rest of the others; beyond 1 away from these."""
    return torch.lerp(others.expand_as(images), images, each(factors)).clamp_(0, WHITE)


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """adjust_brightness: 0 is black, 1 the image."""
    return (images * each(factors)).clamp_(0, WHITE)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """adjust_contrast: 0 is the mean grey of the image everywhere."""
    return blend(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """adjust_saturation: 0 is grey; grey images stay."""
    return images if images.shape[1] == 1 else blend(images, grey(images), factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """adjust_sharpness: 0 is smoothed by a window of 3x3 with 5 in its middle; the border stays."""
    height, width = images.shape[2:]
    if height <= 2 or width <= 2:
        return images
    # sums of sums: many times as fast as a convolution
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    window = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1].mul_(4).add_(window).div_(13)
    return blend(images, smooth, factors)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """adjust_hue: colours go round their circle by `turns` of it, -0.5..0.5; grey images stay.

    With maximum V, minimum V - R and hue h in sixths of the circle, a channel is V - R times what its distance on the
    circle from its own sixths says (the hexagon of HSV in one formula): V - R max(0, min(1, k, 4 - k)), k = (n + h) mod 6
    with n = 5, 3, 1 for red, green and blue.
    """
    if images.shape[1] == 1:
        return images
    low, high = torch.aminmax(images, dim=1, keepdim=True)
    spread = high - low
    red, green, blue = images.split(1, dim=1)
    divisor = torch.where(spread > 0, spread, 1)
    sixths = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    k = (
        sixths
        + 6 * each(turns)
        + torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    ).remainder_(6)
    return high - spread * torch.minimum(k, 4 - k).clamp_(0, 1)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """posterize: only the highest `bits` of eight stay."""
    step = each(2 ** (8 - bits.round()))
    return (images / step).floor_().mul_(step)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """solarize: what is at least the threshold (0..255) is inverted."""
    return torch.where(images >= each(thresholds), WHITE - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """autocontrast: each channel is stretched to 0..255, unless it is all the same."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1, WHITE / (high - low))
    return ((images - torch.where(flat, 0, low)) * scale).clamp_(0, WHITE)


def equalize(images: Tensor) -> Tensor:
    """equalize: each channel's values are spread so that all are about as frequent, as PIL does it."""
    count, channels, height, width = images.shape
    values = images.round().long().flatten(2)  # (B, C, HW)
    histogram = torch.zeros(count, channels, 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, values, torch.ones_like(values))
    below = histogram.cumsum(dim=2)
    brightest = histogram.gather(2, values.amax(dim=2, keepdim=True))
    step = (height * width - brightest) // 255
    table = ((below - histogram + step // 2) // step.clamp_min(1)).clamp_(0, 255)
    return torch.where(step > 0, table.gather(2, values), values).view_as(images).to(images)
