"""Scores of a trained run on a split of its data set."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.config import check
from dltrain.engine import Engine, Task
from dltrain.errors import UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.options import require_choice
from dltrain.report.network_costs import Subject, figures_of
from dltrain.report.network_figures import Figures
from dltrain.runs.folder import RunFolder
from dltrain.runs.network import is_measurable
from dltrain.runs.open import (
    load_trained,
    position,
    reading_data_set,
    require_checkpoint_name,
    saved_configuration,
)
from dltrain.runs.sample_scores import Row, require_sample_scores, sample_rows
from dltrain.shell import setting
from dltrain.types import AveragesViews, Data, DataSplit, Table

log = logging.getLogger("dltrain")
SPLITS = ("train", "val", "test")
TABLES = ("per_class", "per_target", "per_layer", "members")
TableScores = dict[str, dict[str, float | None]]  # by row and column


@dataclass(frozen=True)
class RunScores:
    """The scores of a checkpoint of a run on a split: {"<split>/<metric>": value}.

    `views` says over which views of each input the predictions were averaged; "" for one view.
    """

    run: RunFolder
    checkpoint: Path
    step: int
    split: str
    views: str
    scores: dict[str, Any]
    engine: Engine
    data: Data

    @property
    def task(self) -> Task:
        """The run's task, with the weights of the checkpoint."""
        return self.engine.task

    def sample_rows(self) -> Iterator[Row]:
        """Yield the name and the scores of each sample, in the order of the data.

        UsageError for a task that has no loss of a single sample.
        """
        return sample_rows(self.engine, self.data, self.split)

    @property
    def figures(self) -> dict[str, float]:
        """The scores that are numbers."""
        return {name: value for name, value in self.scores.items() if isinstance(value, float)}

    @property
    def tables(self) -> dict[str, Table]:
        """The scores of each class, target or layer, by the name of the table; may be empty."""
        tables = {}
        for name in TABLES:
            value = self.scores.get(f"{self.split}/{name}")
            if isinstance(value, Table):
                tables[name] = value
        return tables

    def network(self) -> Figures:
        """Return size and latency of the network; {} for a task that predicts no single inputs."""
        batch = next(iter(getattr(self.data, self.split).epoch(0)))
        if not is_measurable(self.task, batch):
            return {}
        return figures_of([Subject.of(self.engine, batch)])[0]

    @property
    def details(self) -> dict[str, Any]:
        """Further results for --json, by name; none of a single run."""
        return {}

    def detail_text(self) -> str:
        """Return further results as a text for the screen; "" for a single run."""
        return ""

    @property
    def place(self) -> str:
        """The run, its checkpoint and the views, in a line."""
        return (
            f"{self.run.folder}, checkpoint {self.checkpoint.name} (step {self.step}){self.views}"
        )


@dataclass(frozen=True)
class OpenedRun:
    """A run with the weights of a checkpoint and its data set, ready to be scored on a split."""

    run: RunFolder
    checkpoint: Path
    step: int
    views: str
    engine: Engine
    data: Data

    def batches(self, split: str) -> DataSplit:
        """Return the batches of a split; UsageError if it is empty."""
        batches: DataSplit = getattr(self.data, split)
        if not batches.samples:
            raise UsageError(f"split={split}: {empty_split_message(self.data, split)}")
        return batches


def open_to_evaluate(
    run: RunFolder, overrides: list[str], split: str, checkpoint: str, tta: str
) -> OpenedRun:
    """Open a run with its checkpoint best or last, and its data set, to score a split of it.

    Raises:
        UsageError: The split is empty, or a setting has no such value.
        ConfigError: The overrides do not fit the configuration.
        InputError: The data or the checkpoint is absent or broken.
    """
    require_choice("split", split, SPLITS)
    require_checkpoint_name(checkpoint)
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    folder, where = load_trained(run, checkpoint)
    experiment = Experiment.to_evaluate(composed.config, run.description())
    if experiment.note:
        log.warning(f"{run.folder}: {experiment.note}")
    with reading_data_set():
        engine = position(experiment, where)
        views = average_over_views(engine, tta)
        opened = OpenedRun(run, folder, where.state["step"], views, engine, experiment.data)
        opened.batches(split)
    return opened


def evaluate_run(
    run: RunFolder,
    overrides: list[str],
    split: str,
    checkpoint: str,
    tta: str,
    per_sample: bool = False,
) -> RunScores:
    """Score a split of the data set of `run` with its checkpoint best or last.

    `tta` names the views of each input to average over, separated by commas. `per_sample` means
    that the scores of each sample will be asked for.

    Raises:
        UsageError: The split is empty, a setting has no such value, or the task has no scores of
            single samples.
        ConfigError: The overrides do not fit the configuration.
        InputError: The data or the checkpoint is absent or broken.
    """
    opened = open_to_evaluate(run, overrides, split, checkpoint, tta)
    engine = opened.engine
    if per_sample:
        require_sample_scores(engine.task)
    scores = engine.score(opened.batches(split), split)
    if per_sample and f"{split}/loss" not in scores:
        raise UsageError(f"the stage {engine.stage.name} has no loss of a single sample")
    return scores_of(opened, split, scores)


def scores_of(opened: OpenedRun, split: str, scores: dict[str, Any]) -> RunScores:
    """Return the scores of an opened run on a split."""
    return RunScores(
        opened.run,
        opened.checkpoint,
        opened.step,
        split,
        opened.views,
        scores,
        opened.engine,
        opened.data,
    )


def average_over_views(engine: Engine, views: str) -> str:
    """Let the task average its predictions over several views of each input, and say which.

    This is test-time augmentation. Raises UsageError for a task without probabilities to average.
    """
    task = engine.task
    if not views:
        if not isinstance(task, AveragesViews) or not task.views:
            return ""
        return f", mean over the views of {setting('task.views', task.views)}"
    if not isinstance(task, AveragesViews):
        raise UsageError(
            f"tta={views}: {type(task).__name__} gives no probabilities to average; "
            "classification does"
        )
    try:
        task.average_over(views.strip("[]").replace(" ", "").split(","))
    except ValueError as e:
        raise UsageError(f"tta={views}: {e}") from e
    return f", mean over the views of tta={views}"


def as_mapping(scores: Table) -> TableScores:
    """Return {row: {column: value}}, None where a value is unknown.

    A class without samples, for example, has no ROC curve.
    """
    mapping = {}
    for name, row in zip(scores.rows, scores.values.tolist(), strict=True):
        known = [value if math.isfinite(value) else None for value in row]
        mapping[name] = dict(zip(scores.columns, known, strict=True))
    return mapping


def with_identifiers(scores: TableScores) -> TableScores:
    """Return the scores for --json: columns of two words get an underscore."""
    renamed = {}
    for row, values in scores.items():
        renamed[row] = {column.replace(" ", "_"): value for column, value in values.items()}
    return renamed


def empty_split_message(data: Data, split: str) -> str:
    """Return why a split may be empty, and which splits can be evaluated instead."""
    key = "dataset.path"
    if split != "train":
        key = f"dataset.{split}_fraction"
    others = [f"split={other}" for other in SPLITS if getattr(data, other).samples]
    return (
        f"this run has no such samples ({key}, debug=overfit); "
        f"{' or '.join(others)} can be evaluated"
    )
