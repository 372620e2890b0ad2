"""Diagrams: what is drawn, in which range, and under which names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.report import plots
from dltrain.report.plots import fields, plot, points
from dltrain.types import Embedding, Grid, Plot

XS = [1.0, 2.0, 3.0]


def lines(**more: Any) -> Plot:
    return Plot(
        {"a": (XS, [1.0, 0.1, 0.01]), "b": (XS, [0.0, 0.0, math.nan])}, "title", "x", "y", **more
    )


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of every diagram that is drawn in the test."""
    made: list[Any] = []
    diagram = plots._diagram

    def kept(inches: Any) -> Any:
        figure, one = diagram(inches)
        made.append(one)
        return figure, one

    monkeypatch.setattr(plots, "_diagram", kept)
    return made


def legend(axes: Any) -> list[str]:
    owner = axes.get_legend() or axes.figure.legends[0]
    return [text.get_text() for text in owner.get_texts()]


@pytest.mark.parametrize("log_y", [False, True])
def test_a_plot_shows_its_lines(log_y: bool) -> None:
    """Also values that a logarithmic axis has no place for."""
    pixels, empty = plot(lines(log_y=log_y)), plot(Plot({}))
    assert pixels.dtype == np.uint8
    assert pixels.shape == empty.shape == (462, 700, 3)
    assert (pixels != empty).any()
    colored = np.ptp(pixels.astype(int), axis=2) > 60
    assert 50 < colored.sum() < 0.2 * colored.size


def test_a_logarithmic_axis_makes_a_line_of_powers_straight() -> None:
    assert (plot(lines(log_y=True)) != plot(lines())).any()


def test_a_square_has_the_same_axes_a_diagonal_and_points_that_no_line_joins(
    axes: list[Any],
) -> None:
    """Values that are not finite have no influence on the range."""
    shown = ([1.0, 5.0, math.inf], [2.0, 9.0, math.nan])
    plot(Plot({"sample": shown}, scattered=("sample",), square=True, diagonal="equal"))
    (one,) = axes
    assert one.get_xlim() == one.get_ylim() == pytest.approx((1 - 0.4, 9 + 0.4))
    assert one.get_aspect() == 1
    samples, diagonal = one.get_lines()
    assert (samples.get_linestyle(), samples.get_marker()) == ("None", "o")
    assert diagonal.get_linestyle() == "--"
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert legend(one) == ["sample", "equal"]


def test_a_square_has_the_range_that_is_given(axes: list[Any]) -> None:
    plot(Plot({"a": ([0.9], [0.9])}, square=True, range=(0.0, 1.0)))
    plot(Plot({}, square=True))
    plot(Plot({"constant": ([3.0, 3.0], [3.0, 3.0])}, square=True))
    assert axes[0].get_xlim() == axes[0].get_ylim() == (0, 1)
    assert axes[2].get_xlim() == (2.5, 3.5)


def test_a_legend_names_many_lines_below_the_diagram_and_the_first_of_very_many(
    axes: list[Any],
) -> None:
    few = plot(Plot({f"lr=0.{i}": (XS, XS) for i in range(2)}))
    many = plot(Plot({f"lr=0.{i}": (XS, XS) for i in range(12)}))
    plot(Plot({f"lr=0.{i}": (XS, XS) for i in range(50)}))
    assert many.shape[0] > few.shape[0]
    assert [len(legend(one)) for one in axes] == [2, 12, 20]
    assert legend(axes[2])[-1] == "and 31 more"
    styles = {(line.get_color(), line.get_linestyle()) for line in axes[2].get_lines()}
    assert len(styles) == 40, "ten colors in four styles"


def test_names_are_shown_as_they_are(axes: list[Any]) -> None:
    """No mathematics between dollars, no name left out for how it begins, no missing glyph, no cut
    end.
    """
    names = ["$x_1$", "$broken", "_background", "猫", "قط", f"{'long ' * 20}(AUC 0.998)"]
    assert plot(Plot(dict.fromkeys(names, (XS, XS)), "a $ b $", "$", "_")).any()
    shown = legend(axes[0])
    assert shown[:3] == ["$x_1$", "$broken", " _background"]
    assert len(shown) == len(names)
    assert shown[-1].endswith("(AUC 0.998)")
    assert "…" in shown[-1]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_vectors_are_points_colored_by_class(size: int) -> None:
    """Far apart along one direction, classes lie on either side; of more than two numbers the two
    that vary most count.
    """
    labels = torch.arange(40) % 2
    vectors = torch.randn(40, size, generator=torch.Generator().manual_seed(0)) * 0.5
    vectors[:, -1] += 10.0 * labels
    pixels = points(Embedding(vectors, labels, ("even", "odd")))
    assert pixels.shape == (602, 700, 3)
    blue, orange = (
        (pixels == color).all(axis=2).nonzero() for color in ((31, 119, 180), (255, 127, 14))
    )
    apart = [abs(np.median(a) - np.median(b)) for a, b in zip(blue, orange, strict=True)]
    assert max(apart) > 150
    assert points(Embedding(vectors, labels)).shape == (602, 700, 3)


def test_every_vector_of_many_classes_is_drawn(axes: list[Any]) -> None:
    """Those beyond the tenth class in gray; those that are not finite not at all."""
    vectors = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    vectors[0, 1] = math.nan
    points(Embedding(vectors, torch.arange(60) % 15, tuple(f"class {i}" for i in range(15))))
    drawn = [len(collection.get_offsets()) for collection in axes[0].collections]
    assert sum(drawn) == 59
    assert legend(axes[0])[0] == "5 others"


def test_fields_of_any_values_are_drawn() -> None:
    values = torch.tensor([[0.5, math.nan], [math.inf, 2.0]])
    assert fields(Grid(values, (("←", "→"), ("↑", "↓")), "values")).any()
    large = torch.zeros(60, 60)
    assert max(fields(Grid(large, (("x",) * 60,) * 60)).shape) < 2000
    assert fields(Grid(values * math.nan, (("a", "b"), ("c", "d")))).any()


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize(
    "name",
    ["c", "a class with a really long name that nobody reads", "größe ü Ελληνικά Привет", "x" * 90],
)
def test_no_title_and_no_name_is_cut(name: str, count: int, axes: list[Any]) -> None:
    """All texts lie within the picture, whatever their length."""
    curves = {f"{name} {i}": (XS, [0.1 * i, 0.2, 0.3]) for i in range(count)}
    title = f"Gradient norm by layer: {name}, {name} and {name}"
    plot(Plot(curves, title, f"layer {name}", f"norm {name} {name}"))
    plot(Plot(curves, title, title, "y", square=True, diagonal="chance"))
    names = tuple(curves)
    points(Embedding(torch.randn(50, 2000), torch.arange(50) % count, names))
    fields(Grid(torch.rand(2, 2), (("→", "←"),) * 2, title))
    for one in axes:
        canvas = one.figure.bbox
        legends = [*one.figure.legends, *filter(None, [one.get_legend()])]
        for part in (one.title, one.xaxis.label, one.yaxis.label, *legends):
            box = part.get_window_extent()
            if not box.width:
                continue
            assert box.x0 >= -1, part
            assert box.y0 >= -1, part
            assert box.x1 <= canvas.width + 1, part
            assert box.y1 <= canvas.height + 1, part


def test_a_long_title_keeps_all_its_words(axes: list[Any]) -> None:
    title = "Gradient norm by layer of a network with a very long name " * 3
    plot(Plot({}, title))
    shown = axes[0].title.get_text()
    assert shown.count("\n") >= 2
    assert shown.split() == title.split()
