"""The summary of a run: the figures and settings by which runs are listed, sorted and selected.

It is read from the files of a run's folder, which may be damaged or still be written.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.errors import InputError
from dltrain.files import to_json
from dltrain.runs.folder import FINISHED, MANIFEST, METRICS, RESULTS, RunFolder
from dltrain.runs.identity import data_identity, identity, requested_config
from dltrain.runs.listing.folders import FoundFolder

DAMAGED = "damaged"
RUNNING = "running"
INTERRUPTED = "interrupted"
STATUSES = (RUNNING, *FINISHED, INTERRUPTED, "pruned", "diverged", "failed", DAMAGED)
NAMED_GROUPS = ("model", "dataset", "experiment")  # have columns of their own
OPTION = re.compile(r"[A-Za-z]\w*=\w+")  # an override that chooses an option of a group
ROOT_KEYS = ("seed", "name", "debug", "freeze", "unfreeze_epoch", "lr_factors")  # are no groups
TARGET_GROUPS = ("model", "dataset", "optimizer", "schedule", "initialization", "task")

Values = dict[str, Any]


@dataclass
class RunSummary:
    """One run as it is listed.

    `path` is its folder below the output root. `settings` are the choices and values that it was
    given; `choices` are those of all groups. `directions` are those of its metrics by name without
    split. `identity` is a hash of the configuration without the seed, `key` that of resume=auto.
    `data` is a hash of the data, the split and the task; runs that are compared have the same.
    `sources` are the runs that it refers to. `config_text` is the whole configuration as JSON.
    """

    path: str
    status: str = DAMAGED
    problem: str = ""
    created: str = ""
    name: str = ""
    debug: str = ""
    seed: int | None = None
    key: str = ""
    identity: str = ""
    data: str = ""
    choices: Values = field(default_factory=dict)
    settings: Values = field(default_factory=dict)
    effective: Values = field(default_factory=dict)
    directions: Values = field(default_factory=dict)
    watch: str = ""
    mode: str = ""
    best: Values = field(default_factory=dict)
    metrics: Values = field(default_factory=dict)
    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    samples_per_second: float | None = None
    sources: list[str] = field(default_factory=list)
    config_text: str = "{}"

    @property
    def config(self) -> Values:
        """The configuration as nested mappings."""
        config: Values = json.loads(self.config_text)
        return config

    @property
    def is_finished(self) -> bool:
        """True if the run was trained and tested."""
        return self.status in FINISHED

    def direction(self, metric: str) -> str:
        """Return max or min for a metric such as test/accuracy, "" if the run does not say."""
        if metric == self.watch and self.mode:
            return self.mode
        return as_text(self.directions.get(metric.partition("/")[2]))


def summarize(root: Path, found: FoundFolder) -> RunSummary:
    """Return the summary of a run; files that are damaged make its status `damaged`."""
    run = RunFolder(root / found.path)
    summary = RunSummary(found.path)
    problems = list(added_files(summary, run))
    has_results = os.path.lexists(run.folder / RESULTS)
    if found.is_running or not has_results:
        add_progress(summary, last_records(run.folder))
    if not has_results:
        summary.status = INTERRUPTED
    elif not problems and summary.status == DAMAGED:
        problems.append(f"{run.folder / RESULTS} has no status")
    if problems:
        summary.status = DAMAGED
        summary.problem = "; ".join(problems)
    return summary


def added_files(summary: RunSummary, run: RunFolder) -> Iterator[str]:
    """Add what manifest and results say; yield what is wrong with them."""
    for name, add in ((MANIFEST, add_manifest), (RESULTS, add_results)):
        try:
            add(summary, run.read_json(name))
        except InputError as e:
            yield str(e)
    if summary.config_text == "{}":
        yield f"{run.folder / MANIFEST} is absent or has no configuration"


def add_manifest(summary: RunSummary, manifest: Values) -> None:
    """Add the settings of a run from its manifest, which may be one of version 0.1."""
    config = as_mapping(manifest.get("config"))
    summary.config_text = to_json(config, default=str)
    summary.created = as_text(manifest.get("created"))
    summary.name = as_text(config.get("name"))
    summary.debug = as_text(config.get("debug"))
    summary.seed = as_count(config.get("seed"))
    summary.key = as_text(manifest.get("key"))
    summary.identity = identity(requested_config(manifest), without=("seed",))
    summary.data = data_identity(manifest)
    summary.choices = choices_of(manifest)
    summary.settings = as_mapping(manifest.get("settings"))
    summary.effective = as_mapping(manifest.get("effective"))
    summary.directions = as_mapping(manifest.get("directions"))
    watched = as_mapping(manifest.get("watch"))
    summary.watch = as_text(watched.get("metric"))
    summary.mode = as_text(watched.get("mode"))
    summary.sources = sources_of(manifest)


def add_results(summary: RunSummary, results: Values) -> None:
    """Add the figures of a run that ended."""
    summary.status = as_text(results.get("status")) or DAMAGED
    summary.metrics = figures(results.get("metrics"))
    summary.best = as_mapping(results.get("best"))
    summary.best.pop("metrics", None)
    summary.watch = summary.watch or as_text(summary.best.get("metric"))
    summary.epochs = as_count(results.get("epochs"))
    summary.steps = as_count(results.get("steps"))
    summary.seconds = as_figure(results.get("seconds"))
    summary.samples_per_second = as_figure(results.get("samples_per_second"))


def add_progress(summary: RunSummary, records: list[Values]) -> None:
    """Add the figures of a run that has not ended, from the lines of metrics.jsonl."""
    for record in records:
        summary.metrics |= {name: v for name, v in figures(record).items() if "/" in name}
        summary.epochs = as_count(record.get("epoch"))
        summary.steps = as_count(record.get("step"))
        add_best(summary, as_figure(record.get(summary.watch)))


def add_best(summary: RunSummary, value: float | None) -> None:
    """Note the value of the watched metric if it is the best so far."""
    if value is None or not is_better(value, summary.best.get("value"), summary.mode):
        return
    where = {"epoch": summary.epochs, "step": summary.steps}
    summary.best = {"metric": summary.watch, "value": value, **where}


def is_better(value: float, best: float | None, mode: str) -> bool:
    """Tell if a value is better than the best so far; never without a mode."""
    if mode not in ("max", "min"):
        return False
    if best is None:
        return True
    return value > best if mode == "max" else value < best


def last_records(folder: Path) -> list[Values]:
    """Return the records of metrics.jsonl; a line that is damaged or unfinished is left out."""
    records = []
    try:
        lines = (folder / METRICS).read_bytes().split(b"\n")
    except OSError:
        return []
    for line in lines:
        try:
            records.append(as_mapping(json.loads(line)))
        except (ValueError, RecursionError):
            continue
    return records


def choices_of(manifest: Values) -> Values:
    """Return the option of each group.

    A manifest of an earlier version has those that were typed; for others the module of the
    group's target stands, which mostly has the option's name.
    """
    settings = as_mapping(manifest.get("settings"))
    chosen = {key: v for key, v in settings.items() if "." not in key and key not in ROOT_KEYS}
    choices = [modules_of(manifest), typed_options(manifest), as_mapping(manifest.get("choices"))]
    merged = {**choices[0], **choices[1], **choices[2], **chosen}
    return {key: value for key, value in merged.items() if value is not None}


def typed_options(manifest: Values) -> Values:
    """Return the options among the overrides of a run's command."""
    words = [as_text(word).partition("=") for word in as_list(manifest.get("overrides"))]
    return {group: option for group, _, option in words if OPTION.fullmatch(f"{group}={option}")}


