"""Batches of images as people see them: what they are standardized by undone, and their classes named."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.types import Image, Spec

SHOWN = 32  # of a batch
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
    """The first images of a batch (inputs (B, C, H, W), targets (B, ...)): as a network sees them, over their classes if
    they have any; a mixed one over its shares."""
    inputs, targets = batch[0][:SHOWN], batch[1][:SHOWN].detach().cpu()
    captions: tuple[str, ...] = ()
    if spec.class_names and targets.ndim == 1 and not targets.is_floating_point():
        captions = tuple(spec.class_names[k] for k in targets.tolist())
    elif spec.class_names and targets.shape[1:] == (spec.num_classes,):
        captions = tuple(map(shares, [spec.class_names] * len(targets), targets.float()))
    return Image(pixels_of(inputs, spec), captions)


def shares(names: tuple[str, ...], row: Tensor) -> str:
    """What a sample (K,) is of, the most first, a line each."""
    values, classes = row.sort(descending=True)
    count = int((values >= LEAST).sum())
    pairs = [(names[k], v) for k, v in zip(classes[:count].tolist(), values[:count].tolist(), strict=True)]
    return pairs[0][0] if len(pairs) == 1 else "\n".join(f"{v:.2f} {name}" for name, v in pairs)
