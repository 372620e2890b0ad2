"""The files that a run's folder begins with, and the label in the folder's name."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import metadata
from typing import Any

import torch
import yaml

from dltrain import __version__
from dltrain.config.compose import Composed
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.finished_runs import run_settings
from dltrain.experiment.weight_source import runs_of_weights
from dltrain.machine import environment, machine
from dltrain.options import Options
from dltrain.runs.description import split_large_values
from dltrain.runs.folder import CONFIG, MANIFEST, as_json
from dltrain.runs.initial_runs import KEY as INITIAL_RUNS
from dltrain.weights.freezing import trainable_count

GIT_TIMEOUT_SECONDS = 5


def initial_files(
    experiment: Experiment, composed: Composed, options: Options, **more: Any
) -> dict[str, bytes]:
    """Return the content of a new run's files by name; `more` are further keys of its manifest."""
    description, files = split_large_values(experiment.data.description())
    about = {**manifest(experiment, composed, options), "data": description, **more}
    return {CONFIG: as_yaml(composed.public), MANIFEST: as_json(about), **files}


def as_yaml(config: dict[str, Any]) -> bytes:
    """Return a configuration as the content of a YAML file."""
    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text.encode()


def manifest(experiment: Experiment, composed: Composed, options: Options) -> dict[str, Any]:
    """Return what is needed to repeat a run and to trust its figures."""
    data = experiment.data
    task = experiment.task
    return {
        "command": options.command,
        "overrides": options.overrides,
        "choices": {group: option for group, option in composed.choices.items() if option},
        "config": composed.public,
        "watch": {"metric": task.watch, "mode": experiment.optim_factory.direction},
        "directions": dict(task.directions()),
        "seed": experiment.config["seed"],
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git_state(),
        "versions": versions(),
        "machine": machine(),
        "environment": environment(),
        **experiment.device.summary(),
        "dataset_fingerprint": data.fingerprint(),
        **initial_weights(experiment),
        "effective": {
            "batch_size": data.train.batch_size,
            "train_samples": data.train.samples,
            "val_samples": data.val.samples,
            "test_samples": data.test.samples,
            "steps_per_epoch": len(data.train),
            "parameters": trainable_count(experiment.task),
        },
    }


def initial_weights(experiment: Experiment) -> dict[str, Any]:
    """Return the runs whose weights or networks a run uses, by key, and a hash of its weights."""
    config = experiment.config
    runs: dict[str, Any] = {key: str(path) for key, path in runs_of_weights(config).items()}
    if config["debug"] != "smoke":
        runs |= {key: list(map(str, folders)) for key, folders in run_settings(config).items()}
    entries: dict[str, Any] = {}
    if runs:
        entries[INITIAL_RUNS] = runs
    if experiment.initial_weights is not None:
        entries["initial_weights"] = experiment.initial_weights.digest()
    return entries


def versions() -> dict[str, str]:
    """Return the versions of Python and the libraries that a run's numbers depend on."""
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "dltrain": __version__,
        "hydra-core": metadata.version("hydra-core"),
        "numpy": metadata.version("numpy"),
    }


def git_state() -> dict[str, Any]:
    """Return the commit of the working folder and whether it has changes; empty without git."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}


def _git(*words: str) -> str | None:
    """Return the output of a git command, or None if it fails."""
    try:
        done = subprocess.run(
            ["git", *words],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def label(composed: Composed) -> str:
    """Return the label in a run folder's name: name, experiment, model, data set, debug mode.

    With an experiment, model and data set are named only if they were typed as a class
    (`model={_target_: mine.Net}`).
    """
    experiment = composed.choices.get("experiment")
    parts = [composed.config["name"], experiment]
    for group in ("model", "dataset"):
        choice = None if experiment else composed.choices[group]
        parts.append(class_typed_for(composed, group) or choice)
    parts.append(composed.config["debug"])
    return "_".join(str(part) for part in parts if part is not None)


def class_typed_for(composed: Composed, group: str) -> str | None:
    """Return the name of the class that was typed for a group or its `source`, or None."""
    node = composed.config[group]
    for key, owner in ((group, node), (f"{group}.source", node.get("source"))):
        typed = composed.typed.get(key, "")
        is_class = "_target_" in typed or f"{key}._target_" in composed.typed
        if is_class and isinstance(owner, dict):
            return str(owner["_target_"]).rpartition(".")[2]
    return None
