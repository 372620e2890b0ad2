"""Small pictures in folders of classes, and the data set that is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dltrain.data.images.image_folder import ImageFolder

COLORS = {"cat": (200, 40, 10), "dog": (10, 60, 220), "owl": (30, 200, 60)}


def picture(
    color: tuple[int, int, int] = (9, 99, 199), size: tuple[int, int] = (12, 8), seed: int = 0
) -> Image.Image:
    """An image (width, height) of a color under noise."""
    noise = np.random.default_rng(seed).normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8))


def lay(
    folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10, **more: Any
) -> Path:
    """Write `count` images of each class into `folder`/<class>/."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            color = COLORS.get(name, (k, 255 - k, 100))
            picture(color, seed=100 * k + i, **more).save(folder / name / f"{i:03}.png")
    return folder


def data(path: Path | str, **more: Any) -> ImageFolder:
    return ImageFolder(Path("data"), str(path), **more)


def everything(split: Any, epoch: int = 0) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*split.epoch(epoch), strict=True)
    return torch.cat(inputs), torch.cat(targets)
