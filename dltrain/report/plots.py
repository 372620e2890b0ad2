"""Diagrams as arrays (H, W, 3) of bytes: lines, points, and fields of a plane.

They are drawn so large that text can be read where TensorBoard shows them 350 pixels wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.report.fonts import drawable, families
from dltrain.report.titles import fit_titles
from dltrain.types import Embedding, Grid, Plot, shortened

Pixels = NDArray[np.uint8]
DOTS_PER_INCH = 140
INCHES = (5.0, 3.3)
SQUARE_INCHES = (5.0, 5.2)
MAX_MARKED = 900  # fields
MAX_INCHES = 12.0  # of a plane of fields
LEGEND_LINE_INCHES = 0.19  # of a legend below its diagram
MARKED_POINTS = 40  # a line of so few shows each of them
MAX_LEGEND = 20  # lines that the legend names
MAX_INSIDE = 2  # lines above which the legend stands below the diagram
MAX_NAME_CHARS = 40
MAX_HALF_CHARS = 22  # of the longest name of a legend in two columns
NUM_COLORS = 10  # of matplotlib's lines, before they come again
STYLES = ("-", "--", ":", "-.")
MARGIN = 0.05  # of a square's range, beyond its values


def plot(value: Plot, inches: tuple[float, float] = INCHES) -> Pixels:
    """Draw lines and points in one diagram, with titles and a legend."""
    legend_is_below = len(value.lines) > MAX_INSIDE and not value.square
    size = SQUARE_INCHES if value.square else inches
    if legend_is_below:
        size = (size[0], size[1] + LEGEND_LINE_INCHES * (_legend_rows(value) + 1))
    figure, axes = _diagram(size)
    _draw_lines(axes, value)
    axes.set(xlabel=value.x_title, ylabel=value.y_title)
    axes.set_title(value.title)
    if value.log_y:
        axes.set_yscale("log")
    if value.log_x:
        axes.set_xscale("log")
    if value.y_range is not None:
        axes.set_ylim(*value.y_range)
    if value.square:
        _make_square(axes, value)
    axes.grid(alpha=0.3)
    if legend_is_below:
        _add_legend(axes, figure, loc="outside lower center", ncols=_legend_columns(value))
    else:
        _add_legend(axes, axes, loc="lower right" if value.range else "best")
    return _rendered(figure)


def _draw_lines(axes: Any, value: Plot) -> None:
    """Draw each line, as points where it is one of the `scattered` ones."""
    for (name, (xs, ys)), style in zip(value.lines.items(), line_styles(), strict=False):
        if name in value.scattered:
            axes.plot(xs, ys, linestyle="", marker="o", markersize=4, alpha=0.5, label=name)
            continue
        marker = "." if len(xs) <= MARKED_POINTS else ""
        axes.plot(xs, ys, linestyle=style, marker=marker, linewidth=1.4, label=name)


def line_styles() -> Iterator[str]:
    """Yield the style of each line; it changes when the colors repeat, after ten lines."""
    for style in cycle(STYLES):
        yield from [style] * NUM_COLORS


def _make_square(axes: Any, value: Plot) -> None:
    """Give both axes the same range and size, and draw the line on which they are equal."""
    low, high = value.range or _common_range(value)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_aspect("equal", adjustable="box")
    if value.diagonal:
        axes.plot([low, high], [low, high], "--", color="gray", linewidth=1, label=value.diagonal)


def _common_range(value: Plot) -> tuple[float, float]:
    """Return the range of all finite coordinates, with a margin."""
    parts = [np.asarray(part, dtype=float) for line in value.lines.values() for part in line]
    numbers = np.concatenate([*parts, np.empty(0)])
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return 0.0, 1.0
    margin = MARGIN * (finite.max() - finite.min()) or 0.5
    return float(finite.min() - margin), float(finite.max() + margin)


def _legend_columns(value: Plot) -> int:
    longest = max(map(len, value.lines))
    if longest <= MAX_HALF_CHARS:
        return 2
    return 1


def _legend_rows(value: Plot) -> int:
    return -(-min(len(value.lines), MAX_LEGEND) // _legend_columns(value))


def _add_legend(axes: Any, owner: Any, **place: Any) -> None:
    """Add a legend with the first `MAX_LEGEND` lines of `axes` and the number of the others."""
    lines = [line for line in axes.get_lines() if not line.get_label().startswith("_child")]
    if not lines:
        return
    names = [_short(line.get_label()) for line in lines]
    shown = lines
    if len(lines) > MAX_LEGEND:
        from matplotlib.lines import Line2D

        shown = [*lines[: MAX_LEGEND - 1], Line2D([], [], linestyle="")]
        names = [*names[: MAX_LEGEND - 1], f"and {len(lines) - MAX_LEGEND + 1} more"]
    owner.legend(shown, names, fontsize="small", **place)


def _short(name: str) -> str:
    """Return a name for a legend, from which matplotlib leaves out names that begin with _."""
    cut = shortened(name, MAX_NAME_CHARS)
    if cut.startswith("_"):
        return f" {cut}"
    return cut


def points(value: Embedding, inches: tuple[float, float] = (5.0, 4.3)) -> Pixels:
    """Draw vectors as points in a plane, colored by class.

    Vectors of more than two numbers are projected onto their first two principal components. The
    first ten classes have one color each, all others are gray. Vectors that are not finite are
    left out.
    """
    figure, axes = _diagram(inches)
    vectors = value.vectors.float().cpu().numpy()
    finite = np.isfinite(vectors).all(axis=1)
    plane = _plane(vectors[finite])
    if value.names:
        _draw_classes(axes, plane, value.labels.cpu().numpy()[finite], value.names)
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles, names, fontsize="small", markerscale=2)
    else:
        axes.scatter(plane[:, 0], plane[:, 1], s=6, color="C0")
    dimensions = vectors.shape[1]
    projection = "first two principal components" if dimensions > 2 else "not projected"
    axes.set_title(f"vectors of {dimensions} numbers,\n{projection}")
    return _rendered(figure)


def _draw_classes(
    axes: Any, plane: NDArray[Any], labels: NDArray[Any], names: Sequence[str]
) -> None:
    """Draw points (N, 2) with labels (N,), the first ten classes in a color each."""
    others = labels >= NUM_COLORS
    if others.any():
        name = f"{len(names) - NUM_COLORS} others"
        axes.scatter(plane[others, 0], plane[others, 1], s=6, color="lightgrey", label=name)
    for label, name in enumerate(names[:NUM_COLORS]):
        own = plane[labels == label]
        axes.scatter(own[:, 0], own[:, 1], s=6, color=f"C{label}", label=_short(name))


def _plane(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return vectors (N, D) as points (N, 2)."""
    if vectors.shape[1] == 1:
        return np.repeat(vectors, 2, axis=1)
    if vectors.shape[1] == 2 or not len(vectors):
        return vectors[:, :2]
    centered = vectors - vectors.mean(axis=0)
    plane: NDArray[Any] = centered @ np.linalg.svd(centered, full_matrices=False)[2][:2].T
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))


