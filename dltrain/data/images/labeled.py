"""The base class of images to classify, whether they are in memory or in their files."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from dltrain.data.dataset import (
    Dataset,
    Part,
    TensorSets,
    class_numbers,
    no_training_samples,
    require,
    unknown_classes,
)
from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.rule import check_fold, held_out_mask, refuse_own_validation_set
from dltrain.data.images.decode import read_image
from dltrain.data.images.pixel_rule import PixelRule, rule_from
from dltrain.data.split import Balance, Split
from dltrain.errors import InputError
from dltrain.types import BatchSize, CountsClasses, DataSplit, Sample, Spec, Transform

Scaling: TypeAlias = Literal["standardize", "unit"]
Statistics: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
MAX_IMAGE_VALUES = 2**26
CHUNK_VALUES = 2**22  # at a time while statistics are computed
FOLDER_DIGEST, PIXELS = "digest", "pixels"  # in a description of images from a folder
MEAN_BEFORE_READING, STD_BEFORE_READING = 127.5, 64.0  # of images whose statistics are not known


class ImageSplit(DataSplit, CountsClasses, Protocol):
    """The batches of one split, and how many samples of each class it has."""


class ImageContent(Protocol):
    """The images of every set (train, test, perhaps val): their pixels, or their files."""

    def size_in_bytes(self) -> int:
        """Return how much memory the images occupy."""

    def fingerprint(self) -> str:
        """Return a name for the content."""

    def __contains__(self, name: object, /) -> bool:
        """Return whether there is a set of this name."""

    def images(self, name: str) -> Tensor:
        """Return the images (N, C, H, W) of a set; none if they stay in their files."""

    def targets(self, name: str) -> Tensor:
        """Return the class numbers (N,) of a set."""

    def statistics(self, rows: Tensor) -> Statistics:
        """Return mean and standard deviation of each channel over some rows of the set train."""

    def batches(self, name: str, split: Split) -> ImageSplit:
        """Return the batches of a `split` of a set, with the images read that it lacks."""

    def row_names(self, name: str) -> Callable[[int], str]:
        """Return the function that names a row of a set: its file, or origin and number."""


class ImageTensors(TensorSets):
    """Images (N, C, H, W) of bytes and class numbers (N,) in memory, by the name of the set.

    `origin` names the source, and `paths` are the files of each set that was read from such.
    """

    def __init__(self, origin: str, paths: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__()
        self.origin = origin
        self.paths = paths or {}

    def images(self, name: str) -> Tensor:
        """Return the images (N, C, H, W) of a set."""
        return self[name][0]

    def targets(self, name: str) -> Tensor:
        """Return the class numbers (N,) of a set."""
        return self[name][1]

    def statistics(self, rows: Tensor) -> Statistics:
        """Return mean and standard deviation of each channel over some rows of the set train."""
        images = self.images("train")
        values_per_image = images[0].numel()
        sums = torch.zeros(2, images.shape[1], dtype=torch.float64)
        for part in rows.to(images.device).split(max(1, CHUNK_VALUES // values_per_image)):
            values = images[part].flatten(2).to(torch.float32)
            # Sums over one image fit float32; sums over images are taken in float64.
            moments = torch.stack([values.sum(2), values.square_().sum(2)])
            sums += moments.sum(1, dtype=torch.float64).cpu()
        count = max(1, len(rows) * images[0, 0].numel())
        return mean_and_std(sums[0] / count, sums[1] / count)

    def batches(self, name: str, split: Split) -> Split:
        """Return the split: it has its images."""
        return split

    def row_names(self, name: str) -> Callable[[int], str]:
        """Return the function that names a row of a set: its file, or origin and number."""
        if name in self.paths:
            return self.paths[name].__getitem__
        return lambda row: f"{self.origin}/{name}/{row}"


def mean_and_std(mean: Tensor, mean_of_squares: Tensor) -> Statistics:
    """Return mean and standard deviation of each channel (C,); 1 for a deviation of 0."""
    std = (mean_of_squares - mean.square()).clamp_min(0).sqrt()
    return tuple(mean.tolist()), tuple((value if value > 0 else 1.0) for value in std.tolist())


@dataclass(frozen=True)
class LearnedImages:
    """Knowledge that a run has of its training images.

    `digest` is the name of the folder's content if they came from a folder, and `rule` says how the
    pixels of files become bytes.
    """

    spec: Spec
    digest: object = None
    rule: PixelRule = field(default_factory=PixelRule)


class LabeledImages(Dataset[ImageContent, LearnedImages, ImageSplit]):
    """Images of one shape, each of one class, with a validation split taken from the training set.

    A subclass says where images come from: `source_spec` and `read`.

    The validation split is stratified (the same fraction of every class) and a function of
    `split_seed` alone, so that runs with other seeds are compared on the same samples; with `folds`
    it is the `fold`-th of k equal parts (from 0) instead of `val_fraction`. A set that comes with a
    validation set of its own keeps it. `epochs` is the value of trainer.epochs unless that is set.
    `scaling` makes batches of mean 0 and standard deviation 1, by the set's known statistics or
    else those of its training samples, or only of range 0..1. `balance` says how rare classes are
    balanced (dltrain.data.split).
    """

    def __init__(
        self,
        *,
        batch_size: BatchSize,
        eval_batch_size: int,
        val_fraction: float,
        folds: int | None,
        fold: int | None,
        split_seed: int,
        epochs: int,
        scaling: Scaling,
        balance: Balance,
        transforms: Sequence[Transform],
        seed: int,
    ) -> None:
        check_fold(folds, fold)
        super().__init__(batch_size, eval_batch_size, seed)
        self.val_fraction = val_fraction
        self.folds = folds
        self.fold = fold
        self.split_seed = split_seed
        self.epochs = epochs
        self.scaling = scaling
        self.balance = balance
        self.transforms = tuple(transforms)
        self.given_statistics: Statistics | None = None  # by a network that is trained already

    @property
    @abstractmethod
    def source_spec(self) -> Spec:
        """The shape of the images as their source describes them."""

    @property
    @abstractmethod
    def rule(self) -> PixelRule:
        """The rule by which the pixels of files to predict from become bytes."""

    @abstractmethod
    def training_groups(self) -> Groups | None:
        """Return the groups of the training set that stay together; None without groups."""

    @abstractmethod
    def file_description(self) -> dict[str, Any]:
        """Return what the description has of images in files; empty for others."""

    def standardize_by(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        """Standardize by the given statistics; return False where the channels are not as many."""
        fits = len(mean) == len(std) == self.stored_spec.input_shape[0]
        if fits:
            self.given_statistics = (tuple(mean), tuple(std))
        return fits

    @property
    def spec(self) -> Spec:
        """The shape of the batches, after every transform, with the statistics as far as known."""
        stored = self.stored_spec
        shape = stored.input_shape
        for transform in self.transforms:
            shape = transform.shape(shape)
        count = max(1, shape[0] // stored.input_shape[0])  # patches make several channels of one
        mean, std = repeated(stored.mean, count), repeated(stored.std, count)
        return replace(stored, input_shape=shape, mean=mean, std=std)

    @property
    def stored_spec(self) -> Spec:
        """The shape of the stored images, with the statistics by which they are standardized."""
        spec = self.learned.spec if self.learned else self.source_spec
        channels = spec.input_shape[0]
        if self.given_statistics:
            mean, std = self.given_statistics
        elif self.scaling == "unit":
            mean, std = (0.0,) * channels, (255.0,) * channels
        elif spec.mean:
            return spec
        elif self.is_read:
            mean, std = self.statistics
        else:
            mean, std = (MEAN_BEFORE_READING,) * channels, (STD_BEFORE_READING,) * channels
        return replace(spec, mean=mean, std=std)

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation of each channel over the training samples."""
        return self.stored.statistics(self.rows[0])

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """The rows for training, of the set train, and those for validation, of val or train."""
        targets = self.stored.targets("train").cpu()
        if "val" in self.stored:
            refuse_own_validation_set(self.folds)
            return torch.arange(len(targets)), torch.arange(len(self.stored.targets("val")))
        held = held_out_mask(
            targets,
            self.val_fraction,
            self.split_seed,
            self.folds,
            self.fold,
            self.training_groups(),
        )
        return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> ImageSplit:
        """Return the batches of one split."""
        name, rows = self.rows_of(part)
        if part == "train" and not len(rows) and self.learned is None:
            raise no_training_samples()
        images, targets = self.stored.images(name), self.stored.targets(name)
        return self.stored.batches(name, self.split(images, targets, rows, batch_size, seed))

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names an image of a split: its file, or set and number."""
        name, _ = self.rows_of(part)
        return self.stored.row_names(name)

    def rows_of(self, part: Part) -> tuple[str, Tensor]:
        """Return the stored set that has the images of a split, and their rows in it."""
        train, val = self.rows
        if part == "train":
            return "train", train
        if part == "val":
            return "val" if "val" in self.stored else "train", val
        return "test", torch.arange(len(self.stored.targets("test")))

    def split(
        self, images: Tensor, targets: Tensor, rows: Tensor, batch_size: BatchSize, seed: int | None
    ) -> Split:
        """Return the batches of some rows of images (N, C, H, W) of bytes and targets (N,)."""
        return Split(
            images,
            targets,
            rows,
            self.stored_spec,
            batch_size,
            seed,
            self.transforms,
            balanced=self.balance == "sampler",
        )

    def count_classes(self) -> tuple[int, ...]:
        """Return the number of training samples of each class, of the data that was trained on."""
        if self.learned is not None:
            return self.learned.spec.class_counts
        return self.train.class_counts(self.spec.num_classes)

    def as_trained(self, shape: tuple[int, ...], targets: Tensor) -> Tensor:
        """Return class numbers (N,) of the source as the numbers that the run gave these classes.

        Before a run is restored they are returned as they are. Raises InputError for a class that
        the run does not know, and for images of another `shape` (C, H, W).
        """
        if self.learned is None:
            return targets
        trained = self.learned.spec
        if shape != trained.input_shape:
            raise InputError(
                f"inputs have the shape {shape}; the run was trained on {trained.input_shape}"
            )
        names = self.source_spec.class_names
        numbers = class_numbers(names, trained.class_names)
        unknown = [name for name, number in zip(names, numbers, strict=True) if number < 0]
        if unknown:
            error = unknown_classes(unknown, trained.class_names)
            if len(names) <= len(trained.class_names):
                raise error
            raise InputError(
                f"the data has {len(names)} classes; "
                f"the run knows {len(trained.class_names)}: {error}"
            )
        return torch.tensor(numbers, dtype=torch.int64)[targets]

    def description(self) -> dict[str, Any]:
        """Return the shape, the classes with their numbers of samples, and the statistics."""
        class_counts = self.class_counts  # reads the data, which the statistics need
        spec = self.stored_spec
        return {
            "input_shape": list(spec.input_shape),
            "class_names": list(spec.class_names),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "class_counts": list(class_counts),
            **self.file_description(),
        }

    def parse(self, description: dict[str, Any]) -> LearnedImages:
        """Return the content of a description."""
        about_files = {FOLDER_DIGEST, PIXELS}
        values: dict[str, Any] = {
            key: tuple(value) for key, value in description.items() if key not in about_files
        }
        spec = Spec(train_samples=0, test_samples=0, **values)
        require_image_spec(spec)
        if FOLDER_DIGEST not in description:
            return LearnedImages(spec)
        return LearnedImages(spec, description[FOLDER_DIGEST], rule_from(description.get(PIXELS)))

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the image in a file, standardized and after the transforms that are not random."""
        pixels = read_image(path, self.pixel_shape, self.rule)
        yield Sample(str(path), self.encode_images(pixels.unsqueeze(0))[0])

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of an image before every transform."""
        return self.stored_spec.input_shape

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return images (B, C, H, W) with values in 0..255 as the network's inputs (B, ...)."""
        count = len(pixels)
        targets, rows = torch.zeros(count), torch.arange(count)
        inputs, _ = next(self.split(pixels, targets, rows, count, None).epoch(0))
        return inputs


