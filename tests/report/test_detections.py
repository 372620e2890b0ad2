"""Boxes and texts in pictures: where they stand, their colors, and how large they are in
TensorBoard.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dltrain.report.detections import COLORS, UNCOUNTED, boxed_pictures
from dltrain.report.pictures import image_grid
from dltrain.types import Boxes, Image, MarkedBox

ZOOM = 6  # of an image of 128 pixels
CARD_WIDTH = 350  # pixels of a picture in TensorBoard
BLACK = torch.zeros(1, 3, 128, 128)


def one(*boxes: MarkedBox) -> Image:
    return Image(BLACK, boxes=(Boxes(boxes, "predicted"),))


def of_color(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which pixels (H, W) have a color."""
    found: NDArray[np.bool_] = (picture == np.array(color)).all(axis=2)
    return found


def test_a_box_is_drawn_where_it_is_and_hides_nothing_in_it() -> None:
    picture = image_grid(one(MarkedBox((8, 40, 40, 60), "")))
    assert picture.shape == (128 * ZOOM, 128 * ZOOM, 3)
    ys, xs = of_color(picture, COLORS["predicted"]).nonzero()
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == pytest.approx((48, 240, 240, 360), abs=1)
    assert not picture[41 * ZOOM : 59 * ZOOM, 9 * ZOOM : 39 * ZOOM].any()
    assert not picture[100 * ZOOM :].any()


def test_a_text_stands_above_its_box_and_is_legible_on_a_card_of_tensorboard() -> None:
    """At 350 pixels' width its ground is at least 13 pixels high, and the box's line 2 wide."""
    picture = boxed_pictures(one(MarkedBox((40, 60, 90, 100), "b")))
    scale = CARD_WIDTH / picture.shape[1]
    found = of_color(picture, COLORS["predicted"])
    ground = found[: 60 * ZOOM, 40 * ZOOM + 1]
    assert ground.sum() * scale >= 13
    assert found[80 * ZOOM, : 60 * ZOOM].sum() * scale >= 2
    assert (
        picture[: 60 * ZOOM, 40 * ZOOM : 50 * ZOOM].sum(axis=2)[:, 5:] == 0
    ).any()  # the letter is black


@pytest.mark.parametrize(
    "corners", [(0, 0, 128, 128), (0, 0, 20, 9), (100, 120, 128, 128), (120, 0, 128, 128)]
)
def test_a_text_stands_in_the_picture_wherever_its_box_is(
    corners: tuple[int, int, int, int],
) -> None:
    middle = boxed_pictures(one(MarkedBox((40, 60, 90, 100), "some name")))
    without = boxed_pictures(one(MarkedBox((40, 60, 90, 100), "")))
    ground = (
        of_color(middle, COLORS["predicted"]).sum() - of_color(without, COLORS["predicted"]).sum()
    )
    shown, alone = (
        of_color(boxed_pictures(one(MarkedBox(corners, t))), COLORS["predicted"])
        for t in ("some name", "")
    )
    assert shown.sum() - alone.sum() >= 0.7 * ground


def test_a_card_has_a_title_above_each_picture_with_a_patch_of_its_color() -> None:
    boxes = (MarkedBox((40, 60, 90, 100), "b"), MarkedBox((10, 10, 20, 20), "a, difficult", False))
    image = Image(
        BLACK.repeat(2, 1, 1, 1),
        ("true: 1", "predicted: 0"),
        boxes=(Boxes(boxes, "true"), Boxes((), "predicted")),
    )
    picture = image_grid(image)
    above, below = np.split(picture, 2)
    height = len(above) - 128 * ZOOM
    for part, here, other in ((above, "true", "predicted"), (below, "predicted", "true")):
        assert of_color(part, COLORS[here])[:height].sum() > 100
        assert not of_color(part, COLORS[other]).any()
    assert of_color(above[height:], UNCOUNTED).any()
    assert not of_color(below[height:], COLORS["predicted"]).any()


def test_a_text_hides_no_other_text() -> None:
    """Nine boxes are close to each other: those have a text for which there is room."""
    boxes = [MarkedBox((60 + 3 * i, 60, 70 + 3 * i, 70), f"name {i}") for i in range(9)]
    alone = of_color(boxed_pictures(one(boxes[0])), COLORS["predicted"]).sum()
    bare = of_color(boxed_pictures(one(MarkedBox(boxes[0].corners, ""))), COLORS["predicted"]).sum()
    together = of_color(boxed_pictures(one(*boxes)), COLORS["predicted"]).sum()
    outlines = of_color(
        boxed_pictures(one(*(MarkedBox(b.corners, "") for b in boxes))), COLORS["predicted"]
    ).sum()
    texts = (together - outlines) / (alone - bare)
    assert texts == pytest.approx(round(texts), abs=0.45)
    assert 2 <= round(texts) < 9


def test_names_of_every_script_are_drawn_and_long_ones_are_cut() -> None:
    for text in ("чашка", "杯子", "x" * 500):
        found = of_color(
            boxed_pictures(one(MarkedBox((40, 60, 90, 100), text))), COLORS["predicted"]
        )
        assert found[: 60 * ZOOM].any()
        assert not found[:, :1].any() or text.startswith("x")


def test_images_of_any_size_and_of_one_channel_are_drawn() -> None:
    for shape in ((1, 8, 8), (3, 30, 2000), (1, 500, 20)):
        image = Image(
            torch.zeros(1, *shape), boxes=(Boxes((MarkedBox((0, 0, 5, 5), "a"),), "true"),)
        )
        picture = boxed_pictures(image)
        assert picture.shape[0] / picture.shape[1] == pytest.approx(shape[1] / shape[2], rel=0.1)
        assert 500 <= max(picture.shape) <= 900
        assert of_color(picture, COLORS["true"]).any()
