"""`dltrain evaluate RUN [split=test] [tta=flip] [overrides]`: score a finished run's best checkpoint; writes nothing."""

from __future__ import annotations

import logging
import math

from dltrain.commands.options import Options
from dltrain.commands.resume import find_run, position, saved_configuration, trained_state
from dltrain.commands.train import drawn
from dltrain.config import check
from dltrain.config.overrides import take
from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.report.figures import figure_rows
from dltrain.report.text import number, table
from dltrain.types import AveragesViews, Data, Table

log = logging.getLogger("dltrain")
SPLITS = ("train", "val", "test")
WEIGHTS = ("best", "last")
TABLES = ("per_class", "per_target")


def evaluate(options: Options) -> None:
    run, overrides = find_run(options)
    defaults = {"split": "test", "checkpoint": "best", "tta": ""}
    typed, overrides = take(overrides, defaults)
    chosen = {**defaults, **typed}
    if chosen["split"] not in SPLITS:
        raise UsageError(f"split={chosen['split']}: expected one of {', '.join(SPLITS)}")
    if chosen["checkpoint"] not in WEIGHTS:
        raise UsageError(f"checkpoint={chosen['checkpoint']}: expected one of {', '.join(WEIGHTS)}")
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    folder, where = trained_state(run, chosen["checkpoint"])
    experiment = Experiment.to_evaluate(composed.config, run.description())
    engine = position(experiment, where)
    viewed = ""
    if chosen["tta"]:
        look_again(engine, chosen["tta"])
        viewed = f", mean over the views of tta={chosen['tta']}"
    elif isinstance(engine.task, AveragesViews) and engine.task.views:
        viewed = f", mean over the views of task.views=[{','.join(engine.task.views)}]"
    split = chosen["split"]
    batches = getattr(experiment.data, split)
    if not batches.samples:
        raise UsageError(f"split={split}: {no_samples(experiment.data, split)}")
    scores = engine.score(batches, split)
    figures = {name: value for name, value in scores.items() if isinstance(value, float)}
    rows = figure_rows(engine.task, figures, "--json has all")
    log.info(
        f"{run.folder}, checkpoint {folder.name} (step {where.state['step']}){viewed}\n{table(rows)}"
    )
    for picture in drawn(scores):
        log.info(picture)
    options.outcome.update({"run": str(run.folder), "checkpoint": folder.name, "metrics": figures})
    for name in TABLES:
        if isinstance(by_row := scores.get(f"{split}/{name}"), Table):
            log.info(f"\n{by_class(by_row)}")
            options.outcome[name] = with_identifiers(as_mapping(by_row))


def look_again(engine: Engine, views: str) -> None:
    """Answer by several views of each input from now on: test-time augmentation. UsageError where there are none."""
    if not isinstance(engine.task, AveragesViews):
        raise UsageError(
            f"tta={views}: {type(engine.task).__name__} gives no probabilities to average; classification does"
        )
    try:
        engine.task.average_over(views.strip("[]").replace(" ", "").split(","))
    except ValueError as e:
        raise UsageError(f"tta={views}: {e}") from e


def by_class(scores: Table) -> str:
    """Return a line for each class or target, or of many classes the worst and a line that says
    which they are.
    """
    part = scores.shown()
    lines = [[part.row_title, *part.columns]]
    for name, values in as_mapping(part).items():
        lines.append(
            [name, *(cell(value, column in part.plain) for column, value in values.items())]
        )
    note = f"\n  {part.note}; --json has all" if part.note else ""
    return table(lines, right=frozenset(range(1, len(lines[0])))) + note


def cell(value: float | None, count: bool) -> str:
    """Return a value as text: a count, or a score."""
    if value is None:
        return "-"
    return f"{value:.0f}" if count else number(value)


def as_mapping(scores: Table) -> dict[str, dict[str, float | None]]:
    """{row: {column: value}}, None where a value is not known: a class without samples has no ROC curve."""
    known = [
        [value if math.isfinite(value) else None for value in row] for row in scores.values.tolist()
    ]
    return {
        name: dict(zip(scores.columns, row, strict=True))
        for name, row in zip(scores.rows, known, strict=True)
    }


def with_identifiers(
    scores: dict[str, dict[str, float | None]],
) -> dict[str, dict[str, float | None]]:
    """Return the same for --json: columns of two words get an underscore; rows are called what the
    data calls them.
    """
    return {
        row: {column.replace(" ", "_"): v for column, v in values.items()}
        for row, values in scores.items()
    }


def no_samples(data: Data, split: str) -> str:
    """Return that the split of a run is empty, why that may be, and which split may be evaluated
    instead.
    """
    why = f"dataset.{split}_fraction" if split in ("val", "test") else "dataset.path"
    others = [f"split={other}" for other in SPLITS if getattr(data, other).samples]
    return f"this run has no such samples ({why}, debug=overfit); {' or '.join(others)} can be evaluated"
