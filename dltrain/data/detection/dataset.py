"""Images with boxes around their objects, held in memory: splits, batches and descriptions."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from dltrain.data.dataset import Dataset, Part, class_numbers, counted, require, unknown_classes
from dltrain.data.detection.fake import MAX_BOXES, FakeDetectionSource
from dltrain.data.detection.letterbox import letterbox
from dltrain.data.detection.samples import (
    NO_CLASS,
    DetectionSource,
    DetectionTensors,
    DrawnTestSplit,
    NamesImages,
)
from dltrain.data.detection.transforms import Flip, Jitter
from dltrain.data.held_out.rule import (
    check_fold,
    describe_random_split,
    held_out_mask,
    refuse_own_validation_set,
)
from dltrain.data.images.labeled import require_image_shape, require_statistics, require_texts
from dltrain.data.images.opening import size_of
from dltrain.data.images.pixel_rule import PixelRule, rule_from
from dltrain.data.io.places import AbsentDataError
from dltrain.data.split import Split
from dltrain.errors import InputError
from dltrain.types import (
    BatchSize,
    Fraction,
    Ge,
    PositiveInt,
    Probability,
    ReportTable,
    Sample,
    Spec,
    Transform,
)
from dltrain.types.boxes import (
    CLASS,
    CROWD,
    DIFFICULT,
    FLAG,
    HEIGHT,
    TRAINED,
    WIDTH,
    is_box,
    is_counted,
    is_trained,
)

log = logging.getLogger("dltrain")
FAKE_BATCHES = 4
MAX_FAKE_BATCH_SAMPLES = 8
DIGEST, PIXELS, BOXES = "digest", "pixels", "boxes"  # keys of a description
LEFT_OUT = "neither objects nor background in training"
# Objects that are not scored, and what training does with them, by their flag.
UNCOUNTED = {
    DIFFICULT: ("difficult object", LEFT_OUT),
    TRAINED: ("difficult object", "trained on as others"),
    CROWD: ("crowd region", LEFT_OUT),
}
# What is described where no set is named, for debug=smoke.
STAND_IN = Spec((3, 128, 128), ("a", "b"), 80, 20, (114.0,) * 3, (58.0,) * 3, boxes=MAX_BOXES)


@dataclass(frozen=True)
class LearnedDetection:
    """Knowledge that a run has of its training images.

    `digest` is the name of what its files described, if there were files, and `rule` says how the
    pixels of files become bytes.
    """

    spec: Spec
    digest: object = None
    rule: PixelRule = field(default_factory=PixelRule)


class DetectionDataset(Dataset[DetectionTensors, LearnedDetection, Split]):
    """Batches (images (B, C, H, W) standardized, targets (B, M, 5)) of the images of a `source`.

    The rows of a target are x1, y1, x2, y2 in pixels and the class number, padded with class -1; if
    some objects do not count, as difficult ones, a sixth column says which (dltrain.types.boxes).
    If the source has no test split of its own, `test_fraction` of the training images, chosen by
    `split_seed` alone, are one; likewise `val_fraction` of the rest for validation, or the
    `fold`-th of k equal parts. An epoch goes `repeats` times through the training images. In
    training an image is flipped with probability `flip`, and shown at 1 - `jitter` to 1 + `jitter`
    times its size at a random place, its boxes likewise; a box of which less than a quarter is left
    is dropped. Raises ValueError for preprocessing that would not move boxes.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        source: DetectionSource,
        batch_size: BatchSize = 8,
        eval_batch_size: PositiveInt = 16,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.1,
        folds: Annotated[int, Ge(2)] | None = None,
        fold: Annotated[int, Ge(0)] | None = None,
        split_seed: int = 0,
        epochs: PositiveInt = 10,
        repeats: PositiveInt = 1,
        flip: Probability = 0.0,
        jitter: Fraction = 0.0,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        moving = [type(one).__name__ for one in transforms if one.moves_pixels]
        if moving:
            raise ValueError(
                f"preprocessing or regularization of images ({', '.join(moving)}) would leave "
                "the boxes where they were: dataset.flip=0.5 and dataset.jitter=0.2 change both"
            )
        check_fold(folds, fold)
        super().__init__(batch_size, eval_batch_size, seed)
        self.source = source
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.folds = folds
        self.fold = fold
        self.split_seed = split_seed
        self.epochs = epochs
        self.repeats = repeats
        own: list[Transform] = []
        if flip:
            own.append(Flip(flip))
        if jitter:
            own.append(Jitter(jitter))
        self.transforms = (*own, *transforms)

    @property
    def spec(self) -> Spec:
        """The shape of the images; a stand-in's where the files are not named or absent.

        So `debug=smoke` needs no file, and reading says what is missing.
        """
        if self.learned is not None:
            return self.learned.spec
        if not self.source.named:
            return STAND_IN
        try:
            return self.source_spec
        except AbsentDataError:
            return STAND_IN

    @cached_property
    def source_spec(self) -> Spec:
        """The shape of the images as the source describes them."""
        return self.source.spec(self.test_split)

    @cached_property
    def rule(self) -> PixelRule:
        """The rule of the run, or else one that each image settles for itself."""
        return self.learned.rule if self.learned else PixelRule()

    @cached_property
    def is_other_data(self) -> bool:
        """True if the files are not those that the restored run was trained on."""
        if self.learned is None or self.learned.digest is None or not self.source.has_files:
            return False
        return self.source.digest() != self.learned.digest

    @property
    def test_split(self) -> DrawnTestSplit:
        """The way in which images are chosen for testing where the source has no test split."""
        return DrawnTestSplit(self.test_fraction, self.split_seed, self.is_other_data)

    def find_files(self) -> None:
        """Raise ConfigError where no data set is named and InputError where a file is absent."""
        self.source.find_files()

    def read(self) -> DetectionTensors:
        """Read all images and boxes, with the class numbers of the run."""
        self.source.find_files()
        if self.is_other_data and not self.source.has_test_set():
            log.info(
                "this is not the data that the run was trained on: "
                "all of its images are for testing"
            )
        content = self.source.read(self.test_split, self.rule)
        log_uncounted_objects(content)
        for name, (images, targets) in content.items():
            targets = self.as_trained(tuple(images.shape[1:]), targets)
            content[name] = images.to(self.device), targets.to(self.device)
        return content

    def as_trained(self, shape: tuple[int, ...], targets: Tensor) -> Tensor:
        """Return targets (N, M, 5 or 6) with the class numbers of the restored run, if any.

        Raises InputError for an object of a class that the run does not know, and for images of
        another `shape` (C, H, W).
        """
        if self.learned is None:
            return targets
        trained = self.learned.spec
        if shape != trained.input_shape:
            _, height, width = trained.input_shape
            raise InputError(
                f"images have the shape {shape}, and the run was trained on {trained.input_shape}: "
                f'"dataset.image_size=[{height},{width}]" brings them to it'
            )
        names = self.source_spec.class_names
        used = targets[..., CLASS][is_box(targets)].long().unique().tolist()
        unknown = {names[label] for label in used} - set(trained.class_names)
        if unknown:
            raise unknown_classes(sorted(unknown), trained.class_names)
        numbers = [float(number) for number in class_numbers(names, trained.class_names)]
        numbers.append(NO_CLASS)  # for class -1, the padding
        renumbered = targets.clone()
        renumbered[..., CLASS] = torch.tensor(numbers)[targets[..., CLASS].long()]
        return renumbered

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """The rows for training, of the set train, and those for validation, of val or train."""
        count = len(self.stored["train"][1])
        if "val" in self.stored:
            refuse_own_validation_set(self.folds)
            return torch.arange(count), torch.arange(len(self.stored["val"][1]))
        held = held_out_mask(
            torch.zeros(count), self.val_fraction, self.split_seed, self.folds, self.fold
        )
        return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)

    @property
    def validation_set(self) -> str:
        """The name of the stored set that has the validation images."""
        return "val" if "val" in self.stored else "train"

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> Split:
        """Return the batches of one split."""
        if part == "test":
            images, targets = self.stored["test"]
            return self.split(images, targets, torch.arange(len(targets)), batch_size, seed)
        if part == "val":
            images, targets = self.stored[self.validation_set]
            return self.split(images, targets, self.rows[1], batch_size, seed)
        if not len(self.rows[0]) and self.learned is None:
            raise InputError(
                "there are no training images: "
                "dataset.val_fraction and dataset.test_fraction took them all"
            )
        images, targets = self.stored["train"]
        rows = self.rows[0].repeat(self.repeats)
        return self.split(images, targets, rows, batch_size, seed)

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names an image of a split: its file, or set and number."""
        name = {"train": "train", "val": self.validation_set, "test": "test"}[part]
        if isinstance(self.source, NamesImages):
            return self.source.image_names(self.test_split)[name].__getitem__
        origin = type(self.source).__name__.lower()
        return lambda row: f"{origin}/{name}/{row}"

    def split(
        self, images: Tensor, targets: Tensor, rows: Tensor, batch_size: BatchSize, seed: int | None
    ) -> Split:
        """Return the batches of some rows of images (N, C, H, W) and targets (N, M, 5 or 6)."""
        return Split(images, targets, rows, self.spec, batch_size, seed, self.transforms)

    def count_classes(self) -> tuple[int, ...]:
        """Return the number of training objects of each class."""
        targets = self.stored["train"][1][self.rows[0]]
        return self.count(targets[is_trained(targets)])

    def count(self, objects: Tensor) -> tuple[int, ...]:
        """Return how many of the objects (N, 5 or 6) are of each class."""
        labels = objects[:, CLASS].long()
        return tuple(torch.bincount(labels.cpu(), minlength=self.spec.num_classes).tolist())

    def inspect(self) -> list[ReportTable]:
        """Return how many objects of each class each split has, and how many are not scored."""
        targets = {
            "train": self.stored["train"][1].cpu()[self.rows[0]],
            "val": self.stored[self.validation_set][1].cpu()[self.rows[1]],
            "test": self.stored["test"][1].cpu(),
        }
        counts = [self.count(rows[is_counted(rows)]) for rows in targets.values()]
        lines: list[tuple[str | int | float, ...]] = list(
            zip(self.spec.class_names, *counts, strict=True)
        )
        title = "scored objects of each class"
        listings = [ReportTable("objects", ("class", *targets), lines, title)]
        uncounted = {
            name: int((is_box(rows) & ~is_counted(rows)).sum()) for name, rows in targets.items()
        }
        if any(uncounted.values()):
            columns, title = ("split", "objects"), "difficult objects and crowds"
            lines = list(uncounted.items())
            listings.append(ReportTable("objects_not_scored", columns, lines, title))
        return listings

    def test_rule(self) -> str:
        """Describe how the test split was chosen; "" if the source has one."""
        if self.source.has_test_set() or self.is_other_data:
            return ""
        return describe_random_split(self.test_fraction, "the images", self.split_seed)

    def fake(self) -> DetectionDataset:
        """Return a few small batches of random boxes in noise, of the same shape and classes."""
        size = MAX_FAKE_BATCH_SAMPLES
        if self.batch_size != "all":
            size = min(size, self.batch_size)
        count = FAKE_BATCHES * size
        spec = replace(self.spec, train_samples=2 * count, test_samples=count)
        fake = DetectionDataset(
            FakeDetectionSource(spec), size, size, val_fraction=0.5, seed=self.seed
        )
        fake.transforms = self.transforms
        fake.to(self.device)
        return fake

    def expected_size_in_bytes(self) -> int:
        """Return the bytes of all images and targets."""
        spec = self.spec
        sample_bytes = math.prod(spec.input_shape) + 20 * spec.boxes
        return sample_bytes * (spec.train_samples + spec.test_samples)

    def description(self) -> dict[str, Any]:
        """Return the shape, the classes and the statistics, and what the files described."""
        spec = self.spec
        description: dict[str, Any] = {
            "input_shape": list(spec.input_shape),
            "class_names": list(spec.class_names),
            "mean": list(spec.mean),
            "std": list(spec.std),
            BOXES: spec.boxes,
        }
        if self.source.has_files:
            rule = self.stored.rule if self.is_read else self.rule
            description |= {DIGEST: self.source.digest(), PIXELS: rule.description()}
        return description

    def parse(self, description: dict[str, Any]) -> LearnedDetection:
        """Return the content of a description."""
        values: dict[str, Any] = {
            key: tuple(value)
            for key, value in description.items()
            if key not in (BOXES, DIGEST, PIXELS)
        }
        spec = Spec(train_samples=0, test_samples=0, boxes=description[BOXES], **values)
        require_detection_spec(spec)
        if not self.source.has_files:
            return LearnedDetection(spec)
        return LearnedDetection(spec, description.get(DIGEST), rule_from(description.get(PIXELS)))

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the image in a file, letterboxed and standardized, with the size of the file."""
        channels, *size = self.spec.input_shape
        height, width = size
        pixels, (file_height, file_width) = letterbox(
            str(path), channels, (height, width), self.rule
        )
        inputs = self.encode_images(pixels.unsqueeze(0))
        yield Sample(str(path), inputs[0], about={WIDTH: file_width, HEIGHT: file_height})

    def file_size(self, name: str) -> tuple[int, int] | None:
        """Return width and height of the image file that names a sample; None if it is no file."""
        size = size_of(name)
        if size is None:
            return None
        height, width = size
        return width, height

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of an image before every transform."""
        return self.spec.input_shape

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return images (B, C, H, W) with values in 0..255 as the network's inputs (B, ...)."""
        count = len(pixels)
        targets, rows = torch.zeros(count, 1, 5), torch.arange(count)
        inputs, _ = next(self.split(pixels, targets, rows, count, None).epoch(0))
        return inputs


def require_detection_spec(spec: Spec) -> None:
    """Raise ValueError for a description of images with boxes that cannot be one."""
    require_image_shape(spec.input_shape)
    require_texts(spec.class_names)
    require_statistics(spec.mean, spec.std)
    channels = spec.input_shape[0]
    require(channels in (1, 3), f"images have {channels} channels; expected 1 or 3")
    require(isinstance(spec.boxes, int) and spec.boxes > 0, "boxes is not a positive integer")
    require(len(spec.class_names) > 0, "there are no class names")
    is_per_channel = len(spec.mean) == len(spec.std) == channels
    require(is_per_channel, "mean or std is not one number per channel")


def log_uncounted_objects(sets: DetectionTensors) -> None:
    """Log how many objects are not scored, and what training does with them."""
    flags = torch.cat(
        [targets[..., FLAG:][is_box(targets)].flatten() for _, targets in sets.values()]
    )
    for flag, (what, use) in UNCOUNTED.items():
        count = int((flags == flag).sum())
        if count:
            start = counted(count, f"{what} is", f"{what}s are")
            log.info(f"{start} not scored, and {use}")
