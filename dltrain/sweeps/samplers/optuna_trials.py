"""The trials of a sweep as Optuna knows them: a study in memory, rebuilt from the journal.

Optuna chooses values and prunes by it. It stores nothing on the disk: its own files lose trials,
or stay locked, when a process is killed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dltrain.errors import UsageError
from dltrain.runs.folder import FINISHED
from dltrain.sweeps.jobs.job import PRUNED
from dltrain.sweeps.samplers.dimensions import Value
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.trial import Trial

STUDY_NAME = "sweep"  # the brackets of Hyperband depend on it
MISSING = 'searches and pruning need optuna: pip install "dltrain-cli[sweep]"'
UNFINISHED = ("", "interrupted")  # statuses of trials that will continue


@contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Yield the library, which warns and logs nothing within the block.

    Raises UsageError if it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import optuna
        except ImportError as e:
            raise UsageError(MISSING) from e
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        try:
            yield optuna
        finally:
            optuna.logging.set_verbosity(before)


def require_optuna() -> None:
    """Raise UsageError if the library is not installed."""
    with quiet_optuna():
        pass


class OptunaTrials:
    """The trials of a sweep in an Optuna study, by their numbers.

    All calls are made within `quiet_optuna`.
    """

    def __init__(self, objectives: Sequence[Criterion]) -> None:
        import optuna

        self.objectives = list(objectives)
        self.states = optuna.trial.TrialState
        self.storage = optuna.storages.InMemoryStorage()
        directions: list[Any] = []
        for one in objectives:
            directions.append("maximize" if one.mode == "max" else "minimize")
        optuna.create_study(storage=self.storage, study_name=STUDY_NAME, directions=directions)
        self.study_id = self.storage.get_study_id_from_name(STUDY_NAME)
        self.ids: list[int] = []

    def study(self) -> Any:
        """Return the study, which has no memory of earlier calls."""
        import optuna

        return optuna.load_study(
            study_name=STUDY_NAME,
            storage=self.storage,
            sampler=optuna.samplers.RandomSampler(seed=0),  # not used
            pruner=optuna.pruners.NopPruner(),
        )

    def add(self, number: int) -> None:
        """Add the next trial, which runs."""
        assert number == len(self.ids), f"trial {number} after {len(self.ids)} others"
        self.ids.append(self.storage.create_new_trial(self.study_id))

    def set_values(
        self, number: int, values: Mapping[str, Value], distributions: Mapping[str, Any]
    ) -> None:
        """Set the values of a trial, with the distributions that they come from."""
        for name, value in values.items():
            distribution = distributions[name]
            internal = distribution.to_internal_repr(value)
            self.storage.set_trial_param(self.ids[number], name, internal, distribution)

    def frozen(self, number: int) -> Any:
        """Return a trial as Optuna has it now."""
        return self.storage.get_trial(self.ids[number])

    def is_finished(self, number: int) -> bool:
        """Tell if a trial has ended with values that samplers learn from."""
        return self.frozen(number).state in (self.states.COMPLETE, self.states.PRUNED)

    def report(self, number: int, step: int, value: float | None) -> None:
        """Add an evaluation; None is not a number."""
        figure = math.nan if value is None else value
        self.storage.set_trial_intermediate_value(self.ids[number], step, figure)

    def end(self, trial: Trial) -> None:
        """Set the state of a trial that has ended; one that was interrupted still runs.

        A pruned trial has its last evaluation. Optuna prunes by one objective only: of several, a
        pruned trial has ended with the figures that it had reached.
        """
        trial_id = self.ids[trial.number]
        has_ended = self.storage.get_trial(trial_id).state.is_finished()
        if trial.status in UNFINISHED or trial.row is None or has_ended:
            return
        has_several = len(self.objectives) > 1
        if trial.status == PRUNED and not has_several:
            last = self.last_value(trial.number)
            self.storage.set_trial_state_values(trial_id, self.states.PRUNED, last)
            return
        measured = [one.value(trial.row) for one in self.objectives]
        values = [value for value in measured if value is not None]
        counts = trial.status in FINISHED or trial.status == PRUNED
        if counts and len(values) == len(self.objectives):
            self.storage.set_trial_state_values(trial_id, self.states.COMPLETE, values)
        else:
            self.storage.set_trial_state_values(trial_id, self.states.FAIL)

    def last_value(self, number: int) -> list[float] | None:
        """Return the last evaluation of a trial in a list; None without one that is a number."""
        reported = self.frozen(number).intermediate_values
        if not reported:
            return None
        value = reported[max(reported)]
        return None if math.isnan(value) else [value]
