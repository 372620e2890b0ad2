"""Detection samples: images with boxes around their objects, in files and as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from dltrain.data.dataset import TensorSets
from dltrain.data.images.pixel_rule import PixelRule
from dltrain.rng import keyed
from dltrain.types import Spec
from dltrain.types.boxes import COUNTED

Corners: TypeAlias = tuple[float, float, float, float]  # x1, y1 (left, top), x2, y2 (right, bottom)
Size: TypeAlias = tuple[int, int]  # height and width
NO_CLASS = -1.0  # the class number in a row of targets that is padding


@dataclass(frozen=True)
class Box:
    """The corners of an object, its class number, and where it is written (file:line).

    `flag` says how the object counts (dltrain.types.boxes).
    """

    corners: Corners
    label: int
    place: str
    flag: float = COUNTED


@dataclass
class AnnotatedImage:
    """An image file and its boxes: in pixels, or, if `relative`, in fractions of width and height.

    `stated_size` is the width and height that the annotation gives for the image, if it does;
    `labeled` is false if nothing describes the image.
    """

    path: str
    boxes: list[Box] = field(default_factory=list)
    relative: bool = False
    stated_size: tuple[int, int] | None = None
    labeled: bool = True


@dataclass(frozen=True)
class AnnotatedSet:
    """The content of annotation files: the classes, and the images of train, val and test.

    `problems` are boxes that could not be read.
    """

    class_names: tuple[str, ...]
    parts: dict[str, list[AnnotatedImage]]
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DrawnTestSplit:
    """The training images that are for testing in a set without a test split of its own.

    A `fraction` of them is drawn, as a function of `seed` alone; or they are `everything`, if the
    set is not the one that a run was trained on.
    """

    fraction: float
    seed: int
    everything: bool = False

    def mask(self, count: int) -> list[bool]:
        """Return for each of `count` images whether it is for testing."""
        order = torch.randperm(count, generator=keyed(self.seed))
        held = count if self.everything else round(self.fraction * count)
        is_test = torch.zeros(count, dtype=torch.bool)
        is_test[order[:held]] = True
        mask: list[bool] = is_test.tolist()
        return mask


class DetectionTensors(TensorSets):
    """Images (N, C, H, W) of bytes and targets (N, M, 5 or 6), by the name of the set.

    The rows of a target are described in dltrain.types.boxes; they are padded with class -1. `rule`
    is the one by which the pixels of files became bytes.
    """

    def __init__(self, sets: Mapping[str, tuple[Tensor, Tensor]], rule: PixelRule) -> None:
        super().__init__(sets)
        self.rule = rule


@runtime_checkable
class NamesImages(Protocol):
    """A source of images with boxes that knows their files."""

    def image_names(self, test_split: DrawnTestSplit) -> dict[str, list[str]]:
        """Return the files of the images of each set that `read` returns, in their order."""


class DetectionSource(Protocol):
    """A source of images with boxes."""

    @property
    def named(self) -> bool:
        """False if the user has not named the files; then only `find_files` may be called."""

    @property
    def has_files(self) -> bool:
        """True if images are read from files of the user's."""

    def find_files(self) -> None:
        """Raise ConfigError where no files are named and InputError where one is absent."""

    def has_test_set(self) -> bool:
        """Return whether the set comes with a test split of its own."""

    def digest(self) -> str:
        """Return a name for what the files describe; empty if there are no files."""

    def spec(self, test_split: DrawnTestSplit) -> Spec:
        """Return the shape of the images and the number of samples; no image is decoded."""

    def read(self, test_split: DrawnTestSplit, rule: PixelRule) -> DetectionTensors:
        """Return every image, its pixels by the `rule`, and its boxes."""
