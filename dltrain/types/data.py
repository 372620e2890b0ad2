"""The shape of a data set, and the protocols of data sets, splits, sources and transforms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

RowsOf: TypeAlias = Callable[[int], slice]
"""Given the number of samples of a batch, returns the part of it that a process trains on."""


@dataclass(frozen=True)
class Spec:
    """The shape of a data set, known without reading a sample.

    Models ask for its properties by name (see `arguments`), and fake data imitates it.

    Attributes:
        input_shape: (C, H, W) of images, (F,) of a table's row, (window, F) of a series, (T,) of a
            text of at most T tokens.
        class_names: The names of the classes; empty without classes.
        train_samples: The number of training samples.
        test_samples: The number of test samples.
        mean: The mean that inputs are standardized by, in the stored unit (0..255 for bytes): per
            channel of images, else per feature. Empty where stored values are used unchanged.
        std: The standard deviation, like `mean`.
        target_names: The targets of a regression, whose stored values are standardized.
        target_mean: Stored targets times `target_std` plus `target_mean` are in the data's unit.
        target_std: See `target_mean`.
        feature_names: The names of a table's features.
        cardinalities: The last len(cardinalities) features are codes of categories, each with so
            many values.
        class_counts: The training samples of each class, of data that is described, not read.
        vocab_size: Inputs of a text are token numbers below it, padded with `PAD`.
        target_vocab_size: The vocabulary size of the target texts of a translation.
        target_length: The largest number of tokens of a target text.
        continues: Whether each row of a batch continues the same row of the batch before.
        boxes: The largest number of objects of an image. Targets are (boxes, 5): x1, y1, x2, y2 in
            pixels and the class, padded with class -1; where some objects are not scored, (boxes,
            6) with a flag (dltrain.types.boxes).
        num_states: The number of states of an environment whose observations are state numbers; 0
            for observations of `input_shape`.
        actions: The names of the actions in an environment; a network has an output for each.
        decode: Returns the text of token numbers.
        decode_target: Returns the text of token numbers of a target.
    """

    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_samples: int
    test_samples: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    target_names: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    feature_names: tuple[str, ...] = ()
    cardinalities: tuple[int, ...] = ()
    class_counts: tuple[int, ...] = ()
    vocab_size: int = 0
    target_vocab_size: int = 0
    target_length: int = 0
    continues: bool = False
    boxes: int = 0
    num_states: int = 0
    actions: tuple[str, ...] = ()
    decode: Callable[[Sequence[int]], str] | None = field(default=None, compare=False)
    decode_target: Callable[[Sequence[int]], str] | None = field(default=None, compare=False)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def is_image(self) -> bool:
        """True if inputs are images (C, H, W)."""
        return len(self.input_shape) == 3

    def arguments(self) -> dict[str, Any]:
        """Return the properties that a model may ask for, by the names of its arguments.

        `num_classes` is the number of outputs: of classes, targets or actions.
        """
        counts = {
            "num_classes": self.num_classes or len(self.target_names) or len(self.actions),
            "num_actions": len(self.actions),
            "num_states": self.num_states,
            "vocab_size": self.vocab_size,
            "target_vocab_size": self.target_vocab_size,
            "target_length": self.target_length,
        }
        named: dict[str, Any] = {
            "input_shape": self.input_shape,
            "in_features": math.prod(self.input_shape),
            "cardinalities": self.cardinalities,
            **{name: count for name, count in counts.items() if count},
        }
        if self.is_image:
            channels, height, width = self.input_shape
            named["in_channels"] = channels
            named["image_size"] = (height, width)
        elif len(self.input_shape) == 2:
            named["window"], named["input_size"] = self.input_shape
        if self.vocab_size:
            named["max_length"] = self.input_shape[0]
        return named


class Source(Protocol):
    """A source of samples; `spec` is cheap, `read` opens files."""

    @property
    def spec(self) -> Spec:
        """The shape of the data."""

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return {"train": (inputs, targets), "test": (inputs, targets)} in compact types.

        Images are uint8 (N, C, H, W), class numbers int64 (N,).

        Raises:
            InputError: A file is absent or cannot be read.
        """


class Transform(Protocol):
    """A change of whole batches: a preprocessing step, an augmentation, or mixing of samples.

    `training_only` ones leave evaluation and prediction alone. `normalized` ones see inputs of mean
    0 and standard deviation 1, the others floats in the stored unit. For those that
    `mixes_targets`, targets are class probabilities (B, K), not class numbers (B,). Those that
    `moves_pixels` show the content of an image at another place, so that boxes around objects would
    not hold any more. Random numbers come from `generator`, which is on the CPU and a function of
    (seed, epoch, batch).
    """

    training_only: bool
    normalized: bool
    mixes_targets: bool
    moves_pixels: bool

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one changed input; ValueError for a shape that it cannot change."""

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the changed inputs (B, ...) and targets (B,) or (B, K)."""


