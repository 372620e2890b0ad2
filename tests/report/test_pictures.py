"""Pictures: of the right size, with the values shaded and written in, and lines where they belong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dltrain.report.pictures import Pixels, grid, heat_map, plot, points
from dltrain.types import Embedding, Plot, Table


def shades(pixels: Pixels, table: Table, cell: int = 36) -> list[list[int]]:
    """How much red there is near the lower right corner of each cell: 255 is white, little is dark blue."""
    rows, columns = table.values.shape
    top, width = pixels.shape[0] - 1 - rows * cell, max(cell, 6 * max(map(len, table.columns)) + 4)
    left = pixels.shape[1] - 1 - columns * width
    return [
        [int(pixels[top + (r + 1) * cell - 3, left + (c + 1) * width - 3, 0]) for c in range(columns)]
        for r in range(rows)
    ]


def test_a_caption_of_several_lines_has_room_for_all_of_them() -> None:
    """Each cut off at the width of its image; without lines of its own a caption has two."""
    images = torch.ones(2, 3, 72, 72)
    heights = [
        grid(images, (caption, "cat"))[:, :76].shape[0] for caption in ("a", "0.5 cat\n0.3 dog\n0.2 owl", "a b " * 40)
    ]
    assert heights[1] - heights[0] == 12
    assert heights[2] == heights[0]
    third = grid(images, ("0.5 automobile\n0.3 dog\n0.2 owl", "cat"))[72 + 24 : 72 + 36, :76]
    assert (third < 128).any(), "the third line is written"
    assert not (grid(images, ("0.5 cat", "cat"))[72 + 12 : 72 + 24, :76] < 128).any()


def test_counts_are_shaded_by_their_share_of_the_row() -> None:
    table = Table(torch.tensor([[30, 10], [0, 0]]), ("a", "b"), ("a", "b"))
    assert shades(heat_map(table), table) == [[255 - 161, 255 - 53], [255, 255]]


def test_figures_are_shaded_by_their_share_of_the_columns_top() -> None:
    """So that precision in 0..1 and support in thousands can stand side by side; what is not known is white."""
    table = Table(torch.tensor([[0.5, 4000.0], [1.0, 1000.0], [math.nan, 0.0]]), ("a", "b", "c"), ("f1", "support"))
    assert shades(heat_map(table), table) == [[255 - 107, 40], [40, 255 - 53], [255, 255]]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (40, 5), (41, 5), (1000, 5), (150, 150)])
def test_a_table_of_any_size_is_drawn(count: int, columns: int) -> None:
    """Names get the room that they need, and are left out where there is none."""
    rows, names = tuple(f"class {i}" for i in range(count)), tuple(f"column {i}" for i in range(columns))
    pixels = heat_map(Table(torch.ones(count, columns), rows, names))
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert max(pixels.shape) <= 2100


def lines(**more: bool) -> Plot:
    xs = [1.0, 2.0, 3.0]
    return Plot({"a": (xs, [1.0, 0.1, 0.01]), "b": (xs, [0.0, 0.0, math.nan])}, "title", "x", "y", **more)


def test_images_stand_side_by_side_with_room_for_captions_only_where_there_are_any() -> None:
    pixels = torch.zeros(5, 1, 36, 36)
    pixels[4] = 1.0
    plain, captioned = grid(pixels, (), 2), grid(pixels, ("a", "b"), 2)
    assert plain.shape == (3 * 76, 2 * 76, 3)
    assert captioned.shape == (3 * 100, 2 * 76, 3)
    assert not plain[:72, :72].any()
    assert (plain[2 * 76 : 2 * 76 + 72, :72] == 255).all()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_vectors_are_points_coloured_by_class(size: int) -> None:
    """Far apart along one direction, classes lie on either side; of more than two numbers the two that vary most count."""
    labels = torch.arange(40) % 2
    vectors = torch.randn(40, size, generator=torch.Generator().manual_seed(0)) * 0.5
    vectors[:, -1] += 10.0 * labels
    pixels = points(Embedding(vectors, labels, ("even", "odd")))
    assert pixels.shape == (600, 700, 3)
    blue, orange = ((pixels == colour).all(axis=2).nonzero() for colour in ((31, 119, 180), (255, 127, 14)))
    apart = [abs(np.median(a) - np.median(b)) for a, b in zip(blue, orange, strict=True)]
    assert max(apart) > 150
    assert points(Embedding(vectors, labels)).shape == (600, 700, 3)


@pytest.mark.parametrize("log_y", [False, True])
def test_a_plot_shows_its_lines(log_y: bool) -> None:
    """Also values that a logarithmic axis has no place for."""
    pixels, empty = plot(lines(log_y=log_y)), plot(Plot({}))
    assert pixels.dtype == np.uint8
    assert pixels.shape == empty.shape == (450, 700, 3)
    assert (pixels != empty).any()
    coloured = np.ptp(pixels.astype(int), axis=2) > 60
    assert 50 < coloured.sum() < 0.2 * coloured.size


def test_a_logarithmic_axis_makes_a_line_of_powers_straight() -> None:
    assert (plot(lines(log_y=True)) != plot(lines())).any()