def modules_of(manifest: Values) -> Values:
    """Return the module of the target of each of `TARGET_GROUPS`."""
    config = as_mapping(manifest.get("config"))
    modules = {group: module_of(config.get(group)) for group in TARGET_GROUPS}
    return {group: module for group, module in modules.items() if module}


def module_of(node: Any) -> str:
    """Return the last part of the module that a node's target, or that of its source, lies in."""
    settings = as_mapping(node)
    source = as_mapping(settings.get("source"))
    target = as_text((source or settings).get("_target_"))
    return target.rpartition(".")[0].rpartition(".")[2]


def sources_of(manifest: Values) -> list[str]:
    """Return the runs that a run began from, or repeats, as its manifest names them."""
    config = as_mapping(manifest.get("config"))
    names = (
        as_mapping(config.get("init")).get("from"),
        as_mapping(manifest.get("parent")).get("run"),
        as_mapping(manifest.get("reproduces")).get("run"),
        manifest.get("reproduces"),
    )
    return [name for name in names if isinstance(name, str)]


def as_mapping(value: Any) -> Values:
    """Return a mapping with text as keys; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list; an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """Return a text or a number as text; "" in place of anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def as_figure(value: Any) -> float | None:
    """Return a finite number; None in place of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def as_count(value: Any) -> int | None:
    """Return a whole number; None in place of anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value


def figures(values: Any) -> Values:
    """Return the finite numbers of a mapping."""
    mapping: Mapping[str, Any] = as_mapping(values)
    return {name: value for name, value in mapping.items() if as_figure(value) is not None}
