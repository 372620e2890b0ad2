"""The objects of one image that a detector found, and its detections of none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.types.boxes import CLASS, is_box, is_counted

OVERLAP = 0.5  # intersection over union from which a detection matches an object
CORNERS = slice(0, 4)
SCORE, LABEL = 4, 5  # columns of a detection


@dataclass(frozen=True)
class Matches:
    """The scored objects of an image, those that no detection matches, and wrong detections."""

    objects: int
    missed: int
    false_positives: int


def match_objects(detections: Tensor, targets: Tensor) -> Matches:
    """Match the detections (D, 6) of an image with its objects (M, 5 or 6), the best ones first.

    A detection matches the object of its class that overlaps it most, by at least `OVERLAP`, among
    those that no better detection has matched. Objects that are not scored may be matched by any
    number of detections, which are then neither right nor wrong.
    """
    targets = targets[is_box(targets)]
    counted = is_counted(targets)
    overlaps = intersection_over_union(detections[:, CORNERS], targets[:, CORNERS])
    same_class = detections[:, LABEL].unsqueeze(1) == targets[:, CLASS]
    overlaps = torch.where(same_class, overlaps, 0)
    is_matched = torch.zeros(len(targets), dtype=torch.bool)
    false_positives = 0
    for row in detections[:, SCORE].argsort(descending=True, stable=True).tolist():
        overlapping = overlaps[row] >= OVERLAP
        free = torch.where(overlapping & counted & ~is_matched, overlaps[row], 0)
        if free.any():
            is_matched[free.argmax()] = True
        elif not (overlapping & ~counted).any():
            false_positives += 1
    objects = int(counted.sum())
    return Matches(objects, objects - int(is_matched.sum()), false_positives)


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the overlap (D, M) of boxes (D, 4) and others (M, 4): x1, y1, x2, y2."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (high - low).clamp_min(0).prod(dim=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    other_areas = (others[:, 2:] - others[:, :2]).prod(dim=1)
    union = areas[:, None] + other_areas[None, :] - common
    return common / union.clamp_min(1e-12)
