"""Learning curves of sweeps: what a line is the mean of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dltrain.report import curves
from dltrain.report.curves import (
    draw_curves,
    is_wide,
    mean,
    series,
    stacked,
    training_counterpart,
)
from dltrain.types import Plot


def run(folder: Path, values: dict[int, float]) -> Path:
    folder.mkdir()
    lines = [{"step": step, "train/return": value} for step, value in values.items()]
    (folder / "metrics.jsonl").write_text(
        "\n".join(map(json.dumps, [*lines, {"step": 1, "val/return": 3.0}]))
    )
    return folder


def test_a_line_is_the_mean_of_the_runs_that_have_a_value(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a", {1: 2.0, 2: 4.0}), run(tmp_path / "b", {1: 4.0, 3: 8.0})
    assert series(one, "train/return") == {1: 2.0, 2: 4.0}
    assert mean([series(one, "train/return"), series(other, "train/return")]) == (
        [1.0, 2.0, 3.0],
        [3.0, 4.0, 8.0],
    )


def test_a_long_line_is_smoothed_over_a_fiftieth(tmp_path: Path) -> None:
    _, ys = mean([{step: float(step % 2) for step in range(100)}])
    assert ys[0] == 0.0
    assert set(ys[1:]) == {0.5}


def test_the_counterpart_of_a_figure_is_that_of_the_training() -> None:
    assert training_counterpart("val/return", {"train/return", "train/loss"}) == "train/return"
    assert training_counterpart("val/accuracy", {"train/loss"}) == "train/loss"


def test_what_has_one_point_is_not_drawn(tmp_path: Path) -> None:
    groups = {"a": [run(tmp_path / "a", {1: 2.0, 2: 4.0})]}
    assert draw_curves(groups, ["val/return"]) is None
    one = draw_curves(groups, ["train/return", "val/return"])
    two = draw_curves(groups, ["train/return"])
    assert one is not None
    assert two is not None
    assert one.shape == two.shape
    assert pytest.approx(one.mean()) == two.mean()


def test_every_point_of_a_curve_is_within_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the first of a long one, far below the rest."""
    shown: list[Plot] = []
    monkeypatch.setattr(
        curves, "plot", lambda plot: shown.append(plot) or np.zeros((4, 4, 3), np.uint8)
    )
    values = {step: 0.1 if step == 1 else 0.9 for step in range(1, 101)}
    draw_curves({"lr=0.1": [run(tmp_path / "a", values)]}, ["train/return"])
    assert shown[0].y_range is None
    assert shown[0].lines["lr=0.1"][1][0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("values", "wide"), [([1e30, 0.5], True), ([1.0, 0.5], False), ([1e30, 0.0], False)]
)
def test_values_far_apart_are_drawn_on_a_logarithmic_axis(values: list[float], wide: bool) -> None:
    assert is_wide({"a": ([1.0, 2.0], values)}) is wide


def test_pictures_of_different_widths_are_stacked_on_white() -> None:
    found = stacked([np.zeros((2, 4, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)])
    assert found.shape == (5, 4, 3)
    assert (found[2:, 2:] == 255).all()