def fields(value: Grid, inches: float = 0.6) -> Pixels:
    """Draw a plane of fields, each colored by its number, with its mark and number on it.

    Fields without a number are gray. Above `MAX_MARKED` fields only the colors are drawn.
    """
    height, width = value.values.shape
    inches = min(inches, MAX_INCHES / max(height, width))
    figure, axes = _diagram((max(4.0, inches * width), max(2.5, inches * height + 1.0)))
    axes.set_facecolor("lightgrey")
    values = value.values.numpy()
    shown = axes.imshow(np.where(np.isfinite(values), values, np.nan), cmap="viridis")
    figure.colorbar(shown, ax=axes, location="bottom", fraction=0.05)
    finite = values[np.isfinite(values)]
    if height * width <= MAX_MARKED:
        mean = float(finite.mean()) if len(finite) else 0.0
        _draw_marks(axes, value, mean)
    axes.set(xticks=[], yticks=[])
    axes.set_title(value.title)
    return _rendered(figure)


def _draw_marks(axes: Any, value: Grid, mean: float) -> None:
    """Write mark and number on each field, in white where the number is below the mean."""
    values = value.values.numpy()
    for row, marks in enumerate(value.marks):
        for column, mark in enumerate(marks):
            number = float(values[row, column])
            color = "white" if number < mean else "black"
            text = mark if math.isnan(number) else f"{mark}\n{number:.3g}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def _diagram(inches: tuple[float, float]) -> tuple[Any, Any]:
    """Return a figure and its axes."""
    from matplotlib.figure import Figure  # not pyplot: it would look for a screen

    figure = Figure(figsize=inches, layout="constrained", dpi=DOTS_PER_INCH)
    return figure, figure.subplots()


def _rendered(figure: Any) -> Pixels:
    """Return the figure's pixels, with every text in fonts that have its characters."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    make_drawable([text for text in figure.findobj(Text) if text.get_text()])
    fit_titles(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def make_drawable(texts: list[Any]) -> None:
    """Set fonts for the characters of matplotlib's texts; replace those that no font has."""
    for text in texts:
        if not text.get_text().isascii():
            text.set_text(drawable_lines(text.get_text()))
        text.set_parse_math(False)  # a class may be called $x$
    fonts = families([text.get_text() for text in texts])
    for text in texts:
        text.set_fontfamily(fonts)


def drawable_lines(text: str) -> str:
    """Return `text` with its line breaks, and in each line only characters that some font has."""
    return "\n".join(drawable(line) for line in text.split("\n"))
