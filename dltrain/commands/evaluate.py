"""`dltrain evaluate RUN [split=test] [tta=flip] [overrides]`: score a run's best checkpoint again.

It writes no file.
"""

from __future__ import annotations

import logging

from dltrain.config.overrides import take
from dltrain.options import Options
from dltrain.report.figures import figure_rows
from dltrain.report.summary import rendered_grids
from dltrain.report.text import number, table
from dltrain.runs.evaluate import as_mapping, evaluate_run, with_identifiers
from dltrain.runs.open import find_run
from dltrain.types import Table

log = logging.getLogger("dltrain")
DEFAULTS = {"split": "test", "checkpoint": "best", "tta": ""}


def evaluate(options: Options) -> None:
    """Score a split of a run's data set and print the figures."""
    run, overrides = find_run(options)
    typed, overrides = take(overrides, DEFAULTS)
    evaluation = evaluate_run(run, overrides, **{**DEFAULTS, **typed})
    rows = figure_rows(evaluation.task, evaluation.figures, "--json has all")
    log.info(f"{evaluation.place}\n{table(rows)}")
    for text in rendered_grids(evaluation.scores):
        log.info(text)
    options.outcome |= {
        "run": str(run.folder),
        "checkpoint": evaluation.checkpoint.name,
        "metrics": evaluation.figures,
    }
    for name, scores in evaluation.tables.items():
        log.info(f"\n{scores_table(scores)}")
        options.outcome[name] = with_identifiers(as_mapping(scores))


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
