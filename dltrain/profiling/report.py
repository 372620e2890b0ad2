"""The table of `debug=profile`, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.profiling.clock import (
    BACKWARD,
    BETWEEN,
    CALLBACK,
    CHECKPOINT,
    DATA,
    EVALUATION,
    FORWARD,
    LOGGING,
    OPTIMIZER,
    REST,
    Ledger,
)
from dltrain.report.text import duration, table

LOGGING_BETWEEN = LOGGING + BETWEEN
ORDER = (
    DATA,
    FORWARD,
    BACKWARD,
    OPTIMIZER,
    LOGGING,
    EVALUATION,
    LOGGING_BETWEEN,
    CHECKPOINT,
)
OTHERS = "other callbacks"
NAMED_SHARE = 0.01  # callbacks with less have one row together
TITLES = ("phase", "seconds", "percent", "ms a step")
LABELS = {
    DATA: "data (waiting for batches)",
    FORWARD: "forward (network, loss, metrics)",
    LOGGING: "logging (metrics, TensorBoard, progress)",
    LOGGING_BETWEEN: "logging at the end of evaluations, epochs",
}


def merged(ledgers: Sequence[Ledger]) -> Ledger:
    """Return the sum of ledgers."""
    whole = Ledger()
    for ledger in ledgers:
        whole.total += ledger.total
        whole.steps += ledger.steps
        whole.evaluations += ledger.evaluations
        for phase, seconds in ledger.seconds.items():
            whole.seconds[phase] += seconds
    return whole


def phase_rows(ledger: Ledger) -> list[dict[str, Any]]:
    """Return a row for each phase: its seconds, percent of the total, milliseconds a step."""
    named = {phase: ledger.seconds.get(phase, 0.0) for phase in ORDER}
    others = 0.0
    for phase, seconds in ledger.seconds.items():
        if phase.startswith(CALLBACK):
            if seconds >= NAMED_SHARE * ledger.total:
                named[phase] = seconds
            else:
                others += seconds
    named |= {OTHERS: others, REST: ledger.seconds.get(REST, 0.0)}
    return [row(phase, seconds, ledger) for phase, seconds in named.items()]


def row(phase: str, seconds: float, ledger: Ledger) -> dict[str, Any]:
    """Return the row of one phase."""
    total = max(ledger.total, 1e-12)
    return {
        "phase": phase,
        "seconds": round(seconds, 6),
        "percent": round(100 * seconds / total, 2),
        "ms_a_step": round(1000 * seconds / max(1, ledger.steps), 4),
    }


def text_of(content: Mapping[str, Any]) -> str:
    """Return the table with its notes and the verdict."""
    rows = [TITLES]
    for phase in content["phases"]:
        label = LABELS.get(phase["phase"], phase["phase"])
        rows.append(
            (
                label,
                f"{phase['seconds']:.3f}",
                f"{phase['percent']:.1f}",
                f"{phase['ms_a_step']:.3f}",
            )
        )
    total = content["seconds"]
    ms_a_step = 1000 * total / max(1, content["steps"])
    rows.append(("total", f"{total:.3f}", "100.0", f"{ms_a_step:.3f}"))
    lines = [f"where the time of {content['steps']} steps goes ({content['part']}):"]
    lines.append(table(rows, right=frozenset({1, 2, 3})))
    lines += content["notes"]
    if len(content["stages"]) > 1:
        lines += [stage_line(stage) for stage in content["stages"]]
    lines.append(content["verdict"])
    return "\n".join(lines)


def stage_line(stage: Mapping[str, Any]) -> str:
    """Return the line of one of several stages."""
    line = f"stage {stage['stage']}: {stage['steps']} steps, {stage['ms_a_step']:.3f} ms a step"
    if stage["bound_by"]:
        line += f", bound by {stage['bound_by']}"
    return line


def epoch_note(ledger: Ledger, batches: int) -> str:
    """Return how long an epoch of so many batches takes, without and with its evaluation."""
    seconds = ledger.of_steps() / max(1, ledger.steps) * batches
    evaluation = ledger.seconds.get(EVALUATION, 0.0) / max(1, ledger.evaluations)
    return (
        f"an epoch of {batches:,} steps takes about {duration(seconds)}, "
        f"its evaluation {duration(evaluation)}"
    )
