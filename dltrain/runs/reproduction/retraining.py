"""Trains a run again, part by part as it was trained, in a new folder beside it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dltrain.callbacks.stop_at import StopAt
from dltrain.config import check
from dltrain.config.compose import Composed, compose_over
from dltrain.config.renamed import with_current_names
from dltrain.errors import DivergedError, InputError, Interrupted
from dltrain.experiment.batch_norm import require_batches_for_norm
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import execute, open_session
from dltrain.options import Options
from dltrain.runs.continuation import continue_run
from dltrain.runs.folder import FINISHED, MANIFEST, RESULTS, RunFolder
from dltrain.runs.initial_files import initial_files, manifest
from dltrain.runs.initial_runs import KEY, existing_runs, set_key
from dltrain.runs.log_file import buffered_records
from dltrain.runs.reproduction.conditions import Conditions, compared_conditions
from dltrain.runs.reproduction.history import TrainingPart, history, overrides_between
from dltrain.runs.reproduction.records import read_records

log = logging.getLogger("dltrain")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
MANIFEST_KEY = "reproduces"


class Retraining:
    """A run that will be trained again: its parts, and the experiment of the first one.

    `overrides` say where the data and the output are now, and which device to use. Creating a
    retraining reads the data.

    Raises:
        InputError: The data or the initial weights are absent, or the run cannot be trained again.
        ConfigError: An override is wrong, or a plugin is not named.
    """

    def __init__(self, run: RunFolder, overrides: Sequence[str], options: Options) -> None:
        self.run = run
        self.options = options
        self.plugins = [word for word in overrides if word.startswith("plugins=")]
        self.then = run.read_json(MANIFEST)
        self.results = run.read_json(RESULTS)
        self.parts = history(run)
        self.records = read_records(run)
        self.composed = configuration(self.parts[0], overrides)
        config = runtime_configuration(self.composed, self.then)
        require_no_time_limit(run, self.parts)
        with buffered_records() as self.logged:
            self.experiment = Experiment.to_train(config).build()
            _ = self.experiment.data.train.samples  # reads the data set
            require_batches_for_norm(self.experiment)

    def conditions(self) -> Conditions:
        """Return the conditions that are not those of the run."""
        now = manifest(self.experiment, self.composed, self.options)
        return compared_conditions(self.then, now)

    def train(self) -> RunFolder:
        """Train the run again and return its new folder."""
        entries: dict[str, Any] = {MANIFEST_KEY: str(self.run.folder)}
        if "settings" in self.then:
            entries["settings"] = self.then["settings"]
        files = initial_files(self.experiment, self.composed, self.options, **entries)
        with RunFolder.create(self._root(), self._label(), files).locked() as new:
            stop = self._stop(0)
            session = open_session(
                self.experiment, new, self.options.command, self.composed.public, stop
            )
            with self._tolerated(stop):
                execute(session, self.options.outcome, earlier=self.logged)
            for number in range(1, len(self.parts)):
                self._continue(new, number)
        return new

    def _continue(self, new: RunFolder, number: int) -> None:
        """Train the next part, as `resume` does."""
        overrides = overrides_between(self.parts[number - 1], self.parts[number])
        overrides += self.plugins  # a saved configuration names none
        stop = self._stop(number)
        with self._tolerated(stop):
            continue_run(new, overrides, self.options, stop)

    def _stop(self, number: int) -> list[StopAt]:
        """Return what stops a part where the run stopped then; nothing if it ends by itself."""
        part = self.parts[number]
        is_limited = part.config["trainer"].get("max_seconds") is not None
        if part.end is not None:
            end, finished = part.end, part.finished
        else:
            finished = self.results.get("status") in FINISHED
            end = self.results.get("steps", 0) if finished else self.records[-1]["step"] + 1
        if finished and not is_limited:
            return []
        return [StopAt(end, interrupts=not finished)]

    def _tolerated(self, stop: Sequence[StopAt]) -> suppress:
        """Return the context of a part that ends as it ended then."""
        expected: list[type[Exception]] = []
        if self.results.get("status") == "diverged":
            expected.append(DivergedError)
        return StoppedThere(stop, *expected)

    def _root(self) -> Path:
        """Return the output folder: the one that was typed, else the one that the run lies in."""
        if "paths.output" in self.composed.typed:
            return Path(self.composed.config["paths"]["output"])
        for folder in self.run.folder.parents[:2]:
            if DATE.fullmatch(folder.name):
                return folder.parent
        return self.run.folder.absolute().parent

    def _label(self) -> str:
        """Return the label of the new folder's name."""
        name = self.run.folder.name.partition("_")[2] or f"job-{self.run.folder.name}"
        return f"{name}_reproduction"


class StoppedThere(suppress):
    """Suppresses the interruption that a `StopAt` raised, and `expected` errors."""

    def __init__(self, stop: Sequence[StopAt], *expected: type[Exception]) -> None:
        super().__init__(*expected)
        self.stop = stop

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, Interrupted) and any(one.has_stopped for one in self.stop):
            return True
        return bool(super().__exit__(kind, error, trace))


def configuration(part: TrainingPart, overrides: Sequence[str]) -> Composed:
    """Return the checked configuration of a part, with overrides of folders and the device."""
    saved = {**with_current_names(part.config), "plugins": []}
    composed = compose_over(saved, list(overrides))
    check.raise_all(composed)
    return composed


def runtime_configuration(composed: Composed, then: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration to train with, which ends and rounds where the run did.

    Not the time but the number of steps ends it, and the number of threads is that of the run: sums
    depend on it. Weights come from the run that `last` meant then.
    """
    config = dict(composed.config)
    config["trainer"] = {**config["trainer"], "max_seconds": None}
    threads = then.get("threads")
    if config["device"].get("threads") == "auto" and isinstance(threads, int):
        config["device"] = {**config["device"], "threads": threads}
    for key, folder in then.get(KEY, {}).items():
        if key not in composed.typed:
            set_key(config, key.split("."), existing_runs(key, folder))
    return config


def require_no_time_limit(run: RunFolder, parts: Sequence[TrainingPart]) -> None:
    """Raise InputError if a run with a time limit was continued with other settings."""
    limits = [part.config["trainer"].get("max_seconds") for part in parts]
    if len(parts) > 1 and any(limit is not None for limit in limits):
        raise InputError(
            f"{run.folder} cannot be reproduced: it was continued with other settings under a time "
            "limit (trainer.max_seconds)"
        )
