"""Diagrams as arrays (H, W, 3) of bytes: lines, points, and fields of a plane.

They are drawn so large that text can be read where TensorBoard shows them 350 pixels wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.report.fonts import drawable, families
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
    below = len(value.lines) > MAX_INSIDE and not value.square
    size = SQUARE_INCHES if value.square else inches
    if below:
        size = (size[0], size[1] + LEGEND_LINE_INCHES * (_legend_rows(value) + 1))
    figure, axes = _diagram(size)
    for (name, (xs, ys)), style in zip(value.lines.items(), line_styles(), strict=False):
        if name in value.scattered:
            axes.plot(xs, ys, linestyle="", marker="o", markersize=4, alpha=0.5, label=name)
        else:
            marker = "." if len(xs) <= MARKED_POINTS else ""
            axes.plot(xs, ys, linestyle=style, marker=marker, linewidth=1.4, label=name)
    axes.set(xlabel=value.x_title, ylabel=value.y_title)
    axes.set_title(value.title, wrap=True)
    axes.set_yscale("log" if value.log_y else "linear")
    if value.y_range is not None:
        axes.set_ylim(*value.y_range)
    if value.square:
        _make_square(axes, value)
    axes.grid(alpha=0.3)
    if below:
        _add_legend(axes, figure, loc="outside lower center", ncols=_legend_columns(value))
    else:
        _add_legend(axes, axes, loc="lower right" if value.range else "best")
    return _rendered(figure)


def line_styles() -> Iterator[str]:
    """Yield the style of each line: colors come again after ten, then the style is another."""
    for style in cycle(STYLES):
        yield from [style] * NUM_COLORS


def _make_square(axes: Any, value: Plot) -> None:
    """Give both axes the same range and size, and draw the line on which they are equal."""
    low, high = value.range or _common_range(value)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_aspect("equal", adjustable="box")
    if value.diagonal:
        axes.plot([low, high], [low, high], "--", color="grey", linewidth=1, label=value.diagonal)


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
    return 2 if max(map(len, value.lines)) <= MAX_HALF_CHARS else 1


def _legend_rows(value: Plot) -> int:
    return -(-min(len(value.lines), MAX_LEGEND) // _legend_columns(value))


def _add_legend(axes: Any, owner: Any, **place: Any) -> None:
    """Name the lines of `axes`; of very many the first, and how many more there are."""
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
    """Return a name for a legend: one that begins with _ would be left out of it."""
    cut = shortened(name, MAX_NAME_CHARS)
    return f" {cut}" if cut.startswith("_") else cut


def points(value: Embedding, inches: tuple[float, float] = (5.0, 4.3)) -> Pixels:
    """Draw vectors as points in a plane, colored by class.

    Of vectors of more than two numbers the plane is that of their first two principal components.
    The first ten classes have a color each, all others are grey. Vectors that are not finite are
    left out.
    """
    figure, axes = _diagram(inches)
    vectors = value.vectors.float().cpu().numpy()
    labels = value.labels.cpu().numpy()
    finite = np.isfinite(vectors).all(axis=1)
    plane = _plane(vectors[finite])
    kept = labels[finite] if value.names else np.zeros(len(plane))
    others = kept >= NUM_COLORS
    if others.any():
        rest = len(value.names) - NUM_COLORS
        grey = {"color": "lightgrey", "label": f"{rest} others"}
        axes.scatter(plane[others, 0], plane[others, 1], s=6, **grey)
    for label, name in enumerate(value.names[:NUM_COLORS] or ("",)):
        chosen = kept == label
        axes.scatter(plane[chosen, 0], plane[chosen, 1], s=6, color=f"C{label}", label=_short(name))
    if value.names:
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles, names, fontsize="small", markerscale=2)
    width = vectors.shape[1]
    how = "first two principal components" if width > 2 else "as they are"
    axes.set_title(f"vectors of {width} numbers, {how}")
    return _rendered(figure)


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
    """Draw a plane of fields, each colored by its number with its mark over it.

    Those without a number are grey. Of more than `MAX_MARKED` fields the colors alone are drawn.
    """
    height, width = value.values.shape
    inches = min(inches, MAX_INCHES / max(height, width))
    figure, axes = _diagram((max(4.0, inches * width), max(2.5, inches * height + 1.0)))
    axes.set_facecolor("lightgrey")
    values = value.values.numpy()
    shown = axes.imshow(np.where(np.isfinite(values), values, np.nan), cmap="viridis")
    figure.colorbar(shown, ax=axes, location="bottom", fraction=0.05)
    finite = values[np.isfinite(values)]
    middle = float(finite.mean()) if len(finite) else 0.0
    marked = value.marks if height * width <= MAX_MARKED else ()
    for row, marks in enumerate(marked):
        for column, mark in enumerate(marks):
            number = float(values[row, column])
            ink = "white" if number < middle else "black"
            text = mark if math.isnan(number) else f"{mark}\n{number:.3g}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set(xticks=[], yticks=[])
    axes.set_title(value.title, wrap=True)
    return _rendered(figure)


def _diagram(inches: tuple[float, float]) -> tuple[Any, Any]:
    """Return a figure and its axes."""
    from matplotlib.figure import Figure  # not pyplot: it would look for a screen

    figure = Figure(figsize=inches, layout="constrained", dpi=DOTS_PER_INCH)
    return figure, figure.subplots()


def _rendered(figure: Any) -> Pixels:
    """Return the figure's pixels, with every text in fonts that have its characters."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if text.get_text()]
    for text in texts:
        if not text.get_text().isascii():
            text.set_text(drawable_lines(text.get_text()))
        text.set_parse_math(False)  # a class may be called $x$
    fonts = families([text.get_text() for text in texts])
    for text in texts:
        text.set_fontfamily(fonts)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def drawable_lines(text: str) -> str:
    """Return `text` with its line breaks, and in each line only characters that some font has."""
    return "\n".join(drawable(line) for line in text.split("\n"))
