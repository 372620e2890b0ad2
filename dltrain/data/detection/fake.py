"""Random images with random boxes, without a file, for `check` and `debug=smoke`."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from dltrain.data.detection.samples import NO_CLASS, DetectionTensors, DrawnTestSplit
from dltrain.data.images.pixel_rule import PixelRule
from dltrain.rng import keyed
from dltrain.types import Spec

MAX_BOXES = 6
EMPTY_FRACTION = 0.2  # of the rows of targets, that are padding


class FakeDetectionSource:
    """Random images and boxes of the shape that `spec` describes, with few boxes in each image."""

    named: ClassVar[bool] = True
    has_files: ClassVar[bool] = False

    def __init__(self, spec: Spec) -> None:
        self.described = replace(spec, boxes=min(spec.boxes, MAX_BOXES))

    def find_files(self) -> None:
        """Do nothing: there are no files."""

    def has_test_set(self) -> bool:
        """Return that a test set is made."""
        return True

    def digest(self) -> str:
        """Return no name: there are no files."""
        return ""

    def spec(self, test_split: DrawnTestSplit) -> Spec:
        """Return the shape of the images and the number of samples."""
        return self.described

    def read(self, test_split: DrawnTestSplit, rule: PixelRule) -> DetectionTensors:
        """Return random images and boxes for training and testing."""
        spec = self.described
        sets = {"train": self.draw(spec.train_samples, 1), "test": self.draw(spec.test_samples, 2)}
        return DetectionTensors(sets, rule)

    def draw(self, count: int, key: int) -> tuple[Tensor, Tensor]:
        """Return `count` random images (N, C, H, W) and targets (N, M, 5)."""
        spec = self.described
        _, height, width = spec.input_shape
        generator = keyed(0, key)
        shape = (count, *spec.input_shape)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        corner = 0.6 * torch.rand(count, spec.boxes, 2, generator=generator)
        side = 0.1 + 0.3 * torch.rand(count, spec.boxes, 2, generator=generator)
        scale = torch.tensor([width, height, width, height])
        boxes = torch.cat([corner, corner + side], dim=2) * scale
        labels = torch.randint(spec.num_classes, (count, spec.boxes, 1), generator=generator)
        is_empty = torch.rand(count, spec.boxes, 1, generator=generator) < EMPTY_FRACTION
        labels = labels.float().masked_fill(is_empty, NO_CLASS)
        return images, torch.cat([boxes, labels], dim=2)
