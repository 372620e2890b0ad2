"""Values that callbacks draw: pictures, texts, curves, points and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Figures of the fields of a plane (H, W), NaN where there is none, each with a mark such as an arrow."""

    values: Tensor
    marks: tuple[tuple[str, ...], ...]
    title: str = ""


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
class Plot:
    """Lines over a common axis: {name: (xs, ys)}; `log_y` draws the values on a logarithmic axis, `y_range` says which
    part of it is shown."""

    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    log_y: bool = False
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Embedding:
    """Vectors (N, D) for callbacks to draw as points, coloured by their class numbers (N,) where there are names.

    `rows` says what each vector is of, where that is to be looked at one by one: TensorBoard's projector shows it."""

    vectors: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Counts or figures with a name for each row and column, such as a confusion matrix (rows: truth)."""

    values: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_title: str = ""
    column_title: str = ""


@dataclass(frozen=True)
class Listing:
    """A table of words and numbers. `name` is an identifier, the key of the table in `--json`; each of the `rows` has a
    cell for each of the `columns`, whose names are identifiers too."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | float, ...]]
    title: str = ""
