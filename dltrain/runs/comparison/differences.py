"""The differences between runs: values of a key by run, and metrics with the better run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dltrain.runs.comparison.compared import ComparedRun
from dltrain.runs.identity import defining
from dltrain.runs.listing.conditions import is_number
from dltrain.runs.listing.values import direction_of
from dltrain.types import flatten

ABSENT = "absent"  # in place of the value of a key that a run does not have
ALL_METRICS = "*"  # in place of the names of metrics
TARGET = "._target_"
HASH_CHARS = 12  # of a commit or fingerprint that are shown
NOT_FACTS = (  # keys of a manifest that stand elsewhere, or belong to one run only
    *("command", "overrides", "config", "choices", "settings", "data", "resumed", "watch"),
    *("directions", "key", "seed", "created", "parent", "tensorboard"),
)
UNSHOWN_GROUPS = ("callbacks",)
FIGURES = ("epochs", "steps", "seconds", "samples_per_second")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """A key with the value of each run, in the order of the runs."""

    key: str
    values: Sequence[Any]


@dataclass(frozen=True)
class MetricDifference:
    """A metric with the value of each run; `best` is the index of the best one, if one is.

    The values of a metric that is not `comparable` are only shown.
    """

    key: str
    values: Sequence[float | None]
    best: int | None = None
    comparable: bool = True

    @property
    def change(self) -> float | None:
        """The second value minus the first, of two comparable ones."""
        if len(self.values) != 2 or not self.comparable:
            return None
        first, second = self.values
        return None if first is None or second is None else second - first


def different(mappings: Sequence[Values]) -> list[Difference]:
    """Return the keys whose values are not the same in all mappings."""
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    rows = [Difference(key, [one.get(key, ABSENT) for one in mappings]) for key in keys]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def configuration_differences(runs: Sequence[ComparedRun]) -> list[Difference]:
    """Return the options and settings that differ; the target of a different option is left out."""
    options = different([chosen_options(run) for run in runs])
    groups = {row.key for row in options}
    settings = different([defining(run.manifest["config"]) for run in runs])
    shown = [row for row in settings if row.key.removesuffix(TARGET) not in groups]
    return [*options, *sorted(shown, key=lambda row: row.key)]


def chosen_options(run: ComparedRun) -> dict[str, Any]:
    """Return the options that a run was given, without those that change no result."""
    choices = run.summary.choices
    return {group: option for group, option in choices.items() if group not in UNSHOWN_GROUPS}


def fact_differences(runs: Sequence[ComparedRun]) -> list[Difference]:
    """Return what else differs in the manifests: commit, versions, machine, data, parameters."""
    return different([facts_of(run.manifest) for run in runs])


def facts_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a manifest by dotted key; long hashes are cut."""
    facts = flatten({key: value for key, value in manifest.items() if key not in NOT_FACTS})
    for key in ("git.commit", "dataset_fingerprint"):
        if isinstance(facts.get(key), str):
            facts[key] = facts[key][:HASH_CHARS]
    return facts


def figure_rows(
    runs: Sequence[ComparedRun], networks: Sequence[Difference] = ()
) -> list[Difference]:
    """Return the size and the cost of each run, whether they differ or not.

    `networks` are the rows that are measured; without them parameters are those before training.
    """
    rows = [Difference("parameters", [run.summary.effective.get("parameters") for run in runs])]
    if networks:
        rows = list(networks)
    for key in FIGURES:
        rows.append(Difference(key, [vars(run.summary)[key] for run in runs]))
    return [row for row in rows if set(row.values) != {None}]


def metric_differences(
    runs: Sequence[ComparedRun], incomparable: Sequence[str]
) -> list[MetricDifference]:
    """Return each metric that at least two runs have: test, best of validation, then final ones.

    No run is better in a metric of `incomparable`, which are names without split; "*" means all.
    """
    shared = [row for row in metric_rows(runs) if row.values.count(None) <= len(runs) - 2]
    return [without_verdict(row) if is_one_of(row.key, incomparable) else row for row in shared]


def metric_rows(runs: Sequence[ComparedRun]) -> list[MetricDifference]:
    """Return each metric that a run has, in the order of `rank`."""
    values = [metrics_of(run) for run in runs]
    keys = dict.fromkeys(key for one in values for key in one)
    ordered = sorted(keys, key=rank)
    return [metric_row(runs, key, [one.get(key) for one in values]) for key in ordered]


def metric_row(
    runs: Sequence[ComparedRun], key: str, values: Sequence[float | None]
) -> MetricDifference:
    """Return a metric with its values and the index of the best one.

    No value is the best without a direction, or if two are equally good.
    """
    direction = direction_of(key.removeprefix("best "), [run.summary for run in runs])
    known = [value for value in values if value is not None]
    best = extreme(known, direction)
    is_single = best is not None and known.count(best) == 1
    return MetricDifference(key, values, values.index(best) if is_single else None)


def extreme(values: Sequence[float], direction: str) -> float | None:
    """Return the highest value for max, the lowest for min; None without a direction."""
    if not direction:
        return None
    return max(values) if direction == "max" else min(values)


def is_one_of(key: str, names: Sequence[str]) -> bool:
    """Tell if a metric is among names without split, where "*" means all."""
    return ALL_METRICS in names or key.partition("/")[2] in names


def without_verdict(row: MetricDifference) -> MetricDifference:
    """Return a row whose values are shown and not compared."""
    return MetricDifference(row.key, row.values, comparable=False)


def metrics_of(run: ComparedRun) -> dict[str, float]:
    """Return the metrics of a run by name; the best of the watched one is `best val/...`."""
    metrics = dict(run.summary.metrics)
    best = run.summary.best
    if is_number(best.get("value")):
        metrics[f"best {best.get('metric')}"] = best["value"]
    return metrics


def rank(key: str) -> int:
    """Return the place of a metric: test, best, validation, training."""
    beginnings = ("test/", "best ", "val/", "")
    return [key.startswith(beginning) for beginning in beginnings].index(True)


def only_in_one(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Return the metrics that a single run has, by the label of the run."""
    values = {run.label: metrics_of(run) for run in runs}
    every = [key for metrics in values.values() for key in metrics]
    single = {key for key in every if every.count(key) == 1}
    found = {label: sorted(single & metrics.keys()) for label, metrics in values.items()}
    return {label: keys for label, keys in found.items() if keys}
