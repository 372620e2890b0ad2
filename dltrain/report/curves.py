"""Learning curves of a sweep: the runs that differ only in their seed as one line, their mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.report.pictures import Pixels, plot
from dltrain.types import Plot

PICTURE = "curves.png"
SHARE = 0.02  # of a curve that each of its points is the mean of
LOWEST = 4.0  # percent of all values that may lie below the picture: the first ones of a beginner

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
    """A diagram a metric, one under the other, a line a group; None where no metric has two points."""
    drawn = []
    for metric in dict.fromkeys(metrics):
        curves = {}
        for name, folders in groups.items():
            runs = [run for folder in folders if (run := series(folder, metric))]
            if runs and max(map(len, runs)) > 1:
                seeds = f", mean of {len(runs)} runs" if len(runs) > 1 else ""
                curves[f"{name}{seeds}"] = mean(runs)
        if curves:
            values = np.concatenate([ys for _, ys in curves.values()])
            low, high = (float(v) for v in (np.percentile(values, LOWEST), values.max()))
            room = 0.05 * (high - low) or 1.0
            drawn.append(plot(Plot(curves, metric, "step", metric, y_range=(low - room, high + room))))
    return np.concatenate(drawn) if drawn else None


def averages(groups: Mapping[str, Sequence[Path]], metric: str) -> dict[str, tuple[float, float, int]]:
    """Of each group the mean of `metric` over the whole of every run, its standard error over the runs, and their number."""
    found: dict[str, tuple[float, float, int]] = {}
    for name, folders in groups.items():
        means = [float(np.mean(list(run.values()))) for folder in folders if (run := series(folder, metric))]
        if means:
            error = float(np.std(means, ddof=1) / len(means) ** 0.5) if len(means) > 1 else 0.0
            found[name] = (float(np.mean(means)), error, len(means))
    return found


def write(path: Path, pixels: Any) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)
