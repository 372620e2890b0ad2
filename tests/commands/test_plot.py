"""`dltrain check --plot`: the learning rate as a curve of text."""

from __future__ import annotations

import pytest

from dltrain.config.groups import groups
from dltrain.report.text import chart


def stars(out: str) -> list[list[int]]:
    """The rows of a chart, top first: the columns that have a star."""
    rows = [line.partition("|")[2] for line in out.splitlines() if "|" in line]
    return [[i for i, letter in enumerate(row) if letter == "*"] for row in rows]


def test_a_chart_has_a_star_a_value_over_an_axis_from_zero() -> None:
    assert chart([0, 1, 2, 4], "4 updates", height=5) == (
        "  4.0000 |   *\n         |\n         |  *\n         | *\n       0 |*\n"
        "         +----\n          4 updates"
    )
    assert stars(chart([0.0, 0.0], ""))[-1] == [0, 1], "nothing is drawn at 0"


@pytest.mark.parametrize("schedule", groups()["schedule"])
def test_every_schedule_is_drawn_in_sixty_columns_and_twelve_rows(schedule: str, dltrain) -> None:
    outcome = dltrain("check", "--plot", "model=perceptron", f"schedule={schedule}")
    assert outcome.code == 0, outcome.err
    rows = stars(outcome.out)
    assert len(rows) == 12
    assert sorted(column for row in rows for column in row) == list(range(60))
    assert rows[0], "the full rate is reached"
    assert "810 updates" in outcome.out  # ten epochs of 81 steps


def test_the_plot_is_of_the_runs_own_updates(dltrain) -> None:
    argv = (
        "check",
        "--plot",
        "model=perceptron",
        "schedule=step",
        "schedule.warmup=5",
        "trainer.accumulate=2",
    )
    outcome = dltrain(*argv, "trainer.steps=118")
    rows = stars(outcome.out)
    assert "59 updates" in outcome.out
    assert rows[0][:2] == [4, 5], "five updates of warm-up"
    assert rows[0][-1] == 32, (
        "then half of the 54 others at the full rate; one update fills two columns"
    )


def test_without_an_end_there_is_no_plot_and_no_other_verb_has_one(dltrain) -> None:
    endless = (
        "model=perceptron",
        "schedule=plateau",
        "trainer.epochs=null",
        "trainer.max_seconds=5",
    )
    outcome = dltrain("check", "--plot", *endless)
    assert outcome.code == 0, outcome.err
    assert "no plot of the learning rate" in outcome.out
    assert "|" not in dltrain("check", "model=perceptron").out
    assert dltrain("--plot", "model=perceptron").code == 2
    assert (
        dltrain("check", "--plott").err == "dltrain: no such flag: --plott; did you mean --plot?\n"
    )
