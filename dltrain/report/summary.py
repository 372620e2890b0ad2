"""The line at the start of a run, the table at its end, and planes of fields as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.report.figures import best_row, figure_rows
from dltrain.report.text import duration, fields, table
from dltrain.shell import shell_word
from dltrain.types import Grid

TITLES = {"completed": "done", "stopped": "done (stopped early)"}  # by a run's status


def closing_table(
    task: object,
    results: Mapping[str, Any],
    more: str,
    callback_rows: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the table at the end of a run; `more` names the file that has all metrics."""
    status = results["status"]
    rows = figure_rows(task, _test_metrics(results), f"{more} has all")
    if "note" in results:
        rows.insert(0, ("note", results["note"]))
    if results["best"]:
        rows.append(best_row(task, results["best"]))
    rows.append(("training", f"{duration(results['seconds'])}, {results['steps']:,} steps"))
    if results["samples_per_second"]:
        rows.append(("speed", f"{results['samples_per_second']:,.0f} samples/s"))
    for name, claim in results["expect"].items():
        verdict = "met"
        if not claim["met"]:
            verdict = "NOT met"
        rows.append((f"expect {name}", f"{claim['claim']}: {verdict}"))
    if "reason" in results and status != "interrupted":  # the error message says it
        rows.append(("reason", results["reason"].splitlines()[0]))
    rows.append(("run", results["run"]))
    rows += callback_rows
    if status == "interrupted":
        rows.append(("continue", f"dltrain resume {shell_word(results['run'])}"))
    return f"\n{TITLES.get(status, status)}\n{table(rows)}"


def _test_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    metrics = results["metrics"]
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


def rendered_grids(scores: Mapping[str, Any]) -> list[str]:
    """Return the planes of fields among `scores` as text."""
    texts = []
    for value in scores.values():
        if isinstance(value, Grid):
            texts.append(f"\n{fields(value.values.tolist(), value.marks, value.title)}")
    return texts
