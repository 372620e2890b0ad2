"""Titles of diagrams and of their axes in lines that fit: none is cut at the picture's edge."""

from __future__ import annotations

import math
import textwrap
from typing import Any

# A title within this part of the figure's width, or an upright one of its height, has room beside
# numbers and legend, so the figure is not laid out to measure it.
SURE_WIDTH, SURE_HEIGHT = 0.75, 0.3
MAX_FULL_SIZE_LINES = 2  # of a title; more are written smaller
SMALL = 0.75  # the size of those
WRAPPED = 0.95  # of the room is used by the average line, since letters differ in width


def fit_titles(figure: Any) -> None:
    """Break the titles of a matplotlib figure's diagrams and axes into lines that have room.

    The room is the width of the diagram, or its height for the title of the vertical axis. The
    figure becomes higher by the lines that are added.
    """
    level = [(axes, title) for axes in figure.axes for title in (axes.title, axes.xaxis.label)]
    upright = [(axes, axes.yaxis.label) for axes in figure.axes]
    titles = [title for _, title in level + upright]
    width, height = figure.bbox.width, figure.bbox.height
    longest = max(length_of(title, is_vertical=False) for _, title in level)
    longest_upright = max(length_of(title, is_vertical=True) for _, title in upright)
    if longest <= SURE_WIDTH * width and longest_upright <= SURE_HEIGHT * height:
        return
    for title in titles:
        title.set_in_layout(False)  # the room is that beside titles of one line
    figure.draw_without_rendering()
    for axes, title in upright:
        fit(title, axes.get_window_extent().height, is_vertical=True)
        title.set_in_layout(True)
    figure.draw_without_rendering()  # upright titles of several lines make the diagram narrower
    added = 0.0
    for axes, title in level:
        before = title.get_window_extent().height
        fit(title, axes.get_window_extent().width, is_vertical=False)
        added += title.get_window_extent().height - before
        title.set_in_layout(True)
    figure.set_size_inches(width / figure.dpi, (height + max(0.0, added)) / figure.dpi)


def fit(title: Any, room: float, is_vertical: bool) -> None:
    """Break a title into lines of at most `room` pixels; many lines are written smaller."""
    text = title.get_text()
    length = length_of(title, is_vertical)
    if not text or length <= room:
        return
    if length > MAX_FULL_SIZE_LINES * room:
        title.set_fontsize(SMALL * title.get_fontsize())
        length = length_of(title, is_vertical)
    chars = max(1, math.floor(WRAPPED * len(text) * room / length))
    while chars >= 1:
        title.set_text("\n".join(textwrap.wrap(text, chars)))
        if length_of(title, is_vertical) <= room:
            return
        chars -= 1


def length_of(title: Any, is_vertical: bool) -> float:
    """Return how many pixels long the longest line of a title is."""
    box = title.get_window_extent()
    length: float = box.height if is_vertical else box.width
    return length
