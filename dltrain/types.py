"""Words shared by every layer: ranges for annotations, the shape of a data set, and values that callbacks draw.

It imports nothing of dltrain, and torch only for annotations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Gt:
    """Greater than `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value > self.bound

    def __str__(self) -> str:
        return f"> {self.bound:g}"


@dataclass(frozen=True)
class Ge:
    """At least `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value >= self.bound

    def __str__(self) -> str:
        return f">= {self.bound:g}"


@dataclass(frozen=True)
class Lt:
    """Less than `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value < self.bound

    def __str__(self) -> str:
        return f"< {self.bound:g}"


@dataclass(frozen=True)
class Le:
    """At most `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value <= self.bound

    def __str__(self) -> str:
        return f"<= {self.bound:g}"


PositiveInt: TypeAlias = Annotated[int, Gt(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Fraction: TypeAlias = Annotated[float, Ge(0), Lt(1)]
"""Of a whole: 0 is none of it, 1 would be all of it."""
BatchSize: TypeAlias = PositiveInt | Literal["all"]
Activation: TypeAlias = Literal["relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid"]


@dataclass(frozen=True)
class Spec:
    """What a data set is like, known without reading a sample: what models ask for by name and fake data imitates.

    `input_shape` is (C, H, W); `mean` and `std` are per channel, in the stored unit (0..255 for bytes).
    """

    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_samples: int
    test_samples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def arguments(self) -> dict[str, Any]:
        """The names by which a model may ask for a property of the data."""
        channels, height, width = self.input_shape
        return {
            "in_channels": channels,
            "image_size": (height, width),
            "in_features": math.prod(self.input_shape),
            "num_classes": self.num_classes,
        }


class Source(Protocol):
    """Where samples come from. `spec` is cheap; `read` opens files and may raise `InputError`."""

    @property
    def spec(self) -> Spec: ...

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{"train": (inputs, targets), "test": ...} in compact types: uint8 images (N, C, H, W), int64 targets (N,)."""


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

    def fake(self) -> Data:
        """Random data of the same shape, without a file: for `check` and `debug=smoke`."""

    def to(self, device: torch.device) -> None:
        """Keep the data on `device` from the start, where it is held in memory."""

    def size_in_bytes(self) -> int:
        """What all splits occupy in memory."""

    def fingerprint(self) -> str:
        """Names the content: equal data, equal fingerprint."""


@dataclass(frozen=True)
class Image:
    """Pictures (N, C, H, W) with values in 0..1, for callbacks to draw, and a caption each."""

    pixels: Tensor
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """Markdown, for callbacks to show."""

    markdown: str


@dataclass(frozen=True)
class Table:
    """Counts or figures with a name for each row and column, such as a confusion matrix (rows: truth)."""

    values: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_title: str = ""
    column_title: str = ""
