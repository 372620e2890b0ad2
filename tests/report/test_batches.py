"""Batches as pictures: standardization undone, classes and shares named."""

from __future__ import annotations

import torch

from dltrain.report.batches import picture, standardize, undo_standardization
from dltrain.rng import keyed
from dltrain.types import Boxes, MarkedBox, Spec
from dltrain.types.boxes import DIFFICULT

SPEC = Spec(
    (3, 4, 5), ("cat", "dog", "owl"), 9, 9, mean=(120.0, 100.0, 80.0), std=(60.0, 50.0, 40.0)
)


def test_standardization_is_undone_exactly() -> None:
    pixels = torch.rand(7, 3, 4, 5, generator=keyed(0))
    inputs = standardize(pixels, SPEC)
    assert torch.allclose(inputs[0, 1, 2, 3], (pixels[0, 1, 2, 3] * 255 - 100) / 50)
    assert torch.allclose(undo_standardization(inputs, SPEC), pixels, atol=1e-6)
    assert float(undo_standardization(inputs + 9, SPEC).max()) == 1, "what is beyond white is white"


def test_captions_are_classes_or_class_proportions() -> None:
    inputs = torch.zeros(40, 3, 4, 5)
    shown = picture((inputs, torch.arange(40) % 3), SPEC)
    assert shown.captions[:4] == ("cat", "dog", "owl", "cat")
    assert len(shown.pixels) == len(shown.captions) == 32
    mixed = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    assert picture((inputs[:2], mixed), SPEC).captions == ("0.75 dog\n0.25 cat", "cat")
    assert picture((inputs[:2], torch.zeros(2, 7, 5)), SPEC).captions == ()


def test_a_batch_of_images_with_objects_is_drawn_with_their_boxes() -> None:
    """The first four are drawn, for each is as wide as the picture."""
    spec = Spec((1, 8, 8), ("a", "b"), 9, 1, (0.0,), (255.0,), boxes=2)
    targets = torch.tensor([[[1.0, 2, 5, 6, 1, DIFFICULT], [0, 0, 0, 0, -1, 0]]]).repeat(9, 1, 1)
    shown = picture((torch.ones(9, 1, 8, 8), targets), spec)
    assert shown.pixels.shape == (4, 1, 8, 8)
    assert shown.boxes == (Boxes((MarkedBox((1, 2, 5, 6), "b, difficult", False),), "true"),) * 4
