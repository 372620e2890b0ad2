"""Scenes held in memory: batches of images and boxes, and the changes of both that make more of them."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.data.dataset import invalid_description, unknown_classes
from dltrain.data.detection.samples import NONE, Absent, SceneFiles, fit, letterbox
from dltrain.data.images.pixel_rule import PixelRule, rule_from
from dltrain.data.split import Split, held_out
from dltrain.errors import ConfigError, InputError
from dltrain.rng import keyed
from dltrain.types import (
    BatchSize,
    Fraction,
    MakesTestSplit,
    PositiveInt,
    Probability,
    ReportTable,
    Sample,
    Source,
    Spec,
    Transform,
)
from dltrain.types.boxes import (
    CLASS,
    CROWD,
    DIFFICULT,
    FLAG,
    TRAINED,
    is_box,
    is_counted,
    is_trained,
)

log = logging.getLogger("dltrain")
FAKE_BATCHES, FAKE_BOXES = 4, 6
LEFT_OUT = "neither objects nor background in training"
USES = {
    DIFFICULT: LEFT_OUT,
    TRAINED: "trained on as others",
    CROWD: LEFT_OUT,
}  # what training does with them
MOST_VALUES = 2**26  # of one image
LEFT = 0.25  # of a box, that must be inside the image after a change of scale
STILL = {
    "ColorJitter",
    "Cutout",
    "RandomErasing",
}  # preprocessing that leaves every object where it is
STAND_IN = Spec(
    (3, 128, 128), ("a", "b"), 80, 20, (114.0,) * 3, (58.0,) * 3, boxes=FAKE_BOXES
)  # where no set is named


class Detection:
    """Batches (images (B, C, H, W) standardized, targets (B, M, 5)) of the scenes that `source`
    reads into memory.

    A target's rows are x1, y1, x2, y2 in pixels and the class number, padded with class -1; where
    some objects do not count, as difficult ones, a sixth column says which (dltrain.types.boxes).
    Without a validation set of its own, `val_fraction` of the training scenes, by `split_seed`
    alone, is that. An epoch goes `repeats` times through the training scenes. In training an image
    is flipped with probability `flip`, and shown at 1 - `jitter` to 1 + `jitter` times its size at
    a random place, its boxes likewise; a box of which less than a quarter is left is taken away.
    ValueError for preprocessing that would not move boxes; ConfigError, when a split is used, where
    no `source` is named: `missing` says what to set.
    """

    def __init__(
        self,
        source: Source | None,
        batch_size: BatchSize = 8,
        eval_batch_size: PositiveInt = 16,
        val_fraction: Fraction = 0.1,
        split_seed: int = 0,
        epochs: PositiveInt = 10,
        repeats: PositiveInt = 1,
        flip: Probability = 0.0,
        jitter: Fraction = 0.0,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
        missing: tuple[str, str] = ("dataset.source", "name the images to train on"),
    ) -> None:
        if moving := [type(t).__name__ for t in transforms if type(t).__name__ not in STILL]:
            raise ValueError(
                f"preprocessing or regularization of whole images ({', '.join(moving)}) would leave the boxes where they "
                "were: dataset.flip=0.5 and dataset.jitter=0.2 change both"
            )
        self.source, self.batch_size, self.eval_batch_size, self.missing = (
            source,
            batch_size,
            eval_batch_size,
            missing,
        )
        self.val_fraction, self.split_seed, self.epochs, self.repeats, self.seed = (
            val_fraction,
            split_seed,
            epochs,
            repeats,
            seed,
        )
        own: list[Transform] = [
            *([Flip(flip)] if flip else []),
            *([Jitter(jitter)] if jitter else []),
        ]
        self.transforms, self.device = (*own, *transforms), torch.device("cpu")
        self.restored: Spec | None = None
        self.rule = PixelRule()  # for images to predict from
        self.trained_digest: object = None  # of the data that a run was trained on, if it is known

    @property
    def spec(self) -> Spec:
        """Of a set that is not there, a stand-in's: debug=smoke needs no file, and reading says what is missing."""
        if self.restored or not self.source:
            return self.restored or STAND_IN
        try:
            return self.source.spec
        except Absent:
            return STAND_IN

    def find_files(self) -> None:
        """Raise ConfigError where no data set is named and InputError where a file of it is absent."""
        if self.source is None:
            raise ConfigError([self.missing])
        _ = self.source.spec

    @cached_property
    def stored(self) -> dict[str, tuple[Tensor, Tensor]]:
        if self.source is None:
            raise ConfigError([self.missing])
        if self.trained_digest is not None and isinstance(self.source, SceneFiles):
            self.source.test_only = self.source.digest() != self.trained_digest
            if self.source.test_only and "test" not in self.source.listing.parts:
                log.info(
                    "this is not the data that the run was trained on: all of its images are for testing"
                )
        sets = self.source.read()
        self.log_uncounted(sets)
        if self.restored:
            sets = {
                name: (images, self.as_trained(images, targets))
                for name, (images, targets) in sets.items()
            }
        return {name: (x.to(self.device), y.to(self.device)) for name, (x, y) in sets.items()}

    def log_uncounted(self, sets: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Log how many objects are not scored, and what training does with them."""
        flags = [targets[..., FLAG:][is_box(targets)] for _, targets in sets.values()]
        for flag, use in USES.items():
            if count := sum(int((found == flag).sum()) for found in flags):
                what = "crowd region" if flag == CROWD else "difficult object"
                log.info(f"{count:,} {what}{'s are' if count > 1 else ' is'} not scored, and {use}")

    def as_trained(self, images: Tensor, targets: Tensor) -> Tensor:
        """`targets` in the numbering of the data that was trained on; InputError if this data cannot be like it."""
        assert self.source
        here, trained = self.source.spec.class_names, self.spec.class_names
        if (shape := tuple(images.shape[1:])) != self.spec.input_shape:
            height, width = self.spec.input_shape[1:]
            raise InputError(
                f"images have the shape {shape}, and the run was trained on {self.spec.input_shape}: "
                f"dataset.image_size=[{height},{width}] brings them to it"
            )
        used = targets[..., CLASS][is_box(targets)].long().unique().tolist()
        if unknown := sorted({here[k] for k in used} - set(trained)):
            raise unknown_classes(unknown, trained)
        trained_number = {name: float(k) for k, name in enumerate(trained)}
        number = [trained_number.get(name, NONE) for name in here]
        renumbered = targets.clone()
        renumbered[..., CLASS] = torch.tensor([*number, NONE])[
            targets[..., CLASS].long()
        ]  # the last one is for -1, no box
        return renumbered

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of the stored training set for training and for validation."""
        count = len(self.stored["train"][1])
        if "val" in self.stored:
            return torch.arange(count), torch.arange(len(self.stored["val"][1]))
        held = held_out(torch.zeros(count), self.val_fraction, self.split_seed)
        return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)

    @cached_property
    def train(self) -> Split:
        split = self.split(
            *self.stored["train"], self.rows[0].repeat(self.repeats), self.batch_size, self.seed
        )
        if not split.samples and not self.restored:
            raise InputError(
                "there are no training scenes: dataset.val_fraction and test_fraction took them all"
            )
        return split

    @cached_property
    def val(self) -> Split:
        return self.split(
            *self.stored.get("val", self.stored["train"]), self.rows[1], self.eval_batch_size, None
        )

    @cached_property
    def test(self) -> Split:
        images, targets = self.stored["test"]
        return self.split(images, targets, torch.arange(len(targets)), self.eval_batch_size, None)

    def split(
        self, images: Tensor, targets: Tensor, rows: Tensor, batch_size: BatchSize, seed: int | None
    ) -> Split:
        return Split(images, targets, rows, self.spec, batch_size, seed, self.transforms)

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Training objects of each class."""
        targets = self.stored["train"][1][self.rows[0]]
        return self.count(targets[is_trained(targets)])

    def count(self, objects: Tensor) -> tuple[int, ...]:
        """Return how many of the objects (N, 5 or 6) are of each class."""
        labels = objects[:, CLASS].long()
        return tuple(torch.bincount(labels.cpu(), minlength=self.spec.num_classes).tolist())

    def inspect(self) -> list[ReportTable]:
        """Return how many objects of each class each split has, and how many are not scored."""
        parts = {
            "train": ("train", self.rows[0]),
            "val": ("val" if "val" in self.stored else "train", self.rows[1]),
        }
        targets = {split: self.stored[part][1].cpu()[rows] for split, (part, rows) in parts.items()}
        targets["test"] = self.stored["test"][1].cpu()
        counts = [self.count(rows[is_counted(rows)]) for rows in targets.values()]
        lines: list[tuple[str | int | float, ...]] = list(
            zip(self.spec.class_names, *counts, strict=True)
        )
        found = [ReportTable("objects", ("class", *targets), lines, "scored objects of each class")]
        uncounted = [int((is_box(rows) & ~is_counted(rows)).sum()) for rows in targets.values()]
        if any(uncounted):
            rows = list(zip(targets, uncounted, strict=True))
            found.append(
                ReportTable(
                    "objects_not_scored", ("split", "objects"), rows, "difficult objects and crowds"
                )
            )
        return found

    def test_rule(self) -> str:
        return self.source.test_rule() if isinstance(self.source, MakesTestSplit) else ""

    def fake(self) -> Detection:
        """Random boxes in noise of the same shape and classes: a few small batches, no file."""
        size = 8 if self.batch_size == "all" else min(self.batch_size, 8)
        spec = replace(
            self.spec, train_samples=2 * FAKE_BATCHES * size, test_samples=FAKE_BATCHES * size
        )
        fake = Detection(FakeScenes(spec), size, size, 0.5, seed=self.seed)
        fake.transforms = self.transforms
        fake.to(self.device)
        return fake

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        if "stored" in self.__dict__:
            return sum(t.numel() * t.element_size() for pair in self.stored.values() for t in pair)
        spec = self.spec
        return (math.prod(spec.input_shape) + 20 * spec.boxes) * (
            spec.train_samples + spec.test_samples
        )

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, pair in sorted(self.stored.items()):
            for tensor in pair:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        spec = self.spec
        columns = {
            name: list(getattr(spec, name))
            for name in ("input_shape", "class_names", "mean", "std")
        }
        files: dict[str, Any] = {}
        if isinstance(self.source, SceneFiles):
            files = {"digest": self.source.digest(), "pixels": self.source.rule.description()}
        return {**columns, "boxes": spec.boxes, **files}

    def restore(self, description: dict[str, Any]) -> None:
        try:
            boxes = description["boxes"]
            columns: dict[str, Any] = {
                name: tuple(value)
                for name, value in description.items()
                if name not in ("boxes", "digest", "pixels")
            }
            spec = Spec(train_samples=0, test_samples=0, boxes=boxes, **columns)
            sound = isinstance(boxes, int) and boxes > 0 and len(spec.input_shape) == 3
            sound = sound and all(isinstance(n, int) and n > 0 for n in spec.input_shape)
            sound = (
                sound
                and math.prod(spec.input_shape) <= MOST_VALUES
                and spec.input_shape[0] in (1, 3)
            )
            sound = (
                sound
                and all(isinstance(name, str) for name in spec.class_names)
                and bool(spec.class_names)
            )
            sound = sound and len(spec.mean) == len(spec.std) == spec.input_shape[0]
            sound = (
                sound
                and all(math.isfinite(v) for v in (*spec.mean, *spec.std))
                and all(v > 0 for v in spec.std)
            )
        except (AttributeError, KeyError, TypeError) as e:
            raise invalid_description(e) from e
        if not sound:
            raise invalid_description("a shape, a name, a mean or a deviation is none")
        self.restored, self.trained_digest = spec, description.get("digest")
        if isinstance(self.source, SceneFiles):
            self.rule = self.source.rule = rule_from(description.get("pixels"))

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        channels, height, width = self.spec.input_shape
        for path in paths:
            try:
                pixels, size = letterbox(str(path), channels, (height, width), self.rule)
            except InputError as e:
                yield Sample(str(path), None, str(e))
                continue
            split = self.split(
                pixels.unsqueeze(0),
                torch.zeros(1, 1, 5),
                torch.zeros(1, dtype=torch.int64),
                1,
                None,
            )
            scale = round(fit(size, (height, width)), 4)
            yield Sample(str(path), next(split.epoch(0))[0][0], about={"scale": scale})


class FakeScenes:
    """What `check` and `debug=smoke` run on instead of the scenes that `spec` describes."""

    def __init__(self, spec: Spec) -> None:
        self.spec = replace(spec, boxes=min(spec.boxes, FAKE_BOXES))

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {
            "train": self.draw(self.spec.train_samples, 1),
            "test": self.draw(self.spec.test_samples, 2),
        }

    def draw(self, count: int, key: int) -> tuple[Tensor, Tensor]:
        generator, (_, height, width) = keyed(0, key), self.spec.input_shape
        images = torch.randint(
            0, 256, (count, *self.spec.input_shape), generator=generator, dtype=torch.uint8
        )
        corner = 0.6 * torch.rand(count, self.spec.boxes, 2, generator=generator)
        side = 0.1 + 0.3 * torch.rand(count, self.spec.boxes, 2, generator=generator)
        boxes = torch.cat([corner, corner + side], dim=2) * torch.tensor(
            [width, height, width, height]
        )
        labels = torch.randint(
            self.spec.num_classes, (count, self.spec.boxes, 1), generator=generator
        ).float()
        none = torch.rand(count, self.spec.boxes, 1, generator=generator) < 0.2
        return images, torch.cat([boxes, labels.masked_fill(none, NONE)], dim=2)


class Flip:
    """Flips images (B, C, H, W) and their boxes (B, M, 5 or 6), each image with `probability`."""

    training_only, normalized, mixes_targets = True, False, False

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        chosen = (torch.rand(len(inputs), generator=generator) < self.probability).to(inputs.device)
        x1, y1, x2, y2, *rest = targets.unbind(dim=2)
        width = inputs.shape[3]
        flipped = torch.stack([width - x2, y1, width - x1, y2, *rest], dim=2)
        return (
            torch.where(chosen.view(-1, 1, 1, 1), inputs.flip(3), inputs),
            torch.where(chosen.view(-1, 1, 1), flipped, targets),
        )


class Jitter:
    """Shows each image (B, C, H, W) at 1 - `amount` to 1 + `amount` times its size, at a random place, with its boxes."""

    training_only, normalized, mixes_targets = (
        True,
        True,
        False,
    )  # normalized: what is filled in is 0, the mean

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        count, _, height, width = inputs.shape
        drawn = torch.rand(count, 3, generator=generator).to(inputs.device)
        scale = 1 + self.amount * (2 * drawn[:, :1] - 1)  # (B, 1)
        size = torch.tensor([width, height], device=inputs.device)
        shift = (size * (1 - scale)) * drawn[
            :, 1:
        ]  # (B, 2): where the image's corner comes, outside where it is larger
        theta = torch.zeros(
            count, 2, 3, device=inputs.device
        )  # from places in the result to places in the image
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale[:, 0]
        theta[:, :, 2] = (1 - 2 * shift / size) / scale - 1
        grid = F.affine_grid(theta, list(inputs.shape), align_corners=False)
        images = F.grid_sample(inputs, grid, align_corners=False)
        corners = targets[..., :4] * scale.unsqueeze(1) + shift.repeat(1, 2).unsqueeze(1)
        inside = corners.clamp(min=0).minimum(size.repeat(2))
        (before, after) = ((c[..., 2:] - c[..., :2]).prod(dim=2) for c in (corners, inside))
        labels = targets[..., CLASS].masked_fill(after < LEFT * before, NONE)
        return images, torch.cat([inside, labels.unsqueeze(-1), targets[..., FLAG:]], dim=2)