def repeated(values: Sequence[float], count: int) -> tuple[float, ...]:
    """Return each value `count` times, one after the other."""
    return tuple(value for value in values for _ in range(count))


def size_in_bytes(spec: Spec) -> int:
    """Return the bytes of all images and class numbers that `spec` describes."""
    return (math.prod(spec.input_shape) + 8) * (spec.train_samples + spec.test_samples)


def require_image_spec(spec: Spec) -> None:
    """Raise ValueError for a description of images that cannot be one."""
    require_image_shape(spec.input_shape)
    require_texts(spec.class_names)
    channels = spec.input_shape[0]
    require(len(spec.mean) in (0, channels), "mean is not one number per channel")
    require(len(spec.std) in (0, channels), "std is not one number per channel")
    require_statistics(spec.mean, spec.std)


def require_image_shape(shape: Sequence[Any]) -> None:
    """Raise ValueError unless a shape is three positive integers (C, H, W) of a possible size."""
    is_size = [isinstance(size, int) and size > 0 for size in shape]
    require(len(is_size) == 3 and all(is_size), "input_shape is not three positive integers")
    require(math.prod(shape) <= MAX_IMAGE_VALUES, "input_shape is too large")


def require_texts(names: Sequence[Any]) -> None:
    """Raise ValueError for names of classes that are not text."""
    require(all(isinstance(name, str) for name in names), "a class name is not text")


def require_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError for values that are not finite and standard deviations up to 0."""
    require(all(map(math.isfinite, (*mean, *std))), "mean or std is not finite")
    require(all(value > 0 for value in std), "std is not positive")
