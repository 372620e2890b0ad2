"""Pruning for two objectives: a trial is compared with trials whose networks are no larger.

A comparison with all trials would prune small networks first, which are on the Pareto front because
they are small.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from dltrain.report.text import number
from dltrain.sweeps.samplers.pruning import PruningRule
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.trial import Trial


@dataclass
class Reported:
    """The evaluations of a trial whose network has so many parameters.

    `costs` has the lowest cost up to each evaluation, by number.
    """

    parameters: int
    costs: dict[int, float] = field(default_factory=dict)

    def add(self, step: int, cost: float) -> None:
        """Add an evaluation; the best one up to it counts."""
        earlier = [value for number, value in self.costs.items() if number < step]
        self.costs[step] = min([cost, *earlier])


class FrontJudge:
    """Prunes a trial that is worse than the median of the trials with no larger networks.

    They are compared by their best values up to the same evaluation. Without enough of them, or at
    the last evaluation, no trial is pruned.

    Args:
        rule: The settings of the pruner.
        criterion: The objective that evaluations measure.
        evaluations: The number of evaluations of a run, if that is known.
        parameters_of: Returns the number of parameters of a trial's network.
    """

    def __init__(
        self,
        rule: PruningRule,
        criterion: Criterion,
        evaluations: int | None,
        parameters_of: Callable[[Trial], int],
    ) -> None:
        self.rule = rule
        self.criterion = criterion
        self.evaluations = evaluations
        self.parameters_of = parameters_of
        self.trials: dict[int, Reported] = {}

    def report(self, trial: Trial, step: int, value: float | None) -> str:
        """Return why a trial is pruned after an evaluation, or ""."""
        own = self.reported(trial)
        own.add(step, self.cost(value))
        others = self.costs_of_no_larger(trial.number, step)
        is_last = self.evaluations is not None and step >= self.evaluations
        if is_last or step < self.rule.evaluations or len(others) < self.rule.trials:
            return ""
        median = statistics.median(others)
        if own.costs[step] <= median:
            return ""
        return self.reason(step, value, self.value(median), len(others))

    def repeat(self, trial: Trial) -> None:
        """Learn the evaluations of a trial of an earlier attempt."""
        for step in sorted(trial.reports):
            self.reported(trial).add(step, self.cost(trial.reports[step]))

    def reported(self, trial: Trial) -> Reported:
        """Return the evaluations of a trial."""
        if trial.number not in self.trials:
            self.trials[trial.number] = Reported(self.parameters_of(trial))
        return self.trials[trial.number]

    def costs_of_no_larger(self, number: int, step: int) -> list[float]:
        """Return the costs at an evaluation of the other trials with no larger networks."""
        limit = self.trials[number].parameters
        costs = []
        for other, reported in self.trials.items():
            if other != number and reported.parameters <= limit and step in reported.costs:
                costs.append(reported.costs[step])
        return costs

    def cost(self, value: float | None) -> float:
        """Return a number that is lower for better values; infinite for none."""
        if value is None:
            return math.inf
        return -value if self.criterion.mode == "max" else value

    def value(self, cost: float) -> float:
        """Return the value with a cost."""
        return -cost if self.criterion.mode == "max" else cost

    def reason(self, step: int, value: float | None, median: float, count: int) -> str:
        """Return the reason for pruning after an evaluation."""
        figure = "not finite" if value is None else number(value)
        total = "" if self.evaluations is None else f" of {self.evaluations}"
        return (
            f"pruned after evaluation {step}{total}: {self.criterion.metric} {figure} "
            f"(median of {count} networks that are no larger: {number(median)})"
        )
