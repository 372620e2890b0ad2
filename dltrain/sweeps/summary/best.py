"""The best trial of a sweep, and the command that trains it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dltrain.config.groups import own_dir
from dltrain.report.text import counted_noun, number
from dltrain.shell import shell_word
from dltrain.sweeps.summary.ranking import (
    Criterion,
    best_rows,
    finished,
    watched_metrics,
)
from dltrain.sweeps.trial import Row
from dltrain.terminal import cells, screen_width

INDENT = "  "
CONTINUED = "\\"  # at the end of a line that continues
MAX_SHOWN = 5  # of the trials that none is better than, if there are several metrics


def best_lines(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[str]:
    """Return lines that name the best trial and the command for it; [] if no trial finished."""
    best = best_rows(rows, criteria)
    if not best:
        return no_best_lines(finished(rows), criteria)
    title = "best trial" if len(criteria) == 1 else "best compromise: trial"
    lines = []
    for row in best[:MAX_SHOWN]:
        lines.append(f"{title} {row['job']}: {figures_of(row, criteria)}  {row['run']}")
        lines += command_lines(row, screen_width())
    if len(best) > MAX_SHOWN:
        others = counted_noun(len(best) - MAX_SHOWN, "further trial")
        lines.append(f"and {others} that none is better than")
    return lines


def no_best_lines(done: Sequence[Row], criteria: Sequence[Criterion]) -> list[str]:
    """Return a line that says why none of the finished trials is the best; [] without any."""
    if not done:
        return []
    if not criteria:
        return different_lines(done)
    return [f"no best trial: no finished one has {' and '.join(names_of(criteria))}"]


def different_lines(rows: Sequence[Row]) -> list[str]:
    """Return why no trial is the best if they watch different metrics; [] if they watch none."""
    watched = [metric for metric, _ in watched_metrics(rows)]
    if not watched:
        return []
    return [
        f"no best trial: the trials watch different metrics ({', '.join(watched)}); "
        "sweep.metric=NAME compares them by one that all have"
    ]


def names_of(criteria: Sequence[Criterion]) -> list[str]:
    """Return the metrics of criteria."""
    return [one.metric for one in criteria]


def figures_of(row: Row, criteria: Sequence[Criterion]) -> str:
    """Return the metrics that decide, and the test's counterpart of the first one."""
    text = ", ".join(f"{one.metric} {one.text(row)}" for one in criteria)
    tested = test_counterpart(criteria[0].metric)
    if tested in row["metrics"] and tested not in names_of(criteria):
        text += f" ({tested} {number(row['metrics'][tested])})"
    return text


def test_counterpart(metric: str) -> str:
    """Return the metric of the test that belongs to one of the validation."""
    return metric.replace("val/", "test/", 1)


def command_words(row: Row) -> list[str]:
    """Return the words of the command that trains the run of a trial again."""
    words = ["dltrain", *map(shell_word, row["overrides"])]
    folder = own_dir.get()
    if folder is not None:
        words += ["--config-dir", shell_word(str(folder))]
    return words


def command_of(row: Row) -> str:
    """Return the command that trains the run of a trial again."""
    return " ".join(command_words(row))


def command_lines(row: Row, width: int | None) -> list[str]:
    """Return the command in lines of at most `width` columns, which a shell reads as one."""
    if width is None:
        return [INDENT + command_of(row)]
    first, *words = command_words(row)
    lines = [INDENT + first]
    for word in words:
        if cells(f"{lines[-1]} {word} {CONTINUED}") <= width:
            lines[-1] += f" {word}"
        else:
            lines[-1] += f" {CONTINUED}"
            lines.append(f"{INDENT}  {word}")
    return lines


def best_outcome(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[dict[str, Any]]:
    """Return the best trial for --json in a list, which has several for several metrics."""
    return [
        {
            "job": row["job"],
            "values": {one.metric: one.value(row) for one in criteria},
            "run": row["run"],
            "command": command_of(row),
        }
        for row in best_rows(rows, criteria)
    ]
