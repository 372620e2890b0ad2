"""`dltrain evaluate RUN [split=test] [tta=flip] [overrides]`: score a run's best checkpoint again.

It writes no file.
"""

from __future__ import annotations

import logging
import math

from dltrain.config import check
from dltrain.config.overrides import take
from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.options import Options, require_choice
from dltrain.report.figures import figure_rows
from dltrain.report.summary import rendered_grids
from dltrain.report.text import number, table
from dltrain.runs.open import POINTERS, find_run, load_trained, position, saved_configuration
from dltrain.types import AveragesViews, Data, Table

log = logging.getLogger("dltrain")
SPLITS = ("train", "val", "test")
DEFAULTS = {"split": "test", "checkpoint": "best", "tta": ""}
TABLES = ("per_class", "per_target")
Scores = dict[str, dict[str, float | None]]  # by row and column


def evaluate(options: Options) -> None:
    """Score a split of a run's data set and print the figures."""
    run, overrides = find_run(options)
    typed, overrides = take(overrides, DEFAULTS)
    settings = {**DEFAULTS, **typed}
    split = settings["split"]
    require_choice("split", split, SPLITS)
    require_choice("checkpoint", settings["checkpoint"], POINTERS)
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    folder, where = load_trained(run, settings["checkpoint"])
    experiment = Experiment.to_evaluate(composed.config, run.description())
    engine = position(experiment, where)
    views = average_over_views(engine, settings["tta"])
    batches = getattr(experiment.data, split)
    if not batches.samples:
        raise UsageError(f"split={split}: {empty_split_message(experiment.data, split)}")
    scores = engine.score(batches, split)
    figures = {name: value for name, value in scores.items() if isinstance(value, float)}
    rows = figure_rows(engine.task, figures, "--json has all")
    where_from = f"{run.folder}, checkpoint {folder.name} (step {where.state['step']}){views}"
    log.info(f"{where_from}\n{table(rows)}")
    for text in rendered_grids(scores):
        log.info(text)
    options.outcome |= {"run": str(run.folder), "checkpoint": folder.name, "metrics": figures}
    for name in TABLES:
        values = scores.get(f"{split}/{name}")
        if isinstance(values, Table):
            log.info(f"\n{scores_table(values)}")
            options.outcome[name] = with_identifiers(as_mapping(values))


def average_over_views(engine: Engine, views: str) -> str:
    """Let the task average its predictions over several views of each input, and say which.

    This is test-time augmentation. Raises UsageError for a task without probabilities to average.
    """
    task = engine.task
    if not views:
        if not isinstance(task, AveragesViews) or not task.views:
            return ""
        return f", mean over the views of task.views=[{','.join(task.views)}]"
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


def scores_table(scores: Table) -> str:
    """Return a line for each class or target; of many classes the worst, and a note about it."""
    shown = scores.shown()
    lines = [[shown.row_title, *shown.columns]]
    for name, values in as_mapping(shown).items():
        cells = [cell(value, column in shown.plain) for column, value in values.items()]
        lines.append([name, *cells])
    text = table(lines, right=frozenset(range(1, len(lines[0]))))
    if shown.note:
        text += f"\n  {shown.note}; --json has all"
    return text


def cell(value: float | None, is_count: bool) -> str:
    """Return a value as text: a count, or a score."""
    if value is None:
        return "-"
    return f"{value:.0f}" if is_count else number(value)


def as_mapping(scores: Table) -> Scores:
    """Return {row: {column: value}}, None where a value is unknown.

    A class without samples, for example, has no ROC curve.
    """
    mapping = {}
    for name, row in zip(scores.rows, scores.values.tolist(), strict=True):
        known = [value if math.isfinite(value) else None for value in row]
        mapping[name] = dict(zip(scores.columns, known, strict=True))
    return mapping


def with_identifiers(scores: Scores) -> Scores:
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
