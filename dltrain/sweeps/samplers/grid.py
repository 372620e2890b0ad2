"""The sampler that tries every combination of the swept values."""

from __future__ import annotations

import hashlib

from dltrain.config.command_groups import of_run
from dltrain.config.grid import swept_keys
from dltrain.errors import UsageError
from dltrain.runs.identity import identity
from dltrain.runs.keys import HASH_CHARS
from dltrain.sweeps.definition import definition, difference_lines
from dltrain.sweeps.samplers.expansion import checked_jobs
from dltrain.sweeps.samplers.objectives import Mode, objectives_of
from dltrain.sweeps.samplers.optuna_trials import OptunaTrials, quiet_optuna, require_optuna
from dltrain.sweeps.samplers.outlook import outlook_of
from dltrain.sweeps.samplers.pruning import (
    AtLeastTwo,
    Judge,
    PrunerName,
    PruningRule,
    judged,
    require_prunable,
)
from dltrain.sweeps.samplers.sampler import Proposal, Sampler
from dltrain.sweeps.samplers.space import Values
from dltrain.sweeps.trial import Trial
from dltrain.types import PositiveInt


class GridSampler(Sampler):
    """Tries every combination of the swept values; the last key varies fastest.

    Args:
        metric: The metric of the best trial, or several; None for the one that the runs watch.
        mode: Its better direction, or one for each; None for the one that it declares.
        space: Further keys with their values, as on the command line or as a list.
        pruner: Which trials end early, by their evaluations; None for none.
        pruner_trials: The number of trials that finish before the median prunes any.
        pruner_evaluations: The first evaluation after which a trial may be pruned.
        pruner_factor: About one of so many trials continues, with halving and Hyperband.
    """

    is_exhaustive = True

    def __init__(
        self,
        metric: str | list[str | None] | None = None,
        mode: Mode | list[Mode] | None = None,
        space: dict[str, Values] | None = None,
        pruner: PrunerName | None = None,
        pruner_trials: PositiveInt = 5,
        pruner_evaluations: PositiveInt = 1,
        pruner_factor: AtLeastTwo = 3,
    ) -> None:
        self.metric = metric if metric is None or isinstance(metric, str) else list(metric)
        self.mode = mode
        self.space = dict(space or {})
        self.rule = PruningRule(pruner, pruner_trials, pruner_evaluations, pruner_factor)
        self.judges = pruner is not None
        self.judge: Judge | None = None

    def open(self, overrides: list[str]) -> None:
        self.jobs, configurations = checked_jobs(overrides)
        self.first = configurations[0]
        self.identities = [identity(of_run(one).public) for one in configurations]
        self.swept = swept_keys(self.jobs)
        if self.metric is None and self.mode is None and not self.judges:
            return
        if self.judges:
            require_optuna()
        outlook = outlook_of(configurations, with_training=self.metric is not None)
        self.objectives = objectives_of(self.metric, self.mode, outlook)
        if self.judges:
            require_prunable(self.objectives)
            with quiet_optuna():
                self.judge = Judge(self.rule, OptunaTrials(self.objectives), outlook.evaluations)

    def total(self) -> int:
        return len(self.jobs)

    def key(self) -> str:
        text = " ".join(self.identities)
        if self.judges:
            text += repr((self.metric, self.mode, self.rule))
        return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]

    def ask(self, number: int) -> Proposal | None:
        if number >= len(self.jobs):
            return None
        if self.judge is not None:
            with quiet_optuna():
                self.judge.trials.add(number)
        return Proposal(self.jobs[number], self.identities[number])

    def restore(self, trials: list[Trial]) -> None:
        """Learn the trials of an earlier attempt; UsageError if they are not in this grid."""
        for trial in trials:
            self.require_in_grid(trial)
        if self.judge is None:
            return
        with quiet_optuna():
            for trial in trials:
                self.judge.restore(trial)

    def require_in_grid(self, trial: Trial) -> None:
        """Raise UsageError if the job with the number of a trial has other overrides."""
        before = definition(trial.overrides)
        now: dict[str, str] = {}
        if trial.number < len(self.jobs):
            now = definition(self.jobs[trial.number])
        if before == now:
            return
        lines = [f"trial {trial.number} of this sweep has other settings now:"]
        lines += difference_lines(before, now)
        lines.append(
            "an option, or a file with the values to sweep over, has changed; undo that, or start "
            "a new sweep"
        )
        raise UsageError("\n".join(lines))

    def report(self, trial: Trial, step: int, value: float) -> str:
        return judged(self.judge, trial, step, value)

    def tell(self, trial: Trial) -> None:
        if self.judge is not None:
            with quiet_optuna():
                self.judge.trials.end(trial)
