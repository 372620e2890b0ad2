"""Draws the learning curves of a sweep; runs that differ only in their seed are averaged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dltrain.report.plots import Pixels, plot
from dltrain.types import Plot

FILE = "curves.png"
SMOOTHING = 0.02  # width of the moving average, as a fraction of the curve's points
MAX_LINEAR_RATIO = 1000  # highest to lowest value; above it the axis is logarithmic

Curve = tuple[list[float], list[float]]  # steps and values


def training_counterpart(watched: str, names: set[str]) -> str:
    """Return the training metric to draw beside the watched one.

    It is the one with the same name, such as train/return for val/return, if the `names` of the
    runs' metrics have it, else train/loss.
    """
    same_name = f"train/{watched.partition('/')[2]}"
    if same_name in names:
        return same_name
    return "train/loss"


def series(folder: Path, metric: str) -> dict[int, float]:
    """Return the logged values of `metric` in a run's folder, by step.

    The last line of a run that is training may be unfinished; it is left out.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return {}
    values = {}
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        record = json.loads(line)
        if record.get(metric) is not None:
            values[int(record["step"])] = float(record[metric])
    return values


def mean(runs: Sequence[dict[int, float]]) -> Curve:
    """Return the mean over the runs at every step with a value, smoothed with a moving average."""
    by_step: dict[int, list[float]] = {}
    for run in runs:
        for step, value in run.items():
            by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    values = np.array([np.mean(by_step[step]) for step in steps])
    return [float(step) for step in steps], moving_average(values).tolist()


def moving_average(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each value and those before it, within a window of `SMOOTHING`."""
    width = max(1, round(SMOOTHING * len(values)))
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def draw_curves(groups: Mapping[str, Sequence[Path]], metrics: Sequence[str]) -> Pixels | None:
    """Draw one diagram per metric, one below the other, with a line for each group of run folders.

    Return None if no metric has two points.
    """
    diagrams = []
    for metric in dict.fromkeys(metrics):
        curves = curves_of(groups, metric)
        if curves:
            diagrams.append(plot(Plot(curves, metric, "step", metric, log_y=is_wide(curves))))
    return stacked(diagrams) if diagrams else None


def curves_of(groups: Mapping[str, Sequence[Path]], metric: str) -> dict[str, Curve]:
    """Return the mean curve of each group whose runs have at least two values of `metric`."""
    curves = {}
    for name, folders in groups.items():
        runs = runs_with(folders, metric)
        if max(map(len, runs), default=0) < 2:
            continue
        label = f"{name}, mean of {len(runs)} runs" if len(runs) > 1 else name
        curves[label] = mean(runs)
    return curves


def runs_with(folders: Sequence[Path], metric: str) -> list[dict[int, float]]:
    """Return the values of `metric` by step, for each run folder that has any."""
    runs = [series(folder, metric) for folder in folders]
    return [values for values in runs if values]


def is_wide(curves: Mapping[str, Curve]) -> bool:
    """Return whether all values are positive and need a logarithmic axis."""
    values = np.concatenate([ys for _, ys in curves.values()])
    return bool((values > 0).all()) and float(values.max()) > MAX_LINEAR_RATIO * float(values.min())


def stacked(pictures: Sequence[Pixels]) -> Pixels:
    """Return the pictures one below the other, padded with white on the right."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        padding = ((0, 0), (0, width - picture.shape[1]), (0, 0))
        rows.append(np.pad(picture, padding, constant_values=255))
    return np.concatenate(rows)


def write(path: Path, pixels: Pixels) -> None:
    """Write a picture (H, W, 3) of bytes to a file, in the format of its extension."""
    from PIL import Image

    Image.fromarray(pixels).save(path)