@runtime_checkable
class FollowsSamples(Protocol):
    """A transform that changes a sample by what it did with it in earlier epochs."""

    def following(self, rows: Tensor, epoch: int, seed: int) -> Transform:
        """Return the transform of one batch.

        Args:
            rows: The stored rows (B,) of the samples, which name them in every epoch.
            epoch: The number of the epoch, from 0.
            seed: The seed of the split.
        """


class DataSplit(Protocol):
    """A split, as the engine iterates it; a batch is a function of (seed, epoch, position)."""

    batch_size: int
    samples: int

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of epoch `number` from batch position `start` on."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs to continue with the same batches."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batches of a saved state."""


@runtime_checkable
class SharesRows(Protocol):
    """A split that makes a part of each batch without the work for the rest of it.

    It is for training by several processes, which divide each batch of the whole training among
    them. A split without this method yields whole batches from `epoch`, which are then sliced.
    """

    def shared_epoch(self, number: int, start: int, rows: RowsOf) -> Iterator[Any]:
        """Yield a part of each batch of epoch `number`, from batch position `start` on.

        Every part equals that of the whole batch: it is as if each tensor of each batch of
        `epoch(number, start)` were indexed by `rows(B)`, where B is the number of samples of that
        batch. There are as many parts as batches, also where `rows` returns an empty slice: a part
        may have no samples. Random numbers of transforms are those of the whole batch.

        Args:
            number: The epoch, from 0.
            start: The position of the first batch.
            rows: Returns a contiguous slice of range(B), with step 1.
        """


class Data(Protocol):
    """A data set: its splits for training, validation and test, and its shape."""

    @property
    def spec(self) -> Spec:
        """The shape of the data."""

    @property
    def train(self) -> DataSplit:
        """The training split."""

    @property
    def val(self) -> DataSplit:
        """The validation split; without samples where there is none."""

    @property
    def test(self) -> DataSplit:
        """The test split; without samples where there is none."""

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The training samples of each class, for a loss that weighs them; may read the data."""

    def fake(self) -> Data:
        """Return random data of the same shape, without files: for `check` and `debug=smoke`."""

    def to(self, device: torch.device) -> None:
        """Keep the data on `device` from the start, where it is held in memory."""

    def size_in_bytes(self) -> int:
        """Return the memory that all splits occupy."""

    def fingerprint(self) -> str:
        """Return a name of the content: equal data has an equal fingerprint."""

    def description(self) -> dict[str, Any]:
        """Return what predictions need of the training data, as plain values for JSON."""

    def restore(self, description: dict[str, Any]) -> None:
        """Load a `description`: other files are then read as the training data was."""

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Yield the inputs of `predict` from the user's files.

        A file or line that cannot be read yields a sample with its `problem`.
        """


@runtime_checkable
class Continues(Protocol):
    """Data that a later training can read as an earlier one did."""

    def continue_as(self, description: dict[str, Any]) -> None:
        """Load the `description` of earlier training data; unlike `restore`, keep the splits."""


@dataclass(frozen=True)
class PackedSet:
    """One set of a data set (train, val or test), as `dltrain pack` writes it.

    Attributes:
        targets: The number of the class of each sample (N,).
        content: Returns the name of a sample's file, such as cat/1.jpg, and its content.
        moments: The sum and the sum of squares (N, 2, C) of each channel of every image.
    """

    targets: Tensor
    content: Callable[[int], tuple[str, bytes]]
    moments: Any


@runtime_checkable
class Packs(Protocol):
    """Images of classes that `dltrain pack` can write into shards."""

    def packed_sets(self) -> Mapping[str, PackedSet]:
        """Return the sets that the data comes with, by name; a test or val set may be absent."""

    def packed_spec(self) -> Spec:
        """Return the shape of the images, their classes, and statistics if they are published."""

    def packed_pixels(self) -> Mapping[str, Any]:
        """Return the rule by which pixels became the bytes of the moments, after the sets."""


@runtime_checkable
class Standardizes(Protocol):
    """Images that can be standardized by the mean and deviation that a trained network expects."""

    def standardize_by(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        """Use this mean and standard deviation of each channel, in 0..255.

        Returns:
            False where the images have another number of channels.
        """


@dataclass(frozen=True)
class Sample:
    """An input of `predict`, or the problem that it could not be read for.

    Attributes:
        name: Its origin: a file, or file:line.
        inputs: The tensor of one sample; None if it could not be read.
        problem: The reason why it could not be read.
        about: More columns of its row of predictions, such as the factor that an image was scaled
            by.
    """

    name: str
    inputs: Tensor | None
    problem: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
