"""Size and latency of the networks of trained runs, measured in turns in one process."""

from __future__ import annotations

from collections.abc import Sequence

from dltrain.engine import Task
from dltrain.errors import DltrainError, InputError
from dltrain.report.network_costs import Subject, figures_of
from dltrain.report.network_figures import Figures
from dltrain.runs.folder import RunFolder
from dltrain.runs.open import TrainedRun, open_trained
from dltrain.types import EnvironmentBatch, PredictionRows

MAX_REASON_CHARS = 120
UNREADABLE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ImportError)


def network_figures(
    runs: Sequence[RunFolder], checkpoint: str = "best"
) -> tuple[list[Figures], dict[int, str]]:
    """Return the figures of the network of each run, and why those of others are not known.

    The figures are {} for a run that cannot be measured; the reasons are by its index.
    """
    subjects: dict[int, Subject] = {}
    reasons: dict[int, str] = {}
    for index, run in enumerate(runs):
        try:
            subjects[index] = subject_of(open_trained(run, [], checkpoint))
            subjects[index].predict(1)
        except (DltrainError, *UNREADABLE) as e:
            subjects.pop(index, None)
            reasons[index] = " ".join(str(e).split())[:MAX_REASON_CHARS]
    measured = dict(zip(subjects, figures_of(list(subjects.values())), strict=True))
    return [measured.get(index, {}) for index in range(len(runs))], reasons


def subject_of(trained: TrainedRun) -> Subject:
    """Return the network of a run with fake inputs.

    Raises:
        InputError: The task predicts no single inputs.
    """
    batch = next(iter(trained.engine.stage.batches.epoch(0)))
    require_measurable(trained.engine.task, batch)
    trained.keep_for_prediction()
    return Subject.of(trained.engine, batch)


def is_measurable(task: Task, batch: object) -> bool:
    """Return whether a task predicts single inputs, so that a latency means something."""
    return isinstance(task, PredictionRows) and not isinstance(batch, EnvironmentBatch)


def require_measurable(task: Task, batch: object) -> None:
    """Raise InputError for a task that predicts no single inputs."""
    if not is_measurable(task, batch):
        raise InputError(f"{type(task).__name__} predicts no single inputs")
