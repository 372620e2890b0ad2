"""Data held in memory in compact types: images as bytes, split into training, validation and test set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from dltrain.data.balance import Balance
from dltrain.data.description import unsound
from dltrain.data.fake import fake_samples
from dltrain.data.images.decode import read_image
from dltrain.data.images.pixel_rule import PixelRule, rule_from
from dltrain.data.images.synthetic import Synthetic
from dltrain.data.split import Split, held_out
from dltrain.data.trained_classes import unknown_classes
from dltrain.errors import InputError
from dltrain.types import BatchSize, Fraction, Ge, PositiveInt, Sample, Source, Spec, Transform

MOST_VALUES = 2**26  # of one image
FOLDER_DIGEST, PIXELS = "digest", "pixels"  # in the description of images in folders
OF_FOLDERS = (FOLDER_DIGEST, PIXELS)
CHUNK = 2**22  # values at a time while statistics are gathered


class InMemory:
    """A labelled image set from `source`, with a validation split taken from its training set.

    The split is stratified (the same share of every class) and a function of `split_seed` alone, so that runs with
    other seeds are compared on the same samples; with `folds` it is the `fold`-th of k equal parts (from 0) instead of
    `val_fraction`. Sets that come with a validation set of their own keep it. `read` happens once, when a split is first
    used. `epochs` is how long a first training on this set should take: trainer.epochs is that unless it is set.
    `scaling` makes batches of mean 0 and standard deviation 1, by the set's known statistics or else those of its
    training samples, or only of range 0..1. `balance` says what is done about rare classes: see dltrain.data.balance.
    """

    def __init__(
        self,
        source: Source,
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 64,
        val_fraction: Fraction = 0.1,
        folds: Annotated[int, Ge(2)] | None = None,
        fold: Annotated[int, Ge(0)] = 0,
        split_seed: int = 0,
        epochs: PositiveInt = 5,
        scaling: Literal["standardize", "unit"] = "standardize",
        balance: Balance = "none",
        transforms: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        if folds is not None and fold >= folds:
            raise ValueError(
                f"dataset.fold={fold} is not one of the {folds} folds: they count from 0"
            )
        self.source, self.batch_size, self.eval_batch_size = source, batch_size, eval_batch_size
        self.val_fraction, self.split_seed, self.seed = val_fraction, split_seed, seed
        self.epochs, self.scaling, self.device = epochs, scaling, torch.device("cpu")
        self.folds, self.fold, self.balance, self.transforms = (
            folds,
            fold,
            balance,
            tuple(transforms),
        )
        self.restored: Spec | None = None
        self.rule = PixelRule()  # for images to predict from
        self.given: tuple[tuple[float, ...], tuple[float, ...]] | None = (
            None  # by other data than this
        )

    def standardize_by(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        fits = len(mean) == len(std) == self.stored_spec.input_shape[0]
        self.given = (tuple(mean), tuple(std)) if fits else self.given
        return fits

    @property
    def spec(self) -> Spec:
        """Of the batches: after every transform, with what they are standardized by as far as it is known yet."""
        stored = self.stored_spec
        shape = reduce(
            lambda shape, transform: transform.shape(shape), self.transforms, stored.input_shape
        )
        repeats = max(1, shape[0] // stored.input_shape[0])  # patches make several channels of one
        mean, std = (
            [v for v in values for _ in range(repeats)] for values in (stored.mean, stored.std)
        )
        return replace(stored, input_shape=shape, mean=tuple(mean), std=tuple(std))

    @property
    def stored_spec(self) -> Spec:
        spec = self.restored or self.source.spec
        channels = spec.input_shape[0]
        if self.given:
            return replace(spec, mean=self.given[0], std=self.given[1])
        if self.scaling == "unit":
            return replace(spec, mean=(0.0,) * channels, std=(255.0,) * channels)
        if spec.mean:
            return spec
        mean, std = (
            self.statistics
            if "stored" in self.__dict__
            else ((127.5,) * channels, (64.0,) * channels)
        )
        return replace(spec, mean=mean, std=std)

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the training samples."""
        inputs, rows = self.stored["train"][0], self.rows[0].to(self.device)
        sums = torch.zeros(2, inputs.shape[1], dtype=torch.float64)
        for part in rows.split(max(1, CHUNK // inputs[0].numel())):
            values = inputs[part].flatten(2).to(torch.float32)
            moments = torch.stack(
                [values.sum(2), values.square_().sum(2)]
            )  # of every image, in doubles from here on
            sums += moments.sum(1, dtype=torch.float64).cpu()
        count = max(1, len(rows) * inputs[0, 0].numel())
        mean = sums[0] / count
        std = (sums[1] / count - mean.square()).clamp_min(0).sqrt()
        return tuple(mean.tolist()), tuple((std if std > 0 else 1.0) for std in std.tolist())

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Training samples of each class, of the data that was trained on."""
        return (
            self.restored.class_counts
            if self.restored
            else self.train.class_counts(self.spec.num_classes)
        )

    @cached_property
    def stored(self) -> dict[str, tuple[Tensor, Tensor]]:
        sets = self.source.read()
        for name, (inputs, targets) in sets.items():
            if len(inputs) != len(targets):
                raise InputError(
                    f"the {name} set has {len(inputs)} inputs and {len(targets)} targets"
                )
        if self.restored:
            sets = {name: (x, self.as_trained(x, y)) for name, (x, y) in sets.items()}
        return {name: (x.to(self.device), y.to(self.device)) for name, (x, y) in sets.items()}

    def as_trained(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return `targets` in the numbering of the data that was trained on: classes are matched by
        name.

        InputError for a class that the run does not know, and for inputs of another shape.
        """
        here, trained = self.source.spec.class_names, self.stored_spec.class_names
        if (shape := tuple(inputs.shape[1:])) != self.stored_spec.input_shape:
            raise InputError(
                f"inputs have the shape {shape}; the run was trained on {self.stored_spec.input_shape}"
            )
        number = {name: k for k, name in enumerate(trained)}
        unknown = [name for name in here if name not in number]
        if unknown and len(here) > len(trained):
            raise InputError(
                f"the data has {len(here)} classes; the run knows {len(trained)}: {unknown_classes(unknown, trained)}"
            )
        if unknown:
            raise unknown_classes(unknown, trained)
        return torch.tensor([number[name] for name in here], dtype=torch.int64)[targets]

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of the stored training set for training and for validation."""
        targets = self.stored["train"][1].cpu()
        if "val" in self.stored:
            return torch.arange(len(targets)), torch.arange(len(self.stored["val"][1]))
        held = held_out(targets, self.val_fraction, self.split_seed, self.folds, self.fold)
        return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)

    @cached_property
    def train(self) -> Split:
        split = self.split(*self.stored["train"], self.rows[0], self.batch_size, self.seed)
        if not split.samples and not self.restored:
            raise InputError(
                "there are no training samples: all of them went into validation (dataset.val_fraction)"
            )
        return split

    @cached_property
    def val(self) -> Split:
        stored = self.stored.get("val", self.stored["train"])
        return self.split(*stored, self.rows[1], self.eval_batch_size, None)

    @cached_property
    def test(self) -> Split:
        inputs, targets = self.stored["test"]
        return self.split(inputs, targets, torch.arange(len(targets)), self.eval_batch_size, None)

    def split(
        self, inputs: Tensor, targets: Tensor, rows: Tensor, batch_size: BatchSize, seed: int | None
    ) -> Split:
        balanced = self.balance == "sampler"
        return Split(
            inputs, targets, rows, self.stored_spec, batch_size, seed, self.transforms, balanced
        )

    def fake(self) -> InMemory:
        """Random images of the same shape and classes: a few small batches, no file."""
        size = 16 if self.batch_size == "all" else min(self.batch_size, 16)
        count = fake_samples(size, self.spec.num_classes)
        spec = replace(self.stored_spec, train_samples=count, test_samples=count)
        more: dict[str, Any] = {
            "balance": self.balance,
            "transforms": self.transforms,
            "seed": self.seed,
        }
        fake = InMemory(Synthetic.like(spec), size, size, 0.5, **more)
        fake.to(self.device)
        return fake

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        if "stored" in self.__dict__:
            return sum(t.numel() * t.element_size() for pair in self.stored.values() for t in pair)
        channels, height, width = self.source.spec.input_shape
        return (channels * height * width + 8) * (self.spec.train_samples + self.spec.test_samples)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, pair in sorted(self.stored.items()):
            for tensor in pair:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        spec = self.stored_spec
        return {
            "input_shape": list(spec.input_shape),
            "class_names": list(spec.class_names),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "class_counts": list(self.class_counts),
        }

    def restore(self, description: dict[str, Any]) -> None:
        try:
            values: dict[str, Any] = {
                n: tuple(value) for n, value in description.items() if n not in OF_FOLDERS
            }
            spec = Spec(train_samples=0, test_samples=0, **values)
            sound = len(spec.input_shape) == 3 and all(
                isinstance(n, int) and n > 0 for n in spec.input_shape
            )
            sound = sound and math.prod(spec.input_shape) <= MOST_VALUES
            sound = sound and all(isinstance(name, str) for name in spec.class_names)
            sound = sound and all(len(v) in (0, spec.input_shape[0]) for v in (spec.mean, spec.std))
            sound = (
                sound
                and all(math.isfinite(v) for v in (*spec.mean, *spec.std))
                and all(v > 0 for v in spec.std)
            )
        except (AttributeError, TypeError) as e:
            raise unsound(e) from e
        if not sound:
            raise unsound("a shape, a name, a mean or a deviation is none")
        self.restored = spec
        if FOLDER_DIGEST in description:
            self.rule = rule_from(description.get(PIXELS))

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        for path in paths:
            try:
                pixels = read_image(path, self.stored_spec.input_shape, self.rule).unsqueeze(0)
            except InputError as e:
                yield Sample(str(path), None, str(e))
                continue
            split = self.split(pixels, torch.zeros(1), torch.zeros(1, dtype=torch.int64), 1, None)
            yield Sample(str(path), next(split.epoch(0))[0][0])
