"""Rows of detection targets (..., 5 or 6): x1, y1, x2, y2 in pixels, the class and perhaps a flag.

Data in which some objects are not scored has the flag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dltrain.types.drawn import Boxes, MarkedBox

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, HEIGHT = "width", "height"  # columns of predictions: the size that boxes are in, in pixels
CLASS = 4  # column of the class number; -1 in a row that is no box
FLAG = 5  # column of the flag; data without flagged objects has none
COUNTED = 0.0  # an object that is scored
DIFFICULT = 1.0  # an object that is not scored: neither a miss nor, if detected, a false positive
CROWD = 2.0  # a region of many objects: detections inside it are left out of the score
TRAINED = 3.0  # a difficult object that training uses like any other
FLAG_NOTES = {COUNTED: "", DIFFICULT: ", difficult", TRAINED: ", difficult", CROWD: ", crowd"}


def scale_to_fit(size: tuple[int, int], into: tuple[int, int]) -> float:
    """Return the factor by which an image of a height and width is scaled so that it just fits."""
    return min(into[0] / size[0], into[1] / size[1])


def is_box(targets: Tensor) -> Tensor:
    """Return whether each row (...) of the targets is a box."""
    return targets[..., CLASS] >= 0


def is_counted(targets: Tensor) -> Tensor:
    """Return whether each row (...) of the targets is a scored box: one without a flag."""
    if targets.shape[-1] <= FLAG:
        return is_box(targets)
    return is_box(targets) & (targets[..., FLAG] == COUNTED)


def is_trained(targets: Tensor) -> Tensor:
    """Return whether each row (...) of the targets is a box that training uses as an object."""
    if targets.shape[-1] <= FLAG:
        return is_box(targets)
    return is_box(targets) & ((targets[..., FLAG] == COUNTED) | (targets[..., FLAG] == TRAINED))


def true_boxes(targets: Tensor, class_names: Sequence[str]) -> Boxes:
    """Return the boxes of an image's targets (M, 5 or 6), to be drawn."""
    boxes = []
    for row in targets[is_box(targets)].tolist():
        x1, y1, x2, y2, label = row[:FLAG]
        flag = row[FLAG] if len(row) > FLAG else COUNTED
        text = f"{class_names[int(label)]}{FLAG_NOTES[flag]}"
        boxes.append(MarkedBox((x1, y1, x2, y2), text, flag == COUNTED))
    return Boxes(tuple(boxes), "true")
