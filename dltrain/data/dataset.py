"""The base class of all data sets, and what they share: tensors, descriptions, class matching.

It depends on no family: images, boxes, tables, texts and environments have their own classes.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from dltrain.errors import InputError, first_names
from dltrain.types import BatchSize, Data, DataSplit, OrdersSamples, Sample, Spec

Part: TypeAlias = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
MAX_NAMES_SHOWN = 50


class Content(Protocol):
    """The data of all splits as they were read."""

    def size_in_bytes(self) -> int:
        """Return how much memory the data occupies."""

    def fingerprint(self) -> str:
        """Return a name for the content: equal data, equal name."""


ContentT = TypeVar("ContentT", bound=Content)
LearnedT = TypeVar("LearnedT")
SplitT = TypeVar("SplitT", bound=DataSplit)


class Dataset(ABC, Generic[ContentT, LearnedT, SplitT]):
    """A data set with three splits, as commands and tasks use it (`dltrain.types.Data`).

    A family defines how its data is read (`read`), what it looks like (`spec`), how a split of it
    is made (`make_split`), what it learned from the training data (`description` and `parse`), and
    how a file becomes inputs to predict from (`encode_file`). It may define the names of samples
    (`row_names`). Everything else is defined here and is not overridden.

    The data is read once, when `stored` is first used: by a split, a fingerprint, or a spec that
    depends on it. `learned` is what a run learned from its own training data (its classes, their
    numbers of samples, means, a vocabulary), once `restore` was called; None before.
    """

    def __init__(
        self, batch_size: BatchSize = 1, eval_batch_size: BatchSize = 1, seed: int = 0
    ) -> None:
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.device = torch.device("cpu")
        self.learned: LearnedT | None = None
        self.is_training = True  # False for the data of a finished run
        self._stored: ContentT | None = None

    # What a family defines.

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """The shape of the data, known without reading it where that is possible."""

    @abstractmethod
    def read(self) -> ContentT:
        """Read the data of every split, on `device`; InputError for what cannot be used."""

    @abstractmethod
    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> SplitT:
        """Return one split of `stored`, shuffled by `seed`; in the stored order if it is None."""

    @abstractmethod
    def count_classes(self) -> tuple[int, ...]:
        """Return the number of training samples of each class; empty where there are none."""

    @abstractmethod
    def expected_size_in_bytes(self) -> int:
        """Return how much memory the data will occupy, as far as that is known before reading."""

    @abstractmethod
    def fake(self) -> Data:
        """Return random data of the same shape that needs no file."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Return what was learned from the training data, as plain values for JSON."""

    @abstractmethod
    def parse(self, description: dict[str, Any]) -> LearnedT:
        """Return the content of a `description`.

        A description comes from a file. For one that is malformed this raises KeyError, TypeError,
        ValueError or AttributeError; `restore` makes an InputError of it.
        """

    @abstractmethod
    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the inputs in a user's file; InputError for a file that cannot be read."""

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names a stored row of a split, by default as in test/12."""
        return lambda row: f"{part}/{row}"

    # What all families share.

    @property
    def stored(self) -> ContentT:
        """The data of every split, which is read on first access."""
        if self._stored is None:
            self._stored = self.read()
        return self._stored

    @property
    def is_read(self) -> bool:
        """True once the data was read."""
        return self._stored is not None

    @cached_property
    def train(self) -> SplitT:
        """The training split: its order is a function of the seed and the epoch."""
        return self.make_split("train", self.batch_size, self.seed)

    @cached_property
    def val(self) -> SplitT:
        """The validation split, in the stored order."""
        return self.make_split("val", self.eval_batch_size, None)

    @cached_property
    def test(self) -> SplitT:
        """The test split, in the stored order."""
        return self.make_split("test", self.eval_batch_size, None)

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """The number of training samples of each class; empty where there are no classes."""
        return self.count_classes()

    def sample_names(self, part: Part) -> Iterator[str]:
        """Yield the name of each sample of a split, in the order of the batches of epoch 0.

        No name exists before it is yielded, so they cost nothing until they are asked for.
        """
        split = {"train": lambda: self.train, "val": lambda: self.val, "test": lambda: self.test}
        samples = split[part]()
        rows: Iterable[int] = range(samples.samples)
        if isinstance(samples, OrdersSamples):
            rows = map(int, samples.order(0))
        yield from map(self.row_names(part), rows)

    def ordered_split(self, part: Part) -> SplitT:
        """Return a split in the stored order, as evaluation sees it: without augmentation."""
        return self.make_split(part, self.eval_batch_size, None)

    def ordered_batches(self, part: Part) -> Iterator[Any]:
        """Yield the batches of `ordered_split`: every sample of a split once."""
        yield from self.ordered_split(part).epoch(0)

    def ordered_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names the sample at a position of `ordered_batches`."""
        split = self.ordered_split(part)
        name = self.row_names(part)
        if not isinstance(split, OrdersSamples):
            return name
        order = split.order(0)
        return lambda position: name(int(order[position]))

    def to(self, device: torch.device) -> None:
        """Keep the data on `device`; to be called before it is read."""
        self.device = device

    def size_in_bytes(self) -> int:
        """Return how much memory the data occupies; an estimate before it is read."""
        if self._stored is None:
            return self.expected_size_in_bytes()
        return self._stored.size_in_bytes()

    def fingerprint(self) -> str:
        """Return a name for the content: equal data, equal name."""
        return self.stored.fingerprint()

    def restore(self, description: dict[str, Any]) -> None:
        """Load what a finished run learned: from now on files are read as its training data was.

        Raises InputError for a description that does not fit this kind of data.
        """
        if not isinstance(description, dict):
            raise invalid_description("it is not a mapping")
        try:
            self.learned = self.parse(description)
        except KeyError as e:
            raise invalid_description(f"it has no {e}") from e
        except (AttributeError, TypeError, ValueError) as e:
            raise invalid_description(e) from e
        self.is_training = False

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Yield the inputs of all files; for an unreadable file, a sample with the reason."""
        for path in paths:
            try:
                yield from self.encode_file(path)
            except InputError as e:
                yield Sample(str(path), None, str(e))


class TensorSets(dict[str, tuple[Tensor, Tensor]]):
    """Inputs (N, ...) and targets (N, ...) in memory, by split: train, test and possibly val."""

    def size_in_bytes(self) -> int:
        """Return how many bytes all tensors occupy."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def fingerprint(self) -> str:
        """Return a hash of the names, types, shapes and values of all tensors."""
        digest = hashlib.sha256()
        for name, pair in sorted(self.items()):
            for tensor in pair:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def tensors(self) -> Iterator[Tensor]:
        """Yield every tensor."""
        for inputs, targets in self.values():
            yield inputs
            yield targets


