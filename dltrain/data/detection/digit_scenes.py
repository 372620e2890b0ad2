"""Scenes made of handwritten digits: several on a canvas, at random places and sizes, each with the box of its ink."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.data.detection.dataset import Detection
from dltrain.data.detection.samples import NONE
from dltrain.data.images.digits import Digits
from dltrain.data.images.mnist import MNIST
from dltrain.rng import keyed
from dltrain.types import BatchSize, Fraction, Ge, PositiveInt, Source, Spec, Transform

INK = 64  # grey levels from which on a pixel belongs to a digit
TRIES = 20  # places that are tried for a digit
MOST_OVERLAP = 0.1  # of the smaller of two boxes
VAL_SHARE = 0.1  # of the training digits, that validation's scenes are made of
PART_KEYS = {"train": 0, "val": 1, "test": 2}


class DigitScenes(Detection):
    """Scenes of `digits`: MNIST's (28 x 28, 70000) or the bundled ones (8 x 8, 1797), which need no download.

    ValueError for digits larger than the image.
    """

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
        batch_size: BatchSize = 8,
        eval_batch_size: PositiveInt = 16,
        epochs: PositiveInt = 8,
        jitter: Fraction = 0.0,
        transforms: tuple[Transform, ...] = (),
        seed: int = 0,
    ) -> None:
        if not smallest <= largest <= image_size:
            raise ValueError(
                f"dataset.smallest={smallest}, largest={largest} and image_size={image_size} should rise in this order"
            )
        source = MNIST(root) if digits == "mnist" else Digits()
        counts = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        super().__init__(
            DrawnScenes(source, image_size, most, (smallest, largest), clutter, counts, draw_seed),
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            epochs=epochs,
            jitter=jitter,
            transforms=transforms,
            seed=seed,
        )


class DrawnScenes:
    """So many scenes of each part as `counts` says: images (1, canvas, canvas) with 1 to `most` digits of `source` in each.

    A digit is enlarged so that its longer side has `sizes` pixels (from, to), and placed where it overlaps no other by more
    than a tenth of the smaller box. `clutter` pieces of other digits, of at most 8 pixels a side, lie anywhere and belong to
    no class. No digit is in two parts: test scenes are made of test digits. They are a function of `draw_seed`.
    """

    def __init__(
        self,
        source: Source,
        canvas: int,
        most: int,
        sizes: tuple[int, int],
        clutter: int,
        counts: dict[str, int],
        draw_seed: int = 0,
    ) -> None:
        self.source, self.canvas, self.most, self.sizes, self.clutter = (
            source,
            canvas,
            most,
            sizes,
            clutter,
        )
        self.counts, self.draw_seed = counts, draw_seed

    @property
    def spec(self) -> Spec:
        names = self.source.spec.class_names
        counts = self.counts["train"], self.counts["test"]
        return Spec(
            (1, self.canvas, self.canvas), names, *counts, (20.0,), (58.0,), boxes=self.most
        )

    @cached_property
    def digits(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The digits (N, 1, h, w) and classes (N,) that each part's scenes are made of."""
        stored = self.source.read()
        images, labels = stored["train"]
        order = torch.randperm(len(images), generator=keyed(self.draw_seed, 3))
        val, train = order.tensor_split([round(VAL_SHARE * len(images))])
        return {
            "train": (images[train], labels[train]),
            "val": (images[val], labels[val]),
            "test": stored["test"],
        }

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {part: self.draw(part, count) for part, count in self.counts.items()}

    def draw(self, part: str, count: int) -> tuple[Tensor, Tensor]:
        """`count` scenes: images (N, 1, canvas, canvas) of bytes and targets (N, most, 5)."""
        images, labels = self.digits[part]
        generator = keyed(self.draw_seed, PART_KEYS[part])
        scenes = torch.zeros(count, 1, self.canvas, self.canvas)
        targets = torch.tensor([0.0, 0.0, 0.0, 0.0, NONE]).repeat(count, self.most, 1)
        chosen = torch.randint(len(images), (count, self.most + self.clutter), generator=generator)
        numbers = torch.randint(1, self.most + 1, (count,), generator=generator).tolist()
        drawn = torch.rand(count, self.most + self.clutter, 1 + 2 * TRIES, generator=generator)
        for i, number in enumerate(numbers):
            for k in range(self.clutter):
                self.scatter(
                    scenes[i, 0],
                    images[chosen[i, self.most + k], 0],
                    drawn[i, self.most + k].tolist(),
                )
            placed: list[tuple[int, int, int, int]] = []
            for k in range(number):
                box = self.place(
                    scenes[i, 0], images[chosen[i, k], 0], drawn[i, k].tolist(), placed
                )
                if box is not None:
                    targets[i, len(placed)] = torch.tensor([*box, int(labels[chosen[i, k]])])
                    placed.append(box)
        return scenes.to(torch.uint8), targets

    def place(
        self,
        scene: Tensor,
        digit: Tensor,
        drawn: list[float],
        placed: list[tuple[int, int, int, int]],
    ) -> tuple[int, int, int, int] | None:
        """Draw a digit (h, w) into `scene` (H, W), and the box of its ink; None where none of the tries finds it room."""
        smallest, largest = self.sizes
        ink = cropped(digit)
        scale = (smallest + drawn[0] * (largest - smallest)) / max(ink.shape)
        height, width = (max(3, round(side * scale)) for side in ink.shape)
        for left, top in zip(drawn[1::2], drawn[2::2], strict=True):
            x, y = int(left * (self.canvas - width + 1)), int(top * (self.canvas - height + 1))
            box = (x, y, x + width, y + height)
            if all(overlap(box, other) <= MOST_OVERLAP for other in placed):
                stamp(scene, resized(ink, height, width), x, y)
                return box
        return None

    def scatter(self, scene: Tensor, digit: Tensor, drawn: list[float]) -> None:
        """Draw a piece of a digit, too small to be told, somewhere into `scene` (H, W)."""
        ink = cropped(digit)
        side = 4 + int(drawn[0] * 5)
        top, left = (
            int(share * max(1, size - side))
            for share, size in zip(drawn[1:3], ink.shape, strict=True)
        )
        piece = ink[top : top + side, left : left + side]
        x, y = int(drawn[3] * (self.canvas - side)), int(drawn[4] * (self.canvas - side))
        stamp(scene, piece.float(), x, y)


def cropped(digit: Tensor) -> Tensor:
    """The part of a digit (h, w) that has ink in it."""
    ink = digit >= INK
    rows, columns = ink.any(1).nonzero(), ink.any(0).nonzero()
    return digit[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]


def resized(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(
        image.float().view(1, 1, *image.shape), (height, width), mode="bilinear", antialias=True
    )[0, 0]


def stamp(scene: Tensor, piece: Tensor, x: int, y: int) -> None:
    """Put the ink of `piece` (h, w) over `scene` (H, W): where both have some, the brighter."""
    part = scene[y : y + piece.shape[0], x : x + piece.shape[1]]
    torch.maximum(part, piece[: part.shape[0], : part.shape[1]], out=part)


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """The area that two boxes share, as a part of the smaller."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return max(0, width) * max(0, height) / smaller
