"""Pictures of batches: images with their standardization undone, and their classes."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.types import Image, Spec, shortened
from dltrain.types.boxes import true_boxes

MAX_IMAGES = 32  # of a batch
MAX_IMAGES_WITH_BOXES = 4  # of a batch; each is as wide as the picture
MIN_PROPORTION = 0.005  # of a class that a caption names


def pixels_of(inputs: Tensor, spec: Spec) -> Tensor:
    """Return standardized images (B, C, H, W) as pixels in 0..1, on the CPU."""
    mean, std = statistics(spec)
    return ((inputs.detach().float().cpu() * std + mean) / 255).clamp(0, 1)


def inputs_of(pixels: Tensor, spec: Spec) -> Tensor:
    """Return pixels (B, C, H, W) in 0..1, standardized as the network's inputs."""
    mean, std = statistics(spec)
    return (pixels * 255 - mean) / std


def statistics(spec: Spec) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (1, C, 1, 1) of standardized images, in 0..255."""
    channels = spec.input_shape[0]
    mean = spec.mean or (0.0,) * channels
    std = spec.std or (255.0,) * channels
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)


def picture(batch: tuple[Tensor, Tensor], spec: Spec) -> Image:
    """Return the first images of a batch: inputs (B, C, H, W), targets (B, ...).

    Captions are the classes; for mixed samples, the proportions of the classes. Detection samples
    have their boxes.
    """
    if spec.boxes:
        return picture_with_boxes(batch, spec)
    inputs = batch[0][:MAX_IMAGES]
    targets = batch[1][:MAX_IMAGES].detach().cpu()
    return Image(pixels_of(inputs, spec), class_captions(targets, spec))


def picture_with_boxes(batch: tuple[Tensor, Tensor], spec: Spec) -> Image:
    """Return the first images of a batch with their true boxes (B, M, 5 or 6)."""
    inputs = batch[0][:MAX_IMAGES_WITH_BOXES]
    targets = batch[1][:MAX_IMAGES_WITH_BOXES].detach().cpu()
    boxes = tuple(true_boxes(rows, spec.class_names) for rows in targets)
    titles = tuple(f"image {i}, boxes: {len(own.items)}" for i, own in enumerate(boxes, 1))
    return Image(pixels_of(inputs, spec), titles, boxes=boxes)


def class_captions(targets: Tensor, spec: Spec) -> tuple[str, ...]:
    """Return captions for class numbers (B,) or proportions (B, K); none for other targets."""
    names = spec.class_names
    if not names:
        return ()
    if targets.ndim == 1 and not targets.is_floating_point():
        return tuple(shortened(names[k]) for k in targets.tolist())
    if targets.shape[1:] == (spec.num_classes,):
        return tuple(proportions(names, row) for row in targets.float())
    return ()


def proportions(names: tuple[str, ...], row: Tensor) -> str:
    """Return the class proportions (K,) of a sample, the largest first, one line each."""
    values, classes = row.sort(descending=True)
    count = int((values >= MIN_PROPORTION).sum())
    largest = [shortened(names[k]) for k in classes[:count].tolist()]
    if count == 1:
        return largest[0]
    shown = zip(values[:count].tolist(), largest, strict=True)
    return "\n".join(f"{value:.2f} {name}" for value, name in shown)
