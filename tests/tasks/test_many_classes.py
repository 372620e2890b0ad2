"""Many classes: detection and tables of the worst classes."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch import Tensor

from dltrain.tasks.detection import average_precision as module
from dltrain.tasks.detection.average_precision import average_precision
from dltrain.tasks.many_classes import most_different, worst_in
from dltrain.types import Table


def boxes(images: int, classes: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return detections (D, 6) near the objects (M, 5) of each image, most of the true class."""
    generator = torch.Generator().manual_seed(classes)
    corner = 80 * torch.rand(images, 10, 2, generator=generator)
    objects = torch.cat(
        [corner, corner + 5 + 30 * torch.rand(images, 10, 2, generator=generator)], dim=2
    )
    label = torch.randint(classes, (images, 10, 1), generator=generator).float()
    other = torch.randint(classes, (images, 10, 1), generator=generator).float()
    taken = torch.where(torch.rand(images, 10, 1, generator=generator) < 0.8, label, other)
    moved = objects + 2 * torch.randn(objects.shape, generator=generator)
    scores = torch.rand(images, 10, 1, generator=generator)
    return list(torch.cat([moved, scores, taken], dim=2)), list(torch.cat([objects, label], dim=2))


def test_average_precision_is_the_same_in_groups_of_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Classes in no image, and classes in detections alone, are in blocks of their own."""
    found, truth = boxes(images=30, classes=7)
    found[0][0, 5] = 11
    expected, by_class = average_precision(found, truth, 13)
    for size in (1, 4):
        monkeypatch.setattr(module, "CLASSES_AT_ONCE", size)
        scores, per_class = average_precision(found, truth, 13)
        assert scores == expected
        assert torch.equal(per_class.nan_to_num(-1), by_class.nan_to_num(-1))
    assert by_class[:7, 0].min() > 0
    assert by_class[7:, :2].isnan().all()


def test_average_precision_of_many_classes_is_fast() -> None:
    """100 images of 10,000 classes used to take 15 s."""
    start = time.process_time()
    average_precision(*boxes(images=100, classes=10_000), 10_000)
    assert time.process_time() - start < 6


def test_the_worst_classes_have_the_lowest_score_then_more_samples() -> None:
    values = torch.tensor([[0.5, 3.0]]).repeat(120, 1)
    values[7] = torch.tensor([0.25, 1.0])
    values[8] = torch.tensor([0.25, 9.0])
    values[9] = torch.tensor([math.nan, 0.0])  # without samples
    names = tuple(f"c{k}" for k in range(120))
    part = worst_in(Table(values, names, ("AP50", "objects"), "class"), "AP50", "objects").shown()
    assert part.rows[:3] == ("c8", "c7", "c0")
    assert len(part.rows) == 20
    assert "c9" not in part.rows
    assert part.note == "the 20 worst of 120 classes (lowest AP50, most objects)"
    few = Table(values[:100], names[:100], ("AP50", "objects"), "class")
    assert worst_in(few, "AP50", "objects").shown() is few


def test_the_classes_whose_shares_differ_most_are_shown() -> None:
    values = torch.full((150, 2), 1 / 150)
    values[30, 1] = 0.0
    values[20, 1] = 0.5
    part = most_different(
        Table(values, tuple(map(str, range(150))), ("of the data", "of the samples"), "class")
    ).shown()
    assert part.rows[:3] == ("20", "30", "0")
    assert part.note == "the 20 worst of 150 classes (the largest difference)"
