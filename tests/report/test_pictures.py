"""Pictures: of the right size, with text that can be read in TensorBoard, values colored and
written in.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image as PIL

from dltrain.report.fonts import text_width
from dltrain.report.pictures import (
    CARD_WIDTH,
    GridLayout,
    Pixels,
    TableLayout,
    grid,
    heat_colors,
    heat_map,
)
from dltrain.types import Table

WHITE = (255, 255, 255)


def blank_runs(ink: np.ndarray) -> list[int]:
    """The lengths of the runs of blank rows (or columns) that stand between inked ones."""
    at = np.flatnonzero(ink)
    return [int(b - a - 1) for a, b in pairwise(at) if b - a > 1]


@pytest.mark.parametrize("side", [1, 8, 28, 32, 84, 100, 300])
def test_the_gaps_between_images_are_the_same_across_and_down(side: int) -> None:
    """Also for images of a side of which no multiple is the wished one, such as a GAN's of 28
    pixels.
    """
    pixels = grid(torch.zeros(9, 1, side, side), columns=3)
    ink = (pixels < 128).all(axis=2)
    assert blank_runs(ink.any(axis=0)) == blank_runs(ink.any(axis=1)) == [4, 4]


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 512), (512, 1), (512, 512), (512, 300), (8, 24), (2000, 3), (28, 28)],
)
def test_images_of_any_shape_are_seen(height: int, width: int) -> None:
    """None is a line too thin to be seen, and none makes a picture of thousands of pixels."""
    pixels = grid(torch.zeros(3, 1, height, width), ("a", "b → c"))
    black = (pixels < 20).all(axis=2)
    assert max(pixels.shape) <= 1100
    assert len(blank_runs(black[:6].any(axis=0))) == 2, "three images with two gaps"
    assert black.any(axis=1).sum() >= 6
    assert black.any(axis=0).sum() >= 3 * 6


def test_channels_are_shown_in_gray_or_color_and_what_is_no_number_in_magenta() -> None:
    two = torch.zeros(1, 2, 4, 4)
    two[:, 0] = 0.5
    assert (grid(two)[:80, :80] == 127).all()
    color = torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1)
    assert grid(color)[0, 0].tolist() == [255, 0, 127]
    broken = torch.tensor([math.nan, math.inf, -math.inf, 7.0]).view(4, 1, 1, 1)
    pixels = grid(broken, columns=4)
    assert [pixels[0, 88 * i].tolist() for i in range(4)] == [
        [255, 0, 255],
        [255] * 3,
        [0] * 3,
        [255] * 3,
    ]


def caption_rows(pixels: Pixels, image_side: int) -> np.ndarray:
    """The rows with ink below images of `image_side`, counted from their lower edge."""
    return np.flatnonzero((pixels[image_side:] < 128).all(axis=2).any(axis=1))


@pytest.mark.parametrize("side", [8, 28, 200])
def test_captions_can_be_read_where_tensorboard_shows_them(side: int) -> None:
    """A digit is 7 pixels high or more in a picture that is made 350 pixels wide, and stands off
    the image.
    """
    pixels = grid(torch.ones(8, 1, side, side), ["8 → 4"] * 8)
    shown = {8: 80, 28: 84, 200: 200}[side]
    rows = caption_rows(pixels, shown)
    assert rows[0] >= 4
    assert (rows[-1] - rows[0] + 1) * CARD_WIDTH / pixels.shape[1] >= 7


def test_there_are_as_many_columns_as_captions_leave_room_for() -> None:
    images = torch.ones(32, 1, 32, 32)
    black = torch.zeros_like(images)
    columns = []
    for name in ("8 → 4", "cat → dog", "airplane → automobile", "w" * 90):
        pixels = grid(black, [name] * 32)
        columns.append(len(blank_runs((pixels[:20] < 128).all(axis=2).any(axis=0))) + 1)
        assert pixels.shape[1] >= 2 * CARD_WIDTH - 50, "large enough to lose pixels"
    assert columns[0] == 8
    assert columns == sorted(columns, reverse=True)
    assert columns[-1] == 3, "never fewer"


def test_pairs_of_images_are_as_high_as_single_ones() -> None:
    single, pair = (grid(torch.zeros(16, 1, 28, width), ["2 → 9"] * 16) for width in (28, 56))
    heights = [int((p[:, :20] < 128).all(axis=2).any(axis=1).argmin()) for p in (single, pair)]
    assert heights[1] * CARD_WIDTH / pair.shape[1] >= heights[0] * CARD_WIDTH / single.shape[1] - 2
    plain = grid(torch.zeros(16, 1, 28, 56))
    assert len(blank_runs((plain[:10] < 128).all(axis=2).any(axis=0))) == 7, (
        "rows of eight belong together"
    )


def test_a_caption_of_several_lines_has_room_for_all_of_them() -> None:
    images = torch.ones(2, 3, 84, 84)
    one, three = (
        grid(images, (caption, "cat"), 2).shape[0] for caption in ("a", "0.5 cat\n0.3 dog\n0.2 owl")
    )
    lines = (three - one) / 2
    assert lines > 10
    ink = caption_rows(grid(images, ("0.5 cat\n0.3 dog\n0.2 owl", "cat"), 2)[:, :88], 84)
    assert ink[-1] > 2 * lines


def test_a_title_stands_over_all_and_the_scale_of_colors_below() -> None:
    plain = grid(torch.zeros(4, 3, 84, 84), columns=4)
    titled = grid(torch.zeros(4, 3, 84, 84), columns=4, title="HiResCAM", scale=("none", "most"))
    added = titled.shape[0] - plain.shape[0]
    assert added > 30
    bar = titled[-30:].reshape(-1, 3).astype(int)
    blue, red = (bar[:, a] - bar[:, b] > 100 for a, b in ((2, 0), (0, 2)))
    assert blue.any()
    assert red.any()
    assert heat_colors(np.array([0.0, 0.5, 1.0])).tolist() == [
        [0, 0, 0.5],
        [0.5, 1, 0.5],
        [0.5, 0, 0],
    ]
    long = grid(
        torch.zeros(1, 3, 84, 84), columns=1, scale=("no evidence at all", "the most of this image")
    )
    assert long.shape[1] == 88, "a scale with long ends goes over two lines"


# Tables


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("title", ["short", "a class → the predicted class " * 6, "x" * 300])
def test_a_title_of_any_length_is_not_cut(title: str, count: int) -> None:
    """It has as many lines as it needs, none of which is wider than the picture."""
    layout = GridLayout.of([PIL.new("RGB", (84, 84))] * count, (), min(count, 8), title)
    assert "".join(layout.title_lines).replace(" ", "") == title.replace(" ", "")
    widths = [text_width(line, layout.text_size) for line in layout.title_lines]
    assert max(widths) <= layout.width
    assert layout.top >= len(widths) * layout.line_height


def cells(table: Table) -> list[list[tuple[int, ...]]]:
    """The color of each cell, near its lower right corner."""
    pixels, layout = heat_map(table), TableLayout.of(table)
    rows, columns = table.values.shape
    return [
        [
            tuple(
                pixels[
                    layout.top + (r + 1) * layout.height - 3,
                    layout.left + (c + 1) * layout.width - 3,
                ].tolist()
            )
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def test_errors_of_a_confusion_matrix_are_red_and_seen() -> None:
    """One error in a thousand too; what never happened is white, what is right blue."""
    names = ("cat", "dog")
    (right, rare), (often, some) = cells(Table(torch.tensor([[999, 1], [30, 10]]), names, names))
    assert right[2] - right[0] > 100
    assert some[2] > some[0]
    for color in (rare, often):
        assert color[0] - color[2] > 20
    assert rare[1] > often[1], "the more errors, the stronger"
    assert cells(Table(torch.tensor([[5, 0], [0, 0]]), names, names))[0][1] == WHITE


def test_counts_of_another_kind_have_no_errors() -> None:
    (first, second), _ = cells(Table(torch.tensor([[30, 10], [0, 0]]), ("a", "b"), ("x", "y")))
    assert first[2] > first[0]
    assert second[2] > second[0]


def test_scores_are_colored_and_support_is_not() -> None:
    """Scores in 0..1 by themselves, others by the share of the column's highest; what is not known
    is white.
    """
    values = torch.tensor([[0.5, 4000.0, 4000.0], [1.0, 1000.0, 1000.0], [math.nan, 0.0, math.inf]])
    found = cells(Table(values, ("a", "b", "c"), ("f1", "error", "support"), plain=("support",)))
    assert found[1][0] == found[0][1] == (33, 78, 190)
    assert found[0][0][0] == pytest.approx((255 + 33) / 2, abs=1)
    assert [row[2] for row in found] == [WHITE] * 3
    assert found[2] == [WHITE] * 3


def ink_box(pixels: Pixels) -> tuple[float, float]:
    """The middle (row, column) of what is dark or light in a cell of one other color."""
    ink = (np.abs(pixels.astype(int) - pixels[2, 2].astype(int)).max(axis=2) > 100)[2:-2, 2:-2]
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return (rows[0] + rows[-1]) / 2 + 2, (columns[0] + columns[-1]) / 2 + 2


@pytest.mark.parametrize("count", [2, 10, 20])
def test_numbers_stand_in_the_middle_of_their_cells(count: int) -> None:
    names = tuple(f"class {i}" for i in range(count))
    table = Table(torch.full((count, count), 80), names, names, "true class", "predicted class")
    pixels, layout = heat_map(table), TableLayout.of(table)
    for r, c in ((0, 0), (1, 0), (count - 1, count - 1)):
        y, x = layout.top + r * layout.height, layout.left + c * layout.width
        middle = ink_box(pixels[y : y + layout.height, x : x + layout.width])
        assert middle == pytest.approx((layout.height / 2, layout.width / 2), abs=2)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(1, 1), (2, 2), (10, 10), (40, 5), (100, 100), (100, 5), (1000, 5), (150, 150), (5, 300)],
)
def test_a_table_of_any_size_is_drawn(rows: int, columns: int) -> None:
    """Names get the room that they need, also in other scripts, and are left out where there is
    none.
    """
    names = [
        f"{word} {i}"
        for i in range(max(rows, columns))
        for word in [("猫", "a long name of a class")[i % 2]]
    ]
    pixels = heat_map(
        Table(
            torch.ones(rows, columns), tuple(names[:rows]), tuple(names[:columns]), "class", "score"
        )
    )
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert max(pixels.shape) <= 2200


def test_long_names_of_columns_stand_upright_and_are_not_cut() -> None:
    names = tuple(f"automobile {i}" for i in range(10))
    table = Table(torch.eye(10, dtype=torch.int64), names, names)
    layout = TableLayout.of(table)
    assert layout.upright
    pixels = heat_map(table)
    assert (pixels[: layout.top] < 100).any()
    assert not (pixels[: round(2 * layout.text)] < 100).any(), "no name reaches over the titles"
    few = tuple(f"a class with a long name, number {i}" for i in range(4))
    assert heat_map(Table(torch.eye(4, dtype=torch.int64), few, few)).shape[1] < 700
