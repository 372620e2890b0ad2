"""Batches of images as people see them: what they are standardized by undone, and their classes named."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.types import Image, Spec, shortened
from dltrain.types.boxes import true_boxes

SHOWN = 32  # of a batch
SHOWN_WITH_BOXES = 4  # of a batch of images with objects: each is as wide as the picture
LEAST = 0.005  # share of a class that is named


def pixels_of(inputs: Tensor, spec: Spec) -> Tensor:
    """Standardized images (B, C, H, W) as pixels in 0..1, on the CPU."""
    mean, std = statistics(spec)
    return ((inputs.detach().float().cpu() * std + mean) / 255).clamp(0, 1)


def inputs_of(pixels: Tensor, spec: Spec) -> Tensor:
    """Pixels (B, C, H, W) in 0..1 as a network takes them."""
    mean, std = statistics(spec)
    return (pixels * 255 - mean) / std


def statistics(spec: Spec) -> tuple[Tensor, Tensor]:
    channels = spec.input_shape[0]
    mean, std = spec.mean or (0.0,) * channels, spec.std or (255.0,) * channels
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)


def picture(batch: tuple[Tensor, Tensor], spec: Spec) -> Image:
    """Return the first images of a batch (inputs (B, C, H, W), targets (B, ...)): as a network sees
    them, over their classes if they have any, a mixed one over its shares, or with their boxes.
    """
    shown = SHOWN_WITH_BOXES if spec.boxes else SHOWN
    inputs, targets = batch[0][:shown], batch[1][:shown].detach().cpu()
    if spec.boxes:
        boxes = tuple(true_boxes(rows, spec.class_names) for rows in targets)
        titles = tuple(f"image {i}, boxes: {len(found.items)}" for i, found in enumerate(boxes, 1))
        return Image(pixels_of(inputs, spec), titles, boxes=boxes)
    captions: tuple[str, ...] = ()
    if spec.class_names and targets.ndim == 1 and not targets.is_floating_point():
        captions = tuple(shortened(spec.class_names[k]) for k in targets.tolist())
    elif spec.class_names and targets.shape[1:] == (spec.num_classes,):
        captions = tuple(map(shares, [spec.class_names] * len(targets), targets.float()))
    return Image(pixels_of(inputs, spec), captions)


def shares(names: tuple[str, ...], row: Tensor) -> str:
    """What a sample (K,) is of, the most first, a line each."""
    values, classes = row.sort(descending=True)
    count = int((values >= LEAST).sum())
    pairs = [
        (shortened(names[k]), v)
        for k, v in zip(classes[:count].tolist(), values[:count].tolist(), strict=True)
    ]
    return pairs[0][0] if len(pairs) == 1 else "\n".join(f"{v:.2f} {name}" for name, v in pairs)
