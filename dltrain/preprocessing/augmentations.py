"""The fourteen augmentations of RandAugment and TrivialAugment, on batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.preprocessing import operations
from dltrain.preprocessing.affine import rotation_maps, warp
from dltrain.types.transfers import sent, sent_like

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
WITH_FACTOR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": operations.brightness,
    "saturation": operations.saturation,
    "contrast": operations.contrast,
    "sharpness": operations.sharpness,
}
WITH_AMOUNT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **WITH_FACTOR,
    "posterize": operations.posterize,
    "solarize": operations.solarize,
}
WITHOUT_AMOUNT: dict[str, Callable[[Tensor], Tensor]] = {
    "autocontrast": operations.autocontrast,
    "equalize": operations.equalize,
}
AUGMENTATIONS = ("identity", *GEOMETRIC, *WITH_AMOUNT, *WITHOUT_AMOUNT)
NUMBER = {name: i for i, name in enumerate(AUGMENTATIONS)}

# All geometric augmentations are one warp, and so are changed in one call; each other one is a
# group of its own.
GROUPS = ("identity", "geometric", *WITH_AMOUNT, *WITHOUT_AMOUNT)
GROUP_OF = torch.tensor(
    [GROUPS.index("geometric" if name in GEOMETRIC else name) for name in AUGMENTATIONS]
)


@dataclass(frozen=True)
class Strongest:
    """The amounts at a magnitude of 1.

    `shear` is in pixels a pixel, `translate` in pixels (x, y), `factor` how far from 1 the factors
    of brightness, saturation, contrast and sharpness are, and `bits` how many of eight bits
    posterizing removes.
    """

    shear: float
    translate: tuple[float, float]
    degrees: float
    factor: float
    bits: float


def random_signs(count: int, generator: torch.Generator) -> Tensor:
    """Return `count` random numbers of 1 or -1."""
    return torch.randint(2, (count,), generator=generator) * 2.0 - 1


def augment(
    images: Tensor, chosen: Tensor, magnitudes: Tensor, signs: Tensor, strongest: Strongest
) -> Tensor:
    """Return images (B, C, H, W), each by the augmentation `chosen` (B,) for it.

    Each has a magnitude (B,) in 0..1 and a sign (B,) of 1 or -1; all three are on the CPU. Images
    of the same augmentation are changed together, all geometric ones in one warp: at most nine
    calls a batch.
    """
    signed = magnitudes * signs
    amounts = {
        **dict.fromkeys(WITH_FACTOR, 1 + signed * strongest.factor),
        "posterize": 8 - (magnitudes * strongest.bits).round(),
        "solarize": operations.WHITE * (1 - magnitudes),
    }
    group = GROUP_OF[chosen]
    order = group.argsort(stable=True)
    counts = torch.bincount(group, minlength=len(GROUPS)).tolist()
    sorted_images = images.index_select(0, sent(order, images.device))
    parts = []
    for name, rows, part in zip(
        GROUPS, order.split(counts), sorted_images.split(counts), strict=True
    ):
        if not len(rows) or name == "identity":
            parts.append(part)
        elif name == "geometric":
            maps, shifts = moves(chosen[rows], signed[rows], strongest, images.shape[2:])
            parts.append(warp(part, sent_like(maps, images), sent_like(shifts, images)))
        elif name in WITH_AMOUNT:
            parts.append(WITH_AMOUNT[name](part, sent_like(amounts[name][rows], images)))
        else:
            parts.append(WITHOUT_AMOUNT[name](part))
    return torch.cat(parts).index_select(0, sent(order.argsort(), images.device))


def moves(
    chosen: Tensor, amounts: Tensor, strongest: Strongest, size: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return the maps (B, 2, 2) and shifts (B, 2) for `warp` of geometric augmentations (B,).

    `amounts` (B,) are signed fractions of the strongest. As in torchvision, a shear keeps the
    image's first row or column where it is, and shifts are whole pixels.
    """
    height, width = size

    def amount(name: str, most: float) -> Tensor:
        return torch.where(chosen == NUMBER[name], amounts * most, 0.0)

    shear_x = amount("shear_x", strongest.shear)
    shear_y = amount("shear_y", strongest.shear)
    across = amount("translate_x", strongest.translate[0]).trunc()
    down = amount("translate_y", strongest.translate[1]).trunc()
    angle = amount("rotate", strongest.degrees * math.pi / 180)
    maps = rotation_maps(angle, torch.zeros_like(angle))
    maps[:, 0, 1] -= shear_x
    maps[:, 1, 0] -= shear_y
    x = (across - shear_x * height / 2) / width
    y = (down - shear_y * width / 2) / height
    return maps, torch.stack([x, y], dim=1)
