"""Objects of an image that a detector found, missed or made up."""

from __future__ import annotations

import pytest
import torch

from dltrain.tasks.detection.matches import Matches, intersection_over_union, match_objects

LEFT = (0.0, 0.0, 10.0, 10.0)
RIGHT = (20.0, 0.0, 30.0, 10.0)
NEAR_LEFT = (0.0, 0.0, 10.0, 6.0)  # overlaps LEFT by 0.6
FAR = (50.0, 50.0, 60.0, 60.0)
PADDING = (0.0, 0.0, 0.0, 0.0, -1.0)


def detections(*rows: tuple[tuple[float, ...], float, float]) -> torch.Tensor:
    """Corners, score and class of each."""
    return torch.tensor([[*corners, score, label] for corners, score, label in rows]).view(-1, 6)


def test_overlap_is_the_common_area_over_the_whole() -> None:
    overlaps = intersection_over_union(torch.tensor([LEFT]), torch.tensor([LEFT, NEAR_LEFT, FAR]))
    assert overlaps.tolist() == [[1.0, pytest.approx(0.6), 0.0]]


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ((), Matches(2, 2, 0)),
        (((LEFT, 0.9, 0), (RIGHT, 0.8, 1)), Matches(2, 0, 0)),
        (((NEAR_LEFT, 0.9, 0),), Matches(2, 1, 0)),
        (((LEFT, 0.9, 1),), Matches(2, 2, 1)),  # of the wrong class
        (((LEFT, 0.9, 0), (NEAR_LEFT, 0.8, 0)), Matches(2, 1, 1)),  # one object is found twice
        (((FAR, 0.9, 0), (LEFT, 0.5, 0)), Matches(2, 1, 1)),
    ],
)
def test_each_object_is_found_once(
    predicted: tuple[tuple[tuple[float, ...], float, float], ...], expected: Matches
) -> None:
    targets = torch.tensor([(*LEFT, 0.0), (*RIGHT, 1.0), PADDING])
    assert match_objects(detections(*predicted), targets) == expected


def test_an_object_that_is_not_scored_is_neither_missed_nor_wrongly_found() -> None:
    targets = torch.tensor([(*LEFT, 0.0, 0.0), (*RIGHT, 1.0, 1.0), (*PADDING, 0.0)])
    predicted = detections((LEFT, 0.9, 0), (RIGHT, 0.8, 1), (RIGHT, 0.7, 1))
    assert match_objects(predicted, targets) == Matches(1, 0, 0)
    assert match_objects(detections(), targets) == Matches(1, 1, 0)


def test_an_image_without_objects_has_only_false_positives() -> None:
    assert match_objects(detections((LEFT, 0.9, 0)), torch.tensor([PADDING])) == Matches(0, 0, 1)
