"""Out-of-fold predictions: every sample, predicted by the run that was not trained on it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dltrain.errors import InputError, UsageError
from dltrain.report.sample_files import require_library, write_samples
from dltrain.report.text import counted_noun
from dltrain.runs.evaluate import RunScores, evaluate_run
from dltrain.runs.folder import RunFolder
from dltrain.runs.open import evaluation_mode, saved_configuration
from dltrain.runs.sample_scores import Row
from dltrain.types import AveragesViews, OrdersSamples

log = logging.getLogger("dltrain")
SPLIT = "val"
MAX_PROBABILITIES = 100  # columns of probabilities, one for each class; none for more classes
LABEL, PREDICTION = "label", "prediction"


def write_out_of_fold(
    runs: Sequence[RunFolder], out: Path, overrides: Sequence[str] = ()
) -> dict[str, float]:
    """Write the prediction of every sample by the run of the fold that held it out.

    The file (.csv, .jsonl or .parquet) has a row for each sample, in the order of the data: its
    file or line, the fold, the columns of `dltrain evaluate RUN --out FILE`, and the probability of
    each class. Predictions are those of each run's best checkpoint.

    Args:
        runs: The finished run of each fold, in any order.
        out: The file to write.
        overrides: Settings for all runs, such as plugins=[NAME].

    Returns:
        The number of `samples` and metrics over all rows: the mean `loss`, and `accuracy`, or of
        numbers `rmse`, `mae` and `r2`, with the name of the target if there are several.

    Raises:
        UsageError: The runs are not those of all folds, or the task has no scores of samples.
        InputError: A run's data or checkpoint cannot be read.
    """
    require_library(out)
    by_fold = runs_by_fold(runs, list(overrides))
    rows: dict[int, Row] = {}
    for fold, run in sorted(by_fold.items()):
        scores = evaluate_run(run, list(overrides), SPLIT, "best", "", per_sample=True)
        add_rows(rows, fold, scores)
    ordered = [rows[position] for position in sorted(rows)]
    if not in_order_of_time(by_fold[0], list(overrides)):
        require_all(rows, scores)
    written = write_samples(iter(ordered), out)
    log.info(f"{out}: {counted_noun(written, 'out-of-fold prediction')}")
    return {"samples": float(written), **metrics_of(ordered)}


# The runs


def dataset_settings(run: RunFolder, overrides: list[str]) -> dict[str, Any]:
    """Return the settings of the data set of a run."""
    dataset: dict[str, Any] = saved_configuration(run, overrides).config["dataset"]
    return dict(dataset)


def runs_by_fold(runs: Sequence[RunFolder], overrides: list[str]) -> dict[int, RunFolder]:
    """Return the run of each fold; UsageError unless there is one for each of the same folds."""
    by_fold: dict[int, RunFolder] = {}
    shared: dict[str, Any] = {}
    for run in runs:
        settings = dataset_settings(run, overrides)
        fold = settings.pop("fold", None)
        if settings.get("folds") is None or fold is None:
            raise UsageError(f"{run.folder} was not trained on a fold (dataset.folds is null)")
        if fold in by_fold:
            raise UsageError(f"{by_fold[fold].folder} and {run.folder} are both of fold {fold}")
        if shared and settings != shared:
            raise UsageError(
                f"{run.folder} and {runs[0].folder} have other data: {different(settings, shared)}"
            )
        by_fold[fold] = run
        shared = settings
    missing = sorted(set(range(shared.get("folds", 1))) - by_fold.keys())
    if missing:
        numbers = ", ".join(map(str, missing))
        raise UsageError(
            f"out-of-fold predictions need a run of every fold: no run has fold {numbers}"
        )
    return by_fold


def different(settings: dict[str, Any], others: dict[str, Any]) -> str:
    """Return the keys in which the settings of two data sets differ."""
    names = sorted(settings.keys() | others.keys())
    absent = object()
    return ", ".join(
        f"dataset.{name}"
        for name in names
        if settings.get(name, absent) != others.get(name, absent)
    )


def in_order_of_time(run: RunFolder, overrides: list[str]) -> bool:
    """Tell if the earliest samples are in no fold, because every fold is trained on them."""
    return dataset_settings(run, overrides).get("split") == "time"


# The rows


def add_rows(rows: dict[int, Row], fold: int, scores: RunScores) -> None:
    """Add the rows of a fold, by the position of each sample in the data set.

    Raises InputError if another fold held out one of the samples too.
    """
    scored = list(scores.sample_rows())
    positions: Iterable[int] = range(len(rows), len(rows) + len(scored))
    if isinstance(scores.data.val, OrdersSamples):
        positions = scores.data.val.order(0).tolist()
    probabilities = class_probabilities(scores, len(scored))
    for position, row, more in zip(positions, scored, probabilities, strict=True):
        if position in rows:
            raise InputError(
                f"{row['input']} was held out in the folds {rows[position]['fold']} and {fold}: "
                "the data has changed since a run was trained"
            )
        rows[position] = {"input": row.pop("input"), "fold": fold, **row, **more}


def class_probabilities(scores: RunScores, samples: int) -> list[Row]:
    """Return the probability of each class for each sample; empty rows for other tasks."""
    names = scores.data.spec.class_names
    columns = [f"probability_{name}" for name in names]
    rows: list[Row] = []
    # Tasks that can average over views predict probabilities.
    if 0 < len(names) <= MAX_PROBABILITIES and isinstance(scores.task, AveragesViews):
        for outputs in predictions(scores):
            rows += [dict(zip(columns, values, strict=True)) for values in outputs.tolist()]
    return rows or [{} for _ in range(samples)]


def predictions(scores: RunScores) -> Iterator[Tensor]:
    """Yield the predictions (B, K) for each batch."""
    engine = scores.engine
    with evaluation_mode(engine):
        for batch in map(engine.move, getattr(scores.data, SPLIT).epoch(0)):
            yield scores.task.predict(batch[0]).float()


def require_all(rows: Mapping[int, Row], scores: RunScores) -> None:
    """Raise InputError if no fold held out a sample that a fold was trained on."""
    train = scores.data.train
    trained: Iterable[int] = range(train.samples)
    if isinstance(train, OrdersSamples):
        trained = set(train.order(0).tolist())
    missing = sum(position not in rows for position in trained)
    if missing:
        raise InputError(
            f"{missing:,} training samples of {scores.run.folder} are held out by no fold: the "
            "data has changed since a run was trained"
        )


# Metrics over all rows


def metrics_of(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean loss, and accuracy or errors of numbers, over all rows."""
    weights = np.array([row.get("weight", 1.0) for row in rows])
    losses = np.array([row["loss"] for row in rows])
    metrics = {"loss": float((weights * losses).sum() / weights.sum())}
    first = rows[0]
    for name in first:
        suffix = name.removeprefix(LABEL)
        if not name.startswith(LABEL) or PREDICTION + suffix not in first:
            continue
        labels = [row[name] for row in rows]
        predictions = [row[PREDICTION + suffix] for row in rows]
        metrics |= figures(labels, predictions, suffix)
    return metrics


def figures(labels: list[Any], predictions: list[Any], suffix: str) -> dict[str, float]:
    """Return the accuracy of classes, or the errors of numbers; names end in `suffix`."""
    if not isinstance(labels[0], float):
        hits = sum(map(eq, labels, predictions))
        return {f"accuracy{suffix}": hits / len(labels)}
    truth = np.array(labels)
    errors = np.array(predictions) - truth
    mse = float(np.square(errors).mean())
    variance = float(truth.var())
    values = {"rmse": math.sqrt(mse), "mae": float(np.abs(errors).mean())}
    if variance > 0:
        values["r2"] = 1 - mse / variance
    return {f"{name}{suffix}": value for name, value in values.items()}
