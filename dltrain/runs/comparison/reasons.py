"""Reasons why metrics of runs cannot be compared: other tasks, losses, data or splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dltrain.runs.comparison.compared import ComparedRun
from dltrain.runs.comparison.differences import ALL_METRICS, different
from dltrain.runs.identity import SPLIT_KEY
from dltrain.runs.listing.summary import FINISHED
from dltrain.types import flatten

SAMPLES = {"validation": "val_samples", "test": "test_samples"}
Reason = tuple[str, list[str]]  # a message, and the metrics that it makes incomparable


def reasons(runs: Sequence[ComparedRun]) -> list[Reason]:
    """Return why metrics cannot be compared, each with the names of those metrics."""
    parts = (other_tasks, other_losses, other_data, other_splits, debug_runs, unfinished)
    return [reason for part in parts for reason in part(runs)]


def values_of(runs: Sequence[ComparedRun], value: Callable[[ComparedRun], Any]) -> str | None:
    """Return the values that differ as text, such as "A: mnist, B: digits"; None if none do."""
    values = [value(run) for run in runs]
    if all(one == values[0] for one in values):
        return None
    by_value: dict[str, list[str]] = {}
    for run, one in zip(runs, values, strict=True):
        by_value.setdefault(str(one), []).append(run.label)
    return "; ".join(f"{', '.join(labels)}: {text}" for text, labels in by_value.items())


def target_of(run: ComparedRun, group: str) -> str:
    """Return the name of the class that a group's node builds."""
    node = run.manifest["config"].get(group)
    target = node.get("_target_") if isinstance(node, dict) else None
    return str(target).rpartition(".")[2]


def other_tasks(runs: Sequence[ComparedRun]) -> list[Reason]:
    """Return a reason if the runs learn different tasks."""
    names = values_of(runs, lambda run: target_of(run, "task"))
    if names is None:
        return []
    message = f"the tasks differ ({names}): their metrics cannot be compared, only shown"
    return [(message, [ALL_METRICS])]


def other_losses(runs: Sequence[ComparedRun]) -> list[Reason]:
    """Return a reason if the losses differ, or their settings."""
    names = values_of(runs, lambda run: target_of(run, "loss"))
    settings = different([flatten({"loss": run.manifest["config"].get("loss")}) for run in runs])
    if not settings:
        return []
    names = names or ", ".join(row.key for row in settings)
    return [(f"the losses differ ({names}): values of the loss cannot be compared", ["loss"])]


def other_data(runs: Sequence[ComparedRun]) -> list[Reason]:
    """Return a reason if the runs were trained on different data."""
    names = values_of(runs, lambda run: run.summary.choices.get("dataset"))
    prints = values_of(runs, lambda run: run.manifest.get("dataset_fingerprint"))
    if prints is None:
        return []
    what = f"the data sets differ ({names})"
    if names is None:
        what = "the data differ (another fingerprint of the same data set)"
    return [(f"{what}: the metrics are of different samples", [ALL_METRICS])]


def other_splits(runs: Sequence[ComparedRun]) -> list[Reason]:
    """Return a reason if the same data was split in another way."""
    what = ", ".join([*split_settings(runs), *split_sizes(runs)])
    if not what or other_data(runs):
        return []
    message = f"the splits differ ({what}): the metrics are of different samples"
    return [(message, [ALL_METRICS])]


def split_settings(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the keys of the data set that divide it, if their values differ."""
    settings = different([flatten({"dataset": dataset_of(run)}) for run in runs])
    return [row.key for row in settings if SPLIT_KEY.fullmatch(row.key)]


def split_sizes(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the splits that have other numbers of samples, with these numbers."""
    sizes = different([sample_counts(run) for run in runs])
    texts = [", ".join(map(str, row.values)) for row in sizes]
    return [f"{row.key} samples: {text}" for row, text in zip(sizes, texts, strict=True)]


def sample_counts(run: ComparedRun) -> dict[str, Any]:
    """Return the number of samples in each split that is scored."""
    return {split: run.summary.effective.get(key) for split, key in SAMPLES.items()}


def dataset_of(run: ComparedRun) -> Any:
    """Return the configuration of a run's data set."""
    return run.manifest["config"].get("dataset")


def debug_runs(runs: Sequence[ComparedRun]) -> list[Reason]:
    """Return a reason if a run only tried whether training works."""
    labels = [f"{run.label} (debug={run.summary.debug})" for run in runs if run.summary.debug]
    if not labels:
        return []
    return [(f"the figures mean nothing for {', '.join(labels)}", [])]


def unfinished(runs: Sequence[ComparedRun]) -> list[Reason]:
    """Return a line for the runs that have not been tested; their figures are those so far."""
    open_runs = [run for run in runs if run.summary.status not in FINISHED]
    labels = [f"{run.label} ({run.summary.status})" for run in open_runs]
    if not labels:
        return []
    return [(f"not finished: {', '.join(labels)}; the figures are those so far", [])]
