"""Learning curves of a sweep: the runs that differ only in their seed as one line, their mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.report.plots import Pixels, plot
from dltrain.types import Plot

PICTURE = "curves.png"
SHARE = 0.02  # of a curve that each of its points is the mean of
MAX_RATIO = 1000  # of the highest value to the lowest, above which the axis is logarithmic

Curve = tuple[list[float], list[float]]


def counterpart(watched: str, names: set[str]) -> str:
    """The training's figure beside a watched one: of the same name, or else the loss."""
    own = f"train/{watched.partition('/')[2]}"
    return own if own in names else "train/loss"


def series(folder: Path, metric: str) -> dict[int, float]:
    """A run's values of `metric` by step."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record.get(metric) is not None:
            found[int(record["step"])] = float(record[metric])
    return found


def mean(runs: Sequence[dict[int, float]]) -> Curve:
    """The mean over the runs at every step at which one has a value, smoothed over a fiftieth of the curve."""
    steps = sorted({step for run in runs for step in run})
    values = np.array([np.mean([run[step] for run in runs if step in run]) for step in steps])
    width = max(1, round(SHARE * len(values)))
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return [float(step) for step in steps], ((sums[ends] - sums[starts]) / (ends - starts)).tolist()


def picture(groups: Mapping[str, Sequence[Path]], metrics: Sequence[str]) -> Pixels | None:
    """Draw a diagram for each metric, one under the other, with a line for each group.

    None where no metric has two points.
    """
    drawn = []
    for metric in dict.fromkeys(metrics):
        curves = {}
        for name, folders in groups.items():
            runs = [run for folder in folders if (run := series(folder, metric))]
            if runs and max(map(len, runs)) > 1:
                seeds = f", mean of {len(runs)} runs" if len(runs) > 1 else ""
                curves[f"{name}{seeds}"] = mean(runs)
        if curves:
            drawn.append(plot(Plot(curves, metric, "step", metric, log_y=is_wide(curves))))
    return stacked(drawn) if drawn else None


def is_wide(curves: Mapping[str, Curve]) -> bool:
    """Tell if all values are positive and too far apart for any but a logarithmic axis."""
    values = np.concatenate([ys for _, ys in curves.values()])
    return bool((values > 0).all()) and float(values.max()) > MAX_RATIO * float(values.min())


def stacked(pictures: Sequence[Pixels]) -> Pixels:
    """Return the pictures one under the other, on white where one is narrower."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        missing = ((0, 0), (0, width - picture.shape[1]), (0, 0))
        rows.append(np.pad(picture, missing, constant_values=255))
    return np.concatenate(rows)


def averages(
    groups: Mapping[str, Sequence[Path]], metric: str
) -> dict[str, tuple[float, float, int]]:
    """Of each group the mean of `metric` over the whole of every run, its standard error over the runs, and their number."""
    found: dict[str, tuple[float, float, int]] = {}
    for name, folders in groups.items():
        means = [
            float(np.mean(list(run.values())))
            for folder in folders
            if (run := series(folder, metric))
        ]
        if means:
            error = float(np.std(means, ddof=1) / len(means) ** 0.5) if len(means) > 1 else 0.0
            found[name] = (float(np.mean(means)), error, len(means))
    return found


def write(path: Path, pixels: Any) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)
