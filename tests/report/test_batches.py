"""Batches as pictures: standardization undone, classes and shares named."""

from __future__ import annotations

import torch

from dltrain.report.batches import inputs_of, picture, pixels_of
from dltrain.rng import keyed
from dltrain.types import Spec

SPEC = Spec((3, 4, 5), ("cat", "dog", "owl"), 9, 9, mean=(120.0, 100.0, 80.0), std=(60.0, 50.0, 40.0))


def test_pixels_and_inputs_are_each_others_inverse() -> None:
    pixels = torch.rand(7, 3, 4, 5, generator=keyed(0))
    inputs = inputs_of(pixels, SPEC)
    assert torch.allclose(inputs[0, 1, 2, 3], (pixels[0, 1, 2, 3] * 255 - 100) / 50)
    assert torch.allclose(pixels_of(inputs, SPEC), pixels, atol=1e-6)
    assert float(pixels_of(inputs + 9, SPEC).max()) == 1, "what is beyond white is white"


def test_a_picture_names_classes_and_shares() -> None:
    inputs = torch.zeros(40, 3, 4, 5)
    shown = picture((inputs, torch.arange(40) % 3), SPEC)
    assert shown.captions[:4] == ("cat", "dog", "owl", "cat")
    assert len(shown.pixels) == len(shown.captions) == 32
    mixed = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    assert picture((inputs[:2], mixed), SPEC).captions == ("0.75 dog\n0.25 cat", "cat")
    assert picture((inputs[:2], torch.zeros(2, 7, 5)), SPEC).captions == ()