def invalid_description(why: object) -> InputError:
    """Return the error for an invalid description of a run's data."""
    return InputError(f"the description of the data in the run's manifest.json is invalid: {why}")


def require(condition: bool, problem: str) -> None:
    """Raise ValueError with the `problem` of a description unless the condition holds."""
    if not condition:
        raise ValueError(problem)


def no_training_samples() -> InputError:
    """Return the error for a training split without samples."""
    return InputError(
        "there are no training samples: all samples are in the validation split; "
        "lower dataset.val_fraction"
    )


def class_numbers(names: Iterable[str], trained: Sequence[str]) -> list[int]:
    """Return the number that each class has in a trained run; -1 if it does not know the class."""
    numbers = {name: number for number, name in enumerate(trained)}
    return [numbers.get(name, -1) for name in names]


def unknown_classes(unknown: Iterable[str], trained: Sequence[str]) -> InputError:
    """Return the error for data with classes that the run does not know."""
    spelled = {name.strip().lower(): name for name in trained}
    described = []
    for name in unknown:
        similar = spelled.get(name.strip().lower())
        described.append(name if similar is None else f"{name} (it knows {similar})")
    return InputError(
        f"the run knows no class {shown_names(described)}; its classes are {shown_names(trained)}"
    )


def counted(count: int, one: str, many: str) -> str:
    """Return a count with its noun in the singular or the plural, for a message."""
    words = one if count == 1 else many
    return f"{count:,} {words}"


def shown_names(names: Sequence[str]) -> str:
    """Join the first of many names for a message, and say how many more there are."""
    return first_names(names, MAX_NAMES_SHOWN)
