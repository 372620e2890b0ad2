"""Values that callbacks draw: pictures, texts, curves, points and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


MAX_NAME_CHARS = 24  # of a class in a caption


def shortened(name: str, max_chars: int = MAX_NAME_CHARS) -> str:
    """Return `name` without its middle where it is longer than `max_chars`."""
    if len(name) <= max_chars:
        return name
    end = max_chars // 2
    return f"{name[: max_chars - end - 1]}…{name[-end:]}"


@dataclass(frozen=True)
class Grid:
    """Figures of the fields of a plane (H, W), NaN where there is none, each with a mark such as an arrow."""

    values: Tensor
    marks: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class MarkedBox:
    """A box to draw: corners x1, y1, x2, y2 in pixels of its picture, a text beside it, and whether
    it is scored.
    """

    corners: tuple[float, float, float, float]
    text: str
    counted: bool = True


@dataclass(frozen=True)
class Boxes:
    """The boxes of one picture: true objects or predicted ones."""

    items: tuple[MarkedBox, ...]
    kind: Literal["true", "predicted"]


@dataclass(frozen=True)
class Image:
    """Pictures (N, C, H, W) with values in 0..1, for callbacks to draw, and a caption each.

    `title` stands over all of them. Where colors stand for numbers, `scale` says what the lowest
    (blue) and the highest (red) stand for. Of images with objects, `boxes` has those of each
    picture.
    """

    pixels: Tensor
    captions: tuple[str, ...] = ()
    title: str = ""
    scale: tuple[str, str] | None = None
    boxes: tuple[Boxes, ...] = ()


@dataclass(frozen=True)
class Text:
    """Markdown, for callbacks to show."""

    markdown: str


@dataclass(frozen=True)
class Plot:
    """Lines over a common axis: {name: (xs, ys)}.

    `log_y` draws the values on a logarithmic axis, `y_range` says which part of it is shown. Lines
    named in `scattered` are drawn as points. With `square` both axes show the same range in the
    same size, `range` if it is given; `diagonal` is the name of the line x = y there.
    """

    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    scattered: tuple[str, ...] = ()
    square: bool = False
    range: tuple[float, float] | None = None
    diagonal: str = ""


@dataclass(frozen=True)
class Embedding:
    """Vectors (N, D) for callbacks to draw as points, colored by their class numbers (N,) where
    there are names.

    `rows` says what each vector is of, where that is to be looked at one by one: TensorBoard's
    projector shows it.
    """

    vectors: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Counts or figures with a name for each row and column, such as a confusion matrix (rows:
    truth).

    `note` says what is shown where it is not everything. A table of many rows names the `worst` of
    them by their numbers, the worst first, and the `rule` by which they are: pictures and screens
    show these alone. Columns named in `plain` are not scores: their cells are not colored.
    """

    values: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_title: str = ""
    column_title: str = ""
    note: str = ""
    worst: tuple[int, ...] = ()
    rule: str = ""
    plain: tuple[str, ...] = ()

    def shown(self) -> Table:
        """Return the table of the worst rows alone, with a note that says so; the table itself
        where none are named.
        """
        if not self.worst:
            return self
        what = {"class": "classes"}.get(self.row_title, f"{self.row_title}s")
        note = f"the {len(self.worst)} worst of {len(self.rows):,} {what} ({self.rule})"
        rows = tuple(self.rows[i] for i in self.worst)
        return replace(
            self, values=self.values[list(self.worst)], rows=rows, note=note, worst=(), rule=""
        )


@dataclass(frozen=True)
class ReportTable:
    """A table of words and numbers.

    `name` is an identifier, the key of the table in `--json`; each of the `rows` has a cell for
    each of the `columns`, whose names are identifiers too.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | float, ...]]
    title: str = ""
