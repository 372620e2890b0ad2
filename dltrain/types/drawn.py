"""Values that an evaluation returns to be shown: pictures, texts, curves, points and tables."""

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
    """Numbers on the fields of a grid (H, W), NaN for none, each with a mark such as an arrow."""

    values: Tensor
    marks: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class MarkedBox:
    """A box to draw: corners x1, y1, x2, y2 in pixels of its picture, and a text beside it.

    `counted` is false for an object that is not scored.
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
    """Pictures (N, C, H, W) with values in 0..1 and a caption each.

    `title` stands above all of them. Where colors encode numbers, `scale` names the lowest (blue)
    and the highest (red). `boxes` are those of each picture.
    """

    pixels: Tensor
    captions: tuple[str, ...] = ()
    title: str = ""
    scale: tuple[str, str] | None = None
    boxes: tuple[Boxes, ...] = ()


@dataclass(frozen=True)
class Text:
    """A text in Markdown."""

    markdown: str


@dataclass(frozen=True)
class Plot:
    """Lines over a common axis: {name: (xs, ys)}.

    With `log_y` the vertical axis is logarithmic, with `log_x` the other; `y_range` is the shown
    range of the vertical one. Lines named in
    `scattered` are drawn as points. With `square` both axes have the same range and size, `range`
    if it is given, and the line x = y is drawn if `diagonal` names it.
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
    log_x: bool = False


@dataclass(frozen=True)
class Embedding:
    """Vectors (N, D) to be drawn as points, colored by their class (N,) where there are `names`.

    `rows` names each vector; TensorBoard's projector shows these names.
    """

    vectors: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Numbers with a name for each row and column, drawn as a heat map.

    An example is a confusion matrix, with rows by true class. `note` says which part is shown. A
    table of many rows lists the indices of the `worst` ones, the worst first, and their `rule`;
    pictures and the terminal show these alone. Columns named in `plain` are not scores, and their
    cells are not colored.
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
        """Return the table of the worst rows, with a note that says so, or the table itself."""
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
    """A table of words and numbers, for the terminal and `--json`.

    `name` is the key of the table in `--json`, and `columns` are the keys of its rows; all are
    identifiers. Each of the `rows` has a cell for each column.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | float, ...]]
    title: str = ""
