"""Images of several handwritten digits, at random places and sizes, each with its box."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.data.detection.samples import NO_CLASS, DetectionTensors, DrawnTestSplit
from dltrain.data.images.digits import Digits
from dltrain.data.images.mnist import MNIST
from dltrain.data.images.pixel_rule import PixelRule
from dltrain.rng import keyed
from dltrain.types import Ge, PositiveInt, Source, Spec

PixelBox: TypeAlias = tuple[int, int, int, int]  # x1, y1, x2, y2
INK_LEVEL = 64  # gray level from which on a pixel belongs to a digit
MAX_TRIES = 20  # places that are tried for a digit
MAX_OVERLAP = 0.1  # of the smaller of two boxes
VAL_FRACTION = 0.1  # of the training digits, of which validation images are made
MEAN, STD = (20.0,), (58.0,)  # of the images, about
PART_KEYS = {"train": 0, "val": 1, "test": 2}


class DigitScenes:
    """Images (1, H, W) with 1 to `most` digits in each: of MNIST (28 x 28) or scikit-learn (8 x 8).

    The longer side of a digit has `smallest` to `largest` pixels, and it is placed where it
    overlaps no other by more than a tenth of the smaller box. `clutter` pieces of other digits, of
    at most 8 pixels a side, lie anywhere and belong to no class. No digit is in two splits: test
    images are made of test digits. They are a function of `draw_seed`. Raises ValueError for digits
    larger than the image.
    """

    named: ClassVar[bool] = True
    has_files: ClassVar[bool] = False

    def __init__(
        self,
        root: Path,
        digits: Literal["mnist", "bundled"] = "mnist",
        image_size: Annotated[int, Ge(32)] = 128,
        most: PositiveInt = 6,
        smallest: Annotated[int, Ge(8)] = 18,
        largest: Annotated[int, Ge(8)] = 44,
        clutter: Annotated[int, Ge(0)] = 6,
        train_scenes: PositiveInt = 1500,
        val_scenes: PositiveInt = 200,
        test_scenes: PositiveInt = 300,
        draw_seed: int = 0,
    ) -> None:
        if not smallest <= largest <= image_size:
            raise ValueError(
                f"dataset.smallest={smallest}, largest={largest} and image_size={image_size} "
                "should rise in this order"
            )
        self.digit_source: Source = MNIST(root) if digits == "mnist" else Digits()
        self.canvas = image_size
        self.most = most
        self.smallest = smallest
        self.largest = largest
        self.clutter = clutter
        self.counts = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        self.draw_seed = draw_seed

    def find_files(self) -> None:
        """Do nothing: the digits are downloaded when they are needed."""

    def has_test_set(self) -> bool:
        """Return that there are images for testing."""
        return True

    def digest(self) -> str:
        """Return no name: there are no files of the user's."""
        return ""

    def spec(self, test_split: DrawnTestSplit) -> Spec:
        """Return the shape of the images and the number of samples; nothing is read for it."""
        return Spec(
            input_shape=(1, self.canvas, self.canvas),
            class_names=self.digit_source.spec.class_names,
            train_samples=self.counts["train"],
            test_samples=self.counts["test"],
            mean=MEAN,
            std=STD,
            boxes=self.most,
        )

    @cached_property
    def digits(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The digits (N, 1, h, w) and classes (N,) of which the images of each split are made."""
        stored = self.digit_source.read()
        images, labels = stored["train"]
        order = torch.randperm(len(images), generator=keyed(self.draw_seed, 3))
        val, train = order.tensor_split([round(VAL_FRACTION * len(images))])
        return {
            "train": (images[train], labels[train]),
            "val": (images[val], labels[val]),
            "test": stored["test"],
        }

    def read(self, test_split: DrawnTestSplit, rule: PixelRule) -> DetectionTensors:
        """Return the images and boxes of every split."""
        sets = {part: self.draw(part, count) for part, count in self.counts.items()}
        return DetectionTensors(sets, rule)

    def draw(self, part: str, count: int) -> tuple[Tensor, Tensor]:
        """Return `count` images (N, 1, H, W) of bytes and targets (N, most, 5)."""
        digits, labels = self.digits[part]
        generator = keyed(self.draw_seed, PART_KEYS[part])
        images = torch.zeros(count, 1, self.canvas, self.canvas)
        targets = torch.tensor([0.0, 0.0, 0.0, 0.0, NO_CLASS]).repeat(count, self.most, 1)
        pieces = self.most + self.clutter
        chosen = torch.randint(len(digits), (count, pieces), generator=generator)
        numbers = torch.randint(1, self.most + 1, (count,), generator=generator).tolist()
        uniform = torch.rand(count, pieces, 1 + 2 * MAX_TRIES, generator=generator)
        for i, number in enumerate(numbers):
            image = images[i, 0]
            for piece in range(self.most, pieces):
                digit = digits[chosen[i, piece], 0]
                self.scatter(image, digit, uniform[i, piece].tolist())
            placed: list[PixelBox] = []
            for piece in range(number):
                digit = digits[chosen[i, piece], 0]
                box = self.place(image, digit, uniform[i, piece].tolist(), placed)
                if box is not None:
                    label = int(labels[chosen[i, piece]])
                    targets[i, len(placed)] = torch.tensor([*box, label])
                    placed.append(box)
        return images.to(torch.uint8), targets

    def place(
        self, image: Tensor, digit: Tensor, uniform: list[float], placed: list[PixelBox]
    ) -> PixelBox | None:
        """Draw a digit (h, w) into `image` (H, W) and return the box of its ink.

        `uniform` are the random numbers that decide its size and the places to try. Returns None if
        no place is free.
        """
        ink = cropped(digit)
        longer_side = self.smallest + uniform[0] * (self.largest - self.smallest)
        scale = longer_side / max(ink.shape)
        height, width = (max(3, round(side * scale)) for side in ink.shape)
        for left, top in zip(uniform[1::2], uniform[2::2], strict=True):
            x = int(left * (self.canvas - width + 1))
            y = int(top * (self.canvas - height + 1))
            box = (x, y, x + width, y + height)
            if all(overlap(box, other) <= MAX_OVERLAP for other in placed):
                stamp(image, resized(ink, height, width), x, y)
                return box
        return None

    def scatter(self, image: Tensor, digit: Tensor, uniform: list[float]) -> None:
        """Draw a piece of a digit, too small to recognize, somewhere into `image` (H, W)."""
        ink = cropped(digit)
        side = 4 + int(uniform[0] * 5)
        top = int(uniform[1] * max(1, ink.shape[0] - side))
        left = int(uniform[2] * max(1, ink.shape[1] - side))
        piece = ink[top : top + side, left : left + side]
        x = int(uniform[3] * (self.canvas - side))
        y = int(uniform[4] * (self.canvas - side))
        stamp(image, piece.float(), x, y)


def cropped(digit: Tensor) -> Tensor:
    """Return the part of a digit (h, w) that has ink in it."""
    ink = digit >= INK_LEVEL
    rows, columns = ink.any(1).nonzero(), ink.any(0).nonzero()
    return digit[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]


def resized(digit: Tensor, height: int, width: int) -> Tensor:
    """Return a digit (h, w) in another size (height, width)."""
    batch = digit.float().view(1, 1, *digit.shape)
    return F.interpolate(batch, (height, width), mode="bilinear", antialias=True)[0, 0]


def stamp(image: Tensor, piece: Tensor, x: int, y: int) -> None:
    """Put the ink of `piece` (h, w) over `image` (H, W): where both have some, the brighter."""
    part = image[y : y + piece.shape[0], x : x + piece.shape[1]]
    torch.maximum(part, piece[: part.shape[0], : part.shape[1]], out=part)


def overlap(one: PixelBox, other: PixelBox) -> float:
    """Return the area that two boxes have in common, as a fraction of the smaller."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return max(0, width) * max(0, height) / min(areas)
