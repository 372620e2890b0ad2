"""`dltrain reproduce RUN [--tolerance 0.02]`: train a run again and compare all that it logged."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from dltrain.errors import NotReproducedError, UsageError
from dltrain.options import Options
from dltrain.report.text import counted_noun, table
from dltrain.runs.open import find_run
from dltrain.runs.reproduction.conditions import Conditions
from dltrain.runs.reproduction.records import Comparison, compared, read_records, shown
from dltrain.runs.reproduction.retraining import Retraining

log = logging.getLogger("dltrain")
DEFAULT_TOLERANCE = 0.02  # relative, on another machine or with other versions
ALLOWED = (
    *("paths.", "device", "plugins", "dataset.path", "dataset.source.path", "init.from"),
    *("task.teachers", "task.runs"),
)
MAX_VALUE_CHARS = 40


def reproduce(options: Options) -> None:
    """Say what differs between then and now, train the run again, and compare every record.

    Raises:
        NotReproducedError: A metric differs by more than the tolerance.
        InputError: The data is absent, or the run cannot be trained again.
    """
    typed_tolerance = tolerance_typed(options)
    run, overrides = find_run(options)
    require_local(overrides)
    retraining = Retraining(run, [*overrides, *output_override(options)], options)
    conditions = retraining.conditions()
    log.info(f"{run.folder}\n{condition_lines(conditions)}\n")
    new = retraining.train()
    comparison = compared(retraining.records, read_records(new))
    tolerance = accepted_difference(conditions, typed_tolerance)
    log.info(f"\n{comparison_table(comparison, tolerance)}")
    options.outcome["reproduction"] = summary(comparison, conditions, tolerance, str(run.folder))
    first = comparison.first(tolerance)
    if first is not None:
        raise NotReproducedError(
            f"{run.folder} is not reproduced by {new.folder}: {first}{hint(conditions, tolerance)}"
        )
    log.info(f"{success(comparison, tolerance)}: {new.folder}")


def tolerance_typed(options: Options) -> float | None:
    """Return the value of --tolerance, if it was typed; UsageError if it is not a fraction."""
    if options.tolerance is None:
        return None
    try:
        tolerance = float(options.tolerance)
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < math.inf:
        raise UsageError(f"--tolerance {options.tolerance}: expected a number >= 0, such as 0.02")
    return tolerance


def require_local(overrides: Sequence[str]) -> None:
    """Raise UsageError for an override that would change what is computed."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if not key.startswith(ALLOWED):
            raise UsageError(
                f"{override}: reproduce trains with the settings of the run; only folders, the "
                "device and plugins can be set (paths.data=, device=, plugins=)"
            )


def output_override(options: Options) -> list[str]:
    """Return the override of the output folder, which finding the run has taken."""
    return [word for word in options.overrides if word.startswith("paths.output=")]


def accepted_difference(conditions: Conditions, typed: float | None) -> float:
    """Return the accepted relative difference: 0 where every number has to be the same."""
    if typed is not None:
        return typed
    return 0.0 if conditions.are_exact else DEFAULT_TOLERANCE


def condition_lines(conditions: Conditions) -> str:
    """Return what differs between then and now."""
    lines = {
        changed_table(conditions): bool(conditions.changed),
        f"not recorded then: {', '.join(conditions.unknown)}": bool(conditions.unknown),
        "the code had or has changes that are not committed": conditions.is_dirty,
        "the data is not the same: results cannot be the same to the bit": conditions.other_data,
        "versions, data, machine and settings are those of the run": conditions.are_the_same,
    }
    return "\n".join(line for line, applies in lines.items() if applies)


def changed_table(conditions: Conditions) -> str:
    """Return a table of the conditions that differ."""
    rows = [(one.key, cut(one.then), cut(one.now)) for one in conditions.changed]
    return table([("differs", "then", "now"), *rows])


def cut(value: Any) -> str:
    """Return a value for a table, not too long."""
    return "-" if value is None else str(value)[:MAX_VALUE_CHARS]


def comparison_table(comparison: Comparison, tolerance: float) -> str:
    """Return a line for each metric: its last values, the largest difference, and the verdict."""
    rows = [("metric", "then", "now", "difference", "verdict")]
    for name, one in comparison.metrics.items():
        difference = f"{one.difference:.2g}"
        rows.append((name, shown(one.then), shown(one.now), difference, one.verdict(tolerance)))
    return table(rows, right=frozenset({1, 2, 3}))


def summary(
    comparison: Comparison, conditions: Conditions, tolerance: float, run: str
) -> dict[str, Any]:
    """Return the comparison for --json."""
    metrics = {}
    for name, one in comparison.metrics.items():
        metrics[name] = {**vars(one), "verdict": one.verdict(tolerance)}
    first = comparison.first(0.0)
    return {
        "of": run,
        "reproduced": comparison.first(tolerance) is None,
        "identical": first is None,
        "tolerance": tolerance,
        "records": comparison.records,
        "differs": [vars(one) for one in conditions.changed],
        "not_recorded": conditions.unknown,
        "metrics": metrics,
        "first_difference": None if first is None else vars(first),
    }


def success(comparison: Comparison, tolerance: float) -> str:
    """Return the result of a run that is reproduced."""
    records = counted_noun(comparison.records, "record")
    if comparison.first(0.0) is None:
        return f"reproduced to the bit ({records})"
    largest = max(one.difference for one in comparison.metrics.values())
    return f"reproduced within {tolerance:g} ({records}; the largest difference is {largest:.2g})"


def hint(conditions: Conditions, tolerance: float) -> str:
    """Return what may be the reason, or the way to accept the difference."""
    if conditions.changed:
        keys = ", ".join(one.key for one in conditions.changed)
        return f" (accepted: {tolerance:g}; not the same as then: {keys})"
    return " (nothing that is recorded differs: the code or a setting outside the run has changed)"
