"""Learning curves of a sweep; runs that differ only in their seed are one line, their mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.report.plots import Pixels, plot
from dltrain.types import Plot

PICTURE = "curves.png"
SMOOTHING = 0.02  # the fraction of a curve that each of its points is averaged over
MAX_RATIO = 1000  # of the highest value to the lowest; the axis is logarithmic above it

Curve = tuple[list[float], list[float]]


def counterpart(watched: str, names: set[str]) -> str:
    """Return the training metric to draw beside a watched one: of the same name, or the loss."""
    own = f"train/{watched.partition('/')[2]}"
    if own in names:
        return own
    return "train/loss"


def series(folder: Path, metric: str) -> dict[int, float]:
    """Return the values of `metric` in a run's folder by step."""
    values = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
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
    width = max(1, round(SMOOTHING * len(values)))
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return [float(step) for step in steps], ((sums[ends] - sums[starts]) / (ends - starts)).tolist()


def picture(groups: Mapping[str, Sequence[Path]], metrics: Sequence[str]) -> Pixels | None:
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
    every = [series(folder, metric) for folder in folders]
    return [run for run in every if run]


def is_wide(curves: Mapping[str, Curve]) -> bool:
    """Return whether all values are positive and need a logarithmic axis."""
    values = np.concatenate([ys for _, ys in curves.values()])
    return bool((values > 0).all()) and float(values.max()) > MAX_RATIO * float(values.min())


def stacked(pictures: Sequence[Pixels]) -> Pixels:
    """Return the pictures one below the other, padded with white on the right."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        missing = ((0, 0), (0, width - picture.shape[1]), (0, 0))
        rows.append(np.pad(picture, missing, constant_values=255))
    return np.concatenate(rows)


def averages(
    groups: Mapping[str, Sequence[Path]], metric: str
) -> dict[str, tuple[float, float, int]]:
    """Return mean, standard error and number of runs of each group.

    The mean is that of `metric` over all records of a run; the standard error is over the runs.
    """
    averaged: dict[str, tuple[float, float, int]] = {}
    for name, folders in groups.items():
        runs = runs_with(folders, metric)
        means = [float(np.mean(list(run.values()))) for run in runs]
        if means:
            averaged[name] = (float(np.mean(means)), standard_error(means), len(means))
    return averaged


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


def write(path: Path, pixels: Any) -> None:
    """Write a picture (H, W, 3) of bytes to a file, in the format of its extension."""
    from PIL import Image

    Image.fromarray(pixels).save(path)
