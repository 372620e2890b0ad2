"""What data look like: their shape, where samples come from, splits, and what changes batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Spec:
    """What a data set is like, known without reading a sample: what models ask for by name and fake data imitates.

    `input_shape` is (C, H, W) of images, (F,) of a table's row, (window, F) of a series. `mean` and `std` are what batches
    are standardized by, in the stored unit (0..255 for bytes): per channel of images, else per feature; empty where
    stored values are used as they are. Classes have `class_names`; a regression has `target_names` instead, whose
    stored values are standardized: times `target_std` plus `target_mean` gives the unit of the data. The last
    len(`cardinalities`) features are codes of categories, each with that many values. `class_counts` are the training
    samples of each class, of data that is described rather than read.

    Of text `vocab_size` says that inputs are token numbers below it, (T,) with T at most input_shape[0], filled up with
    `PAD`; `decode` makes text of them. Where it is to be translated targets are such sequences of `target_length` at most,
    from a vocabulary of their own; where it is to be continued it has neither classes nor targets, and with `continues` each
    row of a batch goes on where the same row of the batch before ended.

    Images of scenes have `boxes` at most each: targets (boxes, 5) of x1, y1, x2, y2 in pixels and the class number, filled up
    with class -1; where some objects do not count, (boxes, 6) with a flag (dltrain.types.boxes).

    Of an environment `actions` are the names of what can be done in it, which a network has an output each for. Where its
    observations are numbers of states there are `num_states` of them; else they have the `input_shape`.
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
        return len(self.class_names)

    @property
    def is_image(self) -> bool:
        return len(self.input_shape) == 3

    def arguments(self) -> dict[str, Any]:
        """The names by which a model may ask for a property of the data; `num_classes` of a regression are its targets."""
        named: dict[str, Any] = {
            "input_shape": self.input_shape,
            "in_features": math.prod(self.input_shape),
            "cardinalities": self.cardinalities,
        }
        if outputs := self.num_classes or len(self.target_names) or len(self.actions):
            named |= {"num_classes": outputs}
        if self.actions:
            named |= {"num_actions": len(self.actions)} | (
                {"num_states": self.num_states} if self.num_states else {}
            )
        if self.is_image:
            channels, height, width = self.input_shape
            named |= {"in_channels": channels, "image_size": (height, width)}
        elif len(self.input_shape) == 2:
            named |= {"window": self.input_shape[0], "input_size": self.input_shape[1]}
        if self.vocab_size:
            named |= {"vocab_size": self.vocab_size, "max_length": self.input_shape[0]}
        if self.target_vocab_size:
            named |= {
                "target_vocab_size": self.target_vocab_size,
                "target_length": self.target_length,
            }
        return named


class Source(Protocol):
    """Where samples come from. `spec` is cheap; `read` opens files and may raise `InputError`."""

    @property
    def spec(self) -> Spec: ...

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{"train": (inputs, targets), "test": ...} in compact types: uint8 images (N, C, H, W), int64 targets (N,)."""


class Transform(Protocol):
    """A change of whole batches: a preprocessing step, an augmentation, or mixing of samples.

    `training_only` ones leave evaluation and prediction alone. `normalized` ones see inputs of mean
    0 and standard deviation 1, the others floats in the stored unit. For those that
    `mixes_targets`, classes come as shares (B, K) of type float instead of numbers (B,). Those that
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


class DataSplit(Protocol):
    """One split as the engine iterates it; a batch is a function of (seed, epoch number, position)."""

    batch_size: int
    samples: int

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """The batches of epoch `number` from batch position `start` on."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Data(Protocol):
    """Three splits and what they look like."""

    @property
    def spec(self) -> Spec: ...
    @property
    def train(self) -> DataSplit: ...
    @property
    def val(self) -> DataSplit: ...
    @property
    def test(self) -> DataSplit: ...

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training samples of each class, for a loss that weighs them; it may have to read the data."""

    def fake(self) -> Data:
        """Random data of the same shape, without a file: for `check` and `debug=smoke`."""

    def to(self, device: torch.device) -> None:
        """Keep the data on `device` from the start, where it is held in memory."""

    def size_in_bytes(self) -> int:
        """What all splits occupy in memory."""

    def fingerprint(self) -> str:
        """Names the content: equal data, equal fingerprint."""

    def description(self) -> dict[str, Any]:
        """What was learned from the training data and is needed to predict without it: plain values, for JSON."""

    def restore(self, description: dict[str, Any]) -> None:
        """Take over a `description`: other files are then read as the training data was."""

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Inputs for `predict` from files of the user's, one by one; a file or line that cannot be read says why."""


@runtime_checkable
class Continues(Protocol):
    """Data that can be read on in training as it was read before."""

    def continue_as(self, description: dict[str, Any]) -> None:
        """Take over what was learned from the training data; unlike after `restore`, the splits
        stay what they were.
        """


@runtime_checkable
class Standardizes(Protocol):
    """Data of images that can be standardized by other figures than its own: those that a trained network knows."""

    def standardize_by(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        """Take over mean and standard deviation of each channel, in 0..255; False where the channels are not as many."""


@dataclass(frozen=True)
class Sample:
    """One input to predict from: where it came from (a file, or file:line), and its tensor or why there is none; `about` is
    what else the answer should say of it, such as by what an image was scaled."""

    name: str
    inputs: Tensor | None
    problem: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
