"""The line of a running epoch: it fits every terminal, and the count of steps is never cut."""

from __future__ import annotations

import pytest

from dltrain.callbacks.progress import Line, new_bar
from dltrain.terminal import cells

FIGURES = ["loss 0.1972", "val/accuracy 0.9721", "2 min 05 s left", "12,345 samples/s"]
LONG = ["loss 0.1972", "val/a_very_long_name_of_a_metric_of_the_users_own 0.9721", "12.3 s left"]


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 120, 200])
@pytest.mark.parametrize(
    "title", ["train 1/10", "layer 3 of a pretraining with a long name 1/10", "訓練と評価 1/10"]
)
@pytest.mark.parametrize("figures", [FIGURES, LONG, []], ids=["usual", "long", "none"])
def test_a_line_fits_and_has_the_whole_count(width: int, title: str, figures: list[str]) -> None:
    line = Line.fitting(width, title, "688/1234", figures)
    drawn = line.drawn(0.5).plain
    assert cells(drawn) <= width
    assert "688/1234" in drawn
    assert all(part in figures for part in line.figures.split("  ") if part), "figures are whole"
    assert line.bar_width == 0 or line.bar_width >= 5


def test_the_most_important_figures_come_first() -> None:
    shown = [
        Line.fitting(width, "train 1/10", "688/1234", FIGURES).figures.split("  ")
        for width in (40, 60, 80, 120)
    ]
    assert shown == [FIGURES[:1], FIGURES[:2], FIGURES[:3], FIGURES]
    assert Line.fitting(60, "train 1/10", "688/1234", LONG).figures.split("  ") == [
        LONG[0],
        LONG[2],
    ]


def test_the_bar_is_filled_by_its_share() -> None:
    line = Line.fitting(80, "train", "5/10", [])
    spans = {span.style: span.end - span.start for span in line.drawn(0.5).spans}
    assert spans == {
        "bar.complete": line.bar_width // 2,
        "bar.back": line.bar_width - line.bar_width // 2,
    }
    assert line.drawn(0.5, ascii_only=True).plain.isascii()
    assert line.drawn(2.0).plain.count("━") == line.bar_width


def test_the_display_shows_the_line_as_it_is() -> None:
    """No markup: a stage may be called [layer]."""
    from rich.console import Console

    bar = new_bar()
    bar.add_task("", line=Line.fitting(60, "[layer] 1/2", "5/10", ["loss 0.5"]).drawn(0.5))
    console = Console(width=60, record=True, file=__import__("io").StringIO())
    console.print(bar.get_renderable())
    assert console.export_text().splitlines()[0].split()[0] == "[layer]"
