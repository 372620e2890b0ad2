"""Pruning: which evaluations end a trial early, by Optuna's pruners."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from dltrain.errors import ConfigError
from dltrain.report.text import number
from dltrain.sweeps.samplers.objectives import VAL
from dltrain.sweeps.samplers.optuna_trials import OptunaTrials, quiet_optuna
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.trial import Trial
from dltrain.types import Ge

PrunerName = Literal["median", "halving", "hyperband"]
LONG_NAMES = {"median": "median", "halving": "successive halving", "hyperband": "Hyperband"}
AtLeastTwo = Annotated[int, Ge(2)]
NonNegativeInt = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class PruningRule:
    """The settings of a pruner.

    Attributes:
        name: Which one; None prunes nothing.
        trials: The number of trials that finish before the median prunes any.
        evaluations: No trial is pruned before this evaluation, from 1.
        factor: About one of so many trials continues at each rung of halving and Hyperband.
    """

    name: PrunerName | None
    trials: int
    evaluations: int
    factor: int

    def pruner(self, evaluations: int | None) -> Any:
        """Return Optuna's pruner for runs with so many evaluations, if that is known."""
        import optuna

        if self.name == "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=self.trials, n_warmup_steps=self.evaluations
            )
        if self.name == "halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=self.evaluations, reduction_factor=self.factor
            )
        return optuna.pruners.HyperbandPruner(
            min_resource=self.evaluations,
            max_resource="auto" if evaluations is None else max(evaluations, self.evaluations),
            reduction_factor=self.factor,
        )


def require_prunable(objectives: Sequence[Criterion]) -> None:
    """Raise ConfigError unless there is one objective, which evaluations measure."""
    metrics = [one.metric for one in objectives]
    if len(metrics) > 1:
        why = (
            f"compares one metric, not {', '.join(metrics)}; set sweep.pruner=null, or use "
            "sweep=architecture, which compares networks of a size"
        )
        raise ConfigError([("sweep.pruner", why)])
    if not metrics[0].startswith(VAL):
        why = f"compares evaluations, which do not measure {metrics[0]}; choose a {VAL} metric"
        raise ConfigError([("sweep.pruner", why)])


class Judging(Protocol):
    """Tells after each evaluation of a trial if it is pruned."""

    def report(self, trial: Trial, step: int, value: float | None) -> str:
        """Return why a trial is pruned after an evaluation, or ""."""

    def repeat(self, trial: Trial) -> None:
        """Learn the evaluations of a trial of an earlier attempt."""


class Judge:
    """Tells after each evaluation of a trial if it is pruned.

    `evaluations` is the number of evaluations of a run, if that is known. Only its first
    answer to an evaluation counts, which the journal keeps: a resumed run repeats evaluations.
    """

    def __init__(
        self,
        rule: PruningRule,
        trials: OptunaTrials,
        evaluations: int | None,
    ) -> None:
        self.rule = rule
        self.trials = trials
        self.evaluations = evaluations
        self.pruner = rule.pruner(evaluations)

    def report(self, trial: Trial, step: int, value: float | None) -> str:
        """Return why a trial is pruned after an evaluation, or ""."""
        self.trials.report(trial.number, step, value)
        if not self.pruner.prune(self.trials.study(), self.trials.frozen(trial.number)):
            return ""
        if self.evaluations is not None and step >= self.evaluations:
            return ""  # it has nothing left to train
        return self.reason(step, value)

    def restore(self, trial: Trial) -> None:
        """Add a trial of an earlier attempt, with its evaluations, and its end if it is done."""
        self.trials.add(trial.number)
        self.repeat(trial)
        if trial.is_done:
            self.trials.end(trial)

    def repeat(self, trial: Trial) -> None:
        """Judge the evaluations of a trial again, which leads to the state that pruners had."""
        for step in sorted(trial.reports):
            self.report(trial, step, trial.reports[step])

    def reason(self, step: int, value: float | None) -> str:
        """Return the reason for pruning after an evaluation."""
        metric = self.trials.objectives[0].metric
        figure = "not finite" if value is None else number(value)
        total = "" if self.evaluations is None else f" of {self.evaluations}"
        name = LONG_NAMES[str(self.rule.name)]
        return f"pruned after evaluation {step}{total}: {metric} {figure} ({name} pruner)"


def judged(judge: Judging | None, trial: Trial, step: int, value: float) -> str:
    """Return why a trial is pruned after an evaluation; "" without a judge."""
    if judge is None:
        return ""
    with quiet_optuna():
        return judge.report(trial, step, value if math.isfinite(value) else None)
