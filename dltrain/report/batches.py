"""Images of a batch for a report, with captions or boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.types import Image, Spec, shortened
from dltrain.types.boxes import true_boxes

MAX_IMAGES = 32  # shown of a batch
MAX_IMAGES_WITH_BOXES = 4  # shown of a batch; each is as wide as the picture
MIN_PROPORTION = 0.005  # a caption names no class below it
MAX_PIXEL = 255


def undo_standardization(inputs: Tensor, spec: Spec) -> Tensor:
    """Return standardized images (B, C, H, W) as pixels in 0..1, on the CPU."""
    mean, std = statistics(spec)
    pixels = inputs.detach().float().cpu() * std + mean
    return (pixels / MAX_PIXEL).clamp(0, 1)


def standardize(pixels: Tensor, spec: Spec) -> Tensor:
    """Return the network's inputs for pixels (B, C, H, W) in 0..1."""
    mean, std = statistics(spec)
    return (pixels * MAX_PIXEL - mean) / std


def statistics(spec: Spec) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation (1, C, 1, 1) that images are standardized by.

    They are in 0..255. Images that are not standardized are in 0..1.
    """
    channels = spec.input_shape[0]
    mean = spec.mean or (0.0,) * channels
    std = spec.std or (float(MAX_PIXEL),) * channels
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)


def picture(batch: tuple[Tensor, Tensor], spec: Spec) -> Image:
    """Return the first images of a batch of inputs (B, C, H, W) and targets (B, ...).

    Captions are the classes, or the class proportions of mixed samples. Detection samples are shown
    with their boxes.
    """
    if spec.boxes:
        return picture_with_boxes(batch, spec)
    inputs = batch[0][:MAX_IMAGES]
    targets = batch[1][:MAX_IMAGES].detach().cpu()
    return Image(undo_standardization(inputs, spec), class_captions(targets, spec))


def picture_with_boxes(batch: tuple[Tensor, Tensor], spec: Spec) -> Image:
    """Return the first images of a batch with their true boxes (B, M, 5 or 6)."""
    inputs = batch[0][:MAX_IMAGES_WITH_BOXES]
    targets = batch[1][:MAX_IMAGES_WITH_BOXES].detach().cpu()
    boxes = tuple(true_boxes(rows, spec.class_names) for rows in targets)
    titles = tuple(f"image {i}, boxes: {len(own.items)}" for i, own in enumerate(boxes, 1))
    return Image(undo_standardization(inputs, spec), titles, boxes=boxes)


def class_captions(targets: Tensor, spec: Spec) -> tuple[str, ...]:
    """Return captions for class numbers (B,) or proportions (B, K); none for other targets."""
    names = spec.class_names
    if not names:
        return ()
    if targets.ndim == 1 and not targets.is_floating_point():
        return tuple(shortened(names[k]) for k in targets.tolist())
    if targets.shape[1:] == (spec.num_classes,):
        return tuple(proportions_caption(names, row) for row in targets.float())
    return ()


def proportions_caption(names: tuple[str, ...], proportions: Tensor) -> str:
    """Return a caption for class proportions (K,), one line each, the largest first."""
    values, classes = proportions.sort(descending=True)
    count = int((values >= MIN_PROPORTION).sum())
    named = [shortened(names[k]) for k in classes[:count].tolist()]
    if count == 1:
        return named[0]
    shown = zip(values[:count].tolist(), named, strict=True)
    return "\n".join(f"{value:.2f} {name}" for value, name in shown)
