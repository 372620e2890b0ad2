"""The value of a key for a run: a field, a metric, a choice or a setting of its configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError
from dltrain.runs.listing.summary import RunSummary
from dltrain.types import flatten

ABSENT = None  # the value of a key that a run does not have
DATE_CHARS = 16  # of 2026-11-29T15:05:30+0000
MAX_SUGGESTED = 3
HEADERS = {"seconds": "time", "samples_per_second": "samples/s"}  # of columns that are not keys
FIELDS: dict[str, Callable[[RunSummary], Any]] = {
    "run": lambda run: short_name(run.path),
    "folder": lambda run: run.path,
    "date": lambda run: date_of(run),
    "status": lambda run: run.status,
    "problem": lambda run: run.problem or ABSENT,
    "name": lambda run: run.name or ABSENT,
    "debug": lambda run: run.debug or ABSENT,
    "seed": lambda run: run.seed,
    "epochs": lambda run: run.epochs,
    "steps": lambda run: run.steps,
    "seconds": lambda run: run.seconds,
    "samples_per_second": lambda run: run.samples_per_second,
    "best": lambda run: run.best.get("value"),
    "best/metric": lambda run: run.best.get("metric"),
    "best/epoch": lambda run: run.best.get("epoch"),
}


def value_of(run: RunSummary, key: str) -> Any:
    """Return the value of a key for a run; ABSENT if it has none.

    The key is one of FIELDS, a metric (test/accuracy), a group (model), a fact of the run such as
    `parameters`, or a dotted key of the configuration (optimizer.lr).
    """
    if key in FIELDS:
        return FIELDS[key](run)
    if "/" in key:
        return run.metrics.get(key, ABSENT)
    for values in (run.choices, run.settings, run.effective):
        if key in values and not isinstance(values[key], dict):
            return values[key]
    if f'"{key.rpartition(".")[2]}": ' not in run.config_text:  # parsing all takes its time
        return ABSENT
    return configured(run.config, key)


def configured(config: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted key; a key of the data set may be one of its source."""
    for path in (key, key.replace("dataset.", "dataset.source.", 1)):
        node: Any = config
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None and not isinstance(node, dict):
            return node
    return ABSENT


def require_known(key: str, runs: Sequence[RunSummary]) -> None:
    """Raise UsageError if no run has the key, with similar keys."""
    has_value = (value_of(run, key) is not ABSENT for run in runs)
    if not runs or any(has_value):
        return
    known = known_keys(runs)
    if key not in known:  # else it is null everywhere
        hint = " or ".join(similar_keys(key, known))
        raise UsageError(f"no run has the key {key}; did you mean {hint or 'another'}?")


def similar_keys(key: str, known: set[str]) -> list[str]:
    """Return the keys that end with `key`; if there are none, those with a similar last part.

    The header of a column means the key of the column.
    """
    headed = [name for name, header in HEADERS.items() if header == key]
    if headed or key.startswith("best "):
        return headed or ["best"]
    ending = sorted(name for name in known if name.endswith((f".{key}", f"/{key}")))
    if ending:
        return ending[:MAX_SUGGESTED]
    last_parts = {name.rpartition(".")[2]: name for name in known}
    by_name = {name: name for name in known} | last_parts
    close = [by_name[name] for name in close_matches(key, by_name)]
    return list(dict.fromkeys(close))[:MAX_SUGGESTED]


def known_keys(runs: Sequence[RunSummary]) -> set[str]:
    """Return every key that the first run has, and the metrics and the settings of all."""
    first = runs[0]
    metrics = {name for run in runs for name in run.metrics}
    settings = {name for run in runs for name in run.settings}
    keys = {*FIELDS, *metrics, *settings, *first.choices, *first.effective}
    return {key for key in keys | flatten(first.config).keys() if not key.endswith("_")}


def short_name(path: str) -> str:
    """Return the part of a run's path that commands accept as its name.

    It is the time in the folder's name; for a job of a sweep the sweep's folder and its number.
    """
    _, _, name = path.partition("/")
    if "/" in name:
        return name
    time = name.partition("_")[0]
    return time if len(time.split("-")) == 4 else name


def date_of(run: RunSummary) -> str:
    """Return when a run was started, as 2026-11-29 15:05; the folder's date if it does not say."""
    if run.created:
        return run.created[:DATE_CHARS].replace("T", " ")
    return run.path.partition("/")[0]


def direction_of(metric: str, runs: Sequence[RunSummary]) -> str:
    """Return the direction of a metric, max or min, from the runs that declare it; "" if none."""
    return next((run.direction(metric) for run in runs if run.direction(metric)), "")
