"""Elementary operations of augmentations on batches of images, each image by its own amount.

Images are (B, C, H, W) of floats in 0..255 with C = 1 (gray) or 3 (color), amounts (B,). Each
operation does what the function of torchvision.transforms.v2.functional does that its docstring
names, and does not change its input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green, blue: torchvision's (ITU-R BT.601)
WHITE = 255.0


class PhotoTransform(ImageTransform):
    """An augmentation for gray images and images in color."""

    def image_shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
        """Return the same shape; ValueError for images that are neither gray nor in color."""
        if channels not in (1, 3):
            raise ValueError(
                f"{type(self).__name__} works on gray and color images, not on {channels} channels"
            )
        return channels, height, width


def each(amounts: Tensor) -> Tensor:
    """Return amounts (B,) as (B, 1, 1, 1), one for each image."""
    return amounts.view(-1, 1, 1, 1)


def gray(images: Tensor) -> Tensor:
    """Return the brightness (B, 1, H, W) as the eye weighs the colors."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor(GRAY_WEIGHTS, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """Return `factors` of the images and the rest of the others; above 1, away from these."""
    return torch.lerp(others.expand_as(images), images, each(factors)).clamp_(0, WHITE)


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Change the brightness (adjust_brightness): 0 is black, 1 the image."""
    return (images * each(factors)).clamp_(0, WHITE)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Change the contrast (adjust_contrast): 0 is the mean gray of the image everywhere."""
    return blend(images, gray(images).mean(dim=(1, 2, 3), keepdim=True), factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Change the saturation (adjust_saturation): 0 is gray; gray images stay."""
    if images.shape[1] == 1:
        return images
    return blend(images, gray(images), factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Change the sharpness (adjust_sharpness); the border stays.

    0 is the image smoothed by a window of 3x3 with 5 at its center.
    """
    height, width = images.shape[2:]
    if height <= 2 or width <= 2:
        return images
    # Sums of sums are many times as fast as a convolution.
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    window = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1].mul_(4).add_(window).div_(13)
    return blend(images, smooth, factors)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate the colors by `turns` of their circle, -0.5..0.5 (adjust_hue); gray images stay.

    With maximum V, range R (maximum minus minimum) and hue h in sixths of the circle, a channel is
    V - R max(0, min(1, k, 4 - k)), k = (n + h) mod 6 with n = 5, 3, 1 for red, green and blue: the
    hexagon of HSV in one formula.
    """
    if images.shape[1] == 1:
        return images
    low, high = torch.aminmax(images, dim=1, keepdim=True)
    spread = high - low
    red, green, blue = images.split(1, dim=1)
    divisor = torch.where(spread > 0, spread, 1)
    from_green = 2 + (blue - red) / divisor
    from_blue = 4 + (red - green) / divisor
    not_red = torch.where(high == green, from_green, from_blue)
    sixths = torch.where(high == red, (green - blue) / divisor, not_red)
    channels = torch.arange(5.0, 0.0, -2.0, device=images.device).view(1, 3, 1, 1)  # 5, 3, 1
    k = (sixths + 6 * each(turns) + channels).remainder_(6)
    return high - spread * torch.minimum(k, 4 - k).clamp_(0, 1)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep only the highest `bits` of eight (posterize)."""
    step = each(2 ** (8 - bits.round()))
    return (images / step).floor_().mul_(step)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert values from the threshold (0..255) on (solarize)."""
    return torch.where(images >= each(thresholds), WHITE - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to 0..255, unless it is constant (autocontrast)."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1, WHITE / (high - low))
    return ((images - torch.where(flat, 0, low)) * scale).clamp_(0, WHITE)


def equalize(images: Tensor) -> Tensor:
    """Spread the values of each channel so that all are about equally frequent (equalize)."""
    count, channels, height, width = images.shape
    values = images.round().long().flatten(2)  # (B, C, HW)
    histogram = torch.zeros(count, channels, 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, values, torch.ones_like(values))
    below = histogram.cumsum(dim=2)
    brightest = histogram.gather(2, values.amax(dim=2, keepdim=True))
    step = (height * width - brightest) // 255
    table = ((below - histogram + step // 2) // step.clamp_min(1)).clamp_(0, 255)
    return torch.where(step > 0, table.gather(2, values), values).view_as(images).to(images)
