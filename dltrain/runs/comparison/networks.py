"""The networks of compared runs: their sizes, FLOPs and latencies, measured in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dltrain.report.network_figures import TITLES, Figures
from dltrain.runs.comparison.compared import ComparedRun
from dltrain.runs.comparison.differences import Difference
from dltrain.runs.folder import CHECKPOINTS, RunFolder

AUTO = "auto"
MAX_MEASURED = 10  # runs that are measured without being asked
PARAMETERS = "parameters"


@dataclass(frozen=True)
class Networks:
    """The rows of what was measured, and lines on what was not."""

    rows: Sequence[Difference] = ()
    notes: Sequence[str] = ()


def network_rows(runs: Sequence[ComparedRun], measures: str) -> Networks:
    """Return size, FLOPs and latency of the networks of the runs that have a checkpoint.

    With `measures` "false" nothing is measured; with "auto" not more than `MAX_MEASURED` runs are.
    """
    open_to = [run for run in runs if (run.folder / CHECKPOINTS).is_dir()]
    if measures == "false" or not open_to:
        return Networks()
    if measures == AUTO and len(open_to) > MAX_MEASURED:
        note = f"the networks of {len(open_to)} runs are not measured; measure=true does"
        return Networks(notes=[note])
    return measured(runs, open_to)


def measured(runs: Sequence[ComparedRun], open_to: Sequence[ComparedRun]) -> Networks:
    """Return the rows of all runs after measuring those that are `open_to`."""
    from dltrain.runs.network import network_figures  # imports torch

    figures, reasons = network_figures([RunFolder(run.folder) for run in open_to])
    by_label = dict(zip((run.label for run in open_to), figures, strict=True))
    notes = [f"{open_to[index].label} is not measured: {why}" for index, why in reasons.items()]
    if not any(figures):
        return Networks(notes=notes)
    return Networks([row_of(name, runs, by_label) for name in TITLES], notes)


def row_of(name: str, runs: Sequence[ComparedRun], by_label: dict[str, Figures]) -> Difference:
    """Return a figure of the network of each run; None where it is not known.

    The parameters of a run that is not measured are those before training.
    """
    values = [by_label.get(run.label, {}).get(name) for run in runs]
    if name == PARAMETERS:
        values = [known_parameters(run, value) for run, value in zip(runs, values, strict=True)]
    return Difference(name, values)


def known_parameters(run: ComparedRun, measured: float | None) -> Any:
    """Return the measured parameters of a run, or those before training."""
    return run.summary.effective.get(PARAMETERS) if measured is None else measured
