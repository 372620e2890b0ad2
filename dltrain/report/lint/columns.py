"""Columns of a table that say nothing, that say too much, and that differ between splits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dltrain import rng
from dltrain.report.lint.findings import Example, Finding
from dltrain.report.lint.samples import SplitSamples

MAX_BINS = 64  # of the values of a column
MIN_ROWS = 50  # with which a column is judged
LEAK_ERROR = 0.02  # of the error without the column, up to which the column leaks the target
MIN_DISTANCE = 0.1  # Kolmogorov-Smirnov, from which two distributions differ
CHANCE = 1e-4  # of a distance as large, for two samples of one distribution


def constant_columns(train: SplitSamples, names: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding on columns with one value in all training rows."""
    if len(train) < 2:
        return
    values = train.features
    is_constant = (values == values[:1]).all(0)
    constant = [name for name, same in zip(names, is_constant.tolist(), strict=True) if same]
    if constant:
        columns = ", ".join(constant)
        message = (
            f"one value in all training rows of {columns}: leave it out (dataset.ignore), or "
            "find out why it does not change"
        )
        yield Finding("constant column", message, [Example(name) for name in constant])


def leaking_columns(train: SplitSamples, names: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding on columns that alone predict the target of rows that were not looked at.

    The values of half of the training rows are put into bins; each bin predicts the most frequent
    class, or the mean, of its rows. A column leaks if the error of the other half is at most
    `LEAK_ERROR` of that without the column.
    """
    if train.targets is None or len(train) < MIN_ROWS:
        return
    order = torch.randperm(len(train), generator=rng.keyed(0))
    halves = order.tensor_split(2)
    examples = []
    for column, name in enumerate(names):
        error = remaining_error(train.features[:, column], train.targets, *halves)
        if error <= LEAK_ERROR:
            examples.append(Example(name, detail=f"{1 - error:.1%} of the target explained"))
    if examples:
        columns = ", ".join(example.place for example in examples)
        message = (
            f"{columns} alone predicts the target nearly without error: if it is not known when "
            "predictions are made, leave it out (dataset.ignore)"
        )
        yield Finding("leaking column", message, examples)


def remaining_error(values: Tensor, targets: Tensor, learn: Tensor, judge: Tensor) -> float:
    """Return the error of predictions by one column (N,), divided by the error without it.

    The rows `learn` make the bins, and the rows `judge` are predicted. The error is the number of
    wrong classes, or the sum of squares.
    """
    bins = binned(values, values[learn])
    if targets.is_floating_point():
        return remaining_squares(bins, targets.double().flatten(1), learn, judge)
    return remaining_mistakes(bins, targets, learn, judge)


def binned(values: Tensor, known: Tensor) -> Tensor:
    """Return the bin of each value (N,): a bin for each value, or for quantiles of many values."""
    edges = known.unique()
    if len(edges) > MAX_BINS:
        steps = torch.linspace(0, 1, MAX_BINS + 1, dtype=torch.float64)[1:-1]
        edges = known.double().quantile(steps).to(known.dtype).unique()
    return torch.bucketize(values.contiguous(), edges)


def remaining_mistakes(bins: Tensor, classes: Tensor, learn: Tensor, judge: Tensor) -> float:
    """Return the number of wrong classes by bins, divided by that of the most frequent class."""
    num_classes = int(classes.max()) + 1
    counts = torch.zeros(int(bins.max()) + 1, num_classes)
    counts.index_put_((bins[learn], classes[learn]), torch.ones(len(learn)), accumulate=True)
    most_frequent = int(counts.sum(0).argmax())
    predicted = torch.where(counts.sum(1) > 0, counts.argmax(1), most_frequent)
    mistakes = int((predicted[bins[judge]] != classes[judge]).sum())
    without = int((classes[judge] != most_frequent).sum())
    return mistakes / without if without else math.inf


def remaining_squares(bins: Tensor, numbers: Tensor, learn: Tensor, judge: Tensor) -> float:
    """Return the squared error of numbers (N, T) by bins, divided by that of the mean.

    It is the smallest over the targets.
    """
    mean = numbers[learn].mean(0)
    sums = torch.zeros(int(bins.max()) + 1, numbers.shape[1], dtype=torch.float64)
    counts = torch.zeros(len(sums), 1, dtype=torch.float64)
    sums.index_add_(0, bins[learn], numbers[learn])
    counts.index_add_(0, bins[learn], torch.ones(len(learn), 1, dtype=torch.float64))
    predicted = torch.where(counts > 0, sums / counts.clamp_min(1), mean)
    errors = (numbers[judge] - predicted[bins[judge]]).square().sum(0)
    without = (numbers[judge] - mean).square().sum(0)
    return float(torch.where(without > 0, errors / without, math.inf).min())


def drift(train: SplitSamples, other: SplitSamples, names: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding on numbers of the inputs that are distributed otherwise in another split."""
    if len(train) < MIN_ROWS or len(other) < MIN_ROWS:
        return
    limit = max(MIN_DISTANCE, chance_distance(len(train), len(other), len(names)))
    examples = []
    for column, name in enumerate(names):
        distance = ks_distance(train.features[:, column], other.features[:, column])
        if distance > limit:
            detail = f"Kolmogorov-Smirnov distance {distance:.2f}"
            examples.append(Example(name, detail=detail))
    if examples:
        columns = ", ".join(example.place for example in examples)
        message = (
            f"{columns}: other values in {other.part} than in train, so scores there are of "
            "other data than the one that is learned"
        )
        yield Finding(f"drift in {other.part}", message, examples)


def ks_distance(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of the distribution functions of two samples (N,), (M,)."""
    values = torch.cat([one, other]).sort().values
    first = torch.searchsorted(one.sort().values, values, right=True) / len(one)
    second = torch.searchsorted(other.sort().values, values, right=True) / len(other)
    return float((first - second).abs().max())


def chance_distance(one: int, other: int, tests: int) -> float:
    """Return the distance that samples of so many rows exceed with the probability CHANCE.

    That is for any of so many `tests` (Smirnov 1948, the two-sample bound).
    """
    return math.sqrt(-math.log(CHANCE / (2 * max(1, tests))) / 2 * (one + other) / (one * other))
