"""The fourteen augmentations that RandAugment and TrivialAugment draw from, on batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.preprocessing import operations
from dltrain.preprocessing.affine import turned, warp

AUGMENTATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *(
        "brightness",
        "saturation",
        "contrast",
        "sharpness",
        "posterize",
        "solarize",
        "autocontrast",
        "equalize",
    ),
)
NUMBER = {name: i for i, name in enumerate(AUGMENTATIONS)}
GEOMETRIC = AUGMENTATIONS[1:6]
GROUPS = (("identity",), GEOMETRIC, *((name,) for name in AUGMENTATIONS[6:]))  # changed in one call
GROUP = torch.tensor(
    [next(i for i, names in enumerate(GROUPS) if name in names) for name in AUGMENTATIONS]
)
FACTORS = AUGMENTATIONS[6:10]


@dataclass(frozen=True)
class Strongest:
    """What a magnitude of 1 is: a shear in pixels a pixel, a shift in pixels (x, y), degrees, how far from 1 the factors of
    brightness, saturation, contrast and sharpness are, and how many of eight bits posterizing takes."""

    shear: float
    translate: tuple[float, float]
    degrees: float
    factor: float
    bits: float


def augment(
    images: Tensor, chosen: Tensor, magnitudes: Tensor, signs: Tensor, strongest: Strongest
) -> Tensor:
    """Images (B, C, H, W), each by the augmentation `chosen` (B,) for it, with a magnitude (B,) in 0..1 and a sign (B,) of
    1 or -1; all three on the CPU.

    Images of the same augmentation are changed together, all geometric ones in one warp: at most nine calls a batch.
    """
    factors = 1 + magnitudes * signs * strongest.factor
    amounts = {  # where there is one
        **dict.fromkeys(FACTORS, factors),
        "posterize": 8 - (magnitudes * strongest.bits).round(),
        "solarize": operations.WHITE * (1 - magnitudes),
    }
    group = GROUP[chosen]
    order, counts = (
        group.argsort(stable=True),
        torch.bincount(group, minlength=len(GROUPS)).tolist(),
    )
    sorted_images = images.index_select(0, order.to(images.device))
    parts = []
    for names, rows, part in zip(
        GROUPS, order.split(counts), sorted_images.split(counts), strict=True
    ):
        if not len(rows) or names == ("identity",):
            parts.append(part)
        elif names == GEOMETRIC:
            maps, shifts = moves(
                chosen[rows], (magnitudes * signs)[rows], strongest, images.shape[2:]
            )
            parts.append(warp(part, maps.to(images), shifts.to(images)))
        else:
            (name,) = names
            given = [amounts[name][rows].to(images)] if name in amounts else []
            parts.append(getattr(operations, name)(part, *given))
    return torch.cat(parts).index_select(0, order.argsort().to(images.device))


def moves(
    chosen: Tensor, amounts: Tensor, strongest: Strongest, size: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Maps (B, 2, 2) and shifts (B, 2) for `warp`, of geometric augmentations (B,) by signed amounts (B,) of the strongest.

    As in torchvision a shear keeps the image's first row or column where it is, and shifts are whole pixels.
    """
    height, width = size

    def amount(name: str, most: float) -> Tensor:
        return torch.where(chosen == NUMBER[name], amounts * most, 0.0)

    shear_x, shear_y = amount("shear_x", strongest.shear), amount("shear_y", strongest.shear)
    across, down = (
        amount(f"translate_{axis}", strongest.translate[i]).trunc() for i, axis in enumerate("xy")
    )
    angle = amount("rotate", strongest.degrees * math.pi / 180)
    maps = turned(angle, torch.zeros_like(angle))
    maps[:, 0, 1] -= shear_x
    maps[:, 1, 0] -= shear_y
    shifts = torch.stack(
        [(across - shear_x * height / 2) / width, (down - shear_y * width / 2) / height], dim=1
    )
    return maps, shifts
