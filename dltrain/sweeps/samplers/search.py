"""The base of samplers that search a space with Optuna, and may prune trials.

Every choice follows from the seed, the number of the trial and the trials that had ended before,
which the journal has. So a sweep that was killed and is resumed proposes the same trials.
"""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.config.check import problems_of
from dltrain.config.checking.annotations import fits
from dltrain.config.command_groups import of_run
from dltrain.config.compose import Composed, compose, full_key_of
from dltrain.config.look_up import look_up
from dltrain.config.overrides import raise_problems
from dltrain.errors import UsageError
from dltrain.runs.identity import identity
from dltrain.runs.keys import HASH_CHARS
from dltrain.shell import shell_word
from dltrain.sweeps.samplers.dimensions import Continuous, Dimension, Value
from dltrain.sweeps.samplers.objectives import Mode, objectives_of
from dltrain.sweeps.samplers.optuna_trials import OptunaTrials, quiet_optuna, require_optuna
from dltrain.sweeps.samplers.outlook import outlook_of
from dltrain.sweeps.samplers.pruning import (
    AtLeastTwo,
    Judge,
    Judging,
    NonNegativeInt,
    PrunerName,
    PruningRule,
    judged,
    require_prunable,
)
from dltrain.sweeps.samplers.sampler import Proposal, Sampler
from dltrain.sweeps.samplers.space import Space, Values, read_space, require_dimensions
from dltrain.sweeps.trial import Trial
from dltrain.types import PositiveInt

log = logging.getLogger("dltrain")
MAX_SEED = 2**32  # of numpy's generators
MAX_DRAWS = 20  # of values that no earlier trial has
VALUES = "values"
UNFINISHED_AT = "unfinished"  # earlier trials that had not ended when a trial was proposed


class SearchSampler(Sampler):
    """Chooses the values of each trial by those that have ended.

    Args:
        trials: The number of trials.
        metric: The metric of the best trial, or several; None for the one that the runs watch.
        mode: Its better direction, or one for each; None for the one that it declares.
        seed: The seed of the choices.
        space: Further keys with their values, as on the command line or as a list.
        pruner: Which trials end early, by their evaluations; None for none.
        pruner_trials: The number of trials that finish before the median prunes any.
        pruner_evaluations: The first evaluation after which a trial may be pruned.
        pruner_factor: About one of so many trials continues, with halving and Hyperband.
    """

    name = ""  # of the option: sweep=NAME
    keeps_state = False  # the library's sampler keeps a state between trials

    def __init__(
        self,
        trials: PositiveInt = 20,
        metric: str | list[str | None] | None = None,
        mode: Mode | list[Mode] | None = None,
        seed: NonNegativeInt = 0,
        space: dict[str, Values] | None = None,
        pruner: PrunerName | None = None,
        pruner_trials: PositiveInt = 5,
        pruner_evaluations: PositiveInt = 1,
        pruner_factor: AtLeastTwo = 3,
    ) -> None:
        self.trials = trials
        self.metric = metric if metric is None or isinstance(metric, str) else list(metric)
        self.mode = mode
        self.seed = seed
        self.space = dict(space or {})
        self.rule = PruningRule(pruner, pruner_trials, pruner_evaluations, pruner_factor)
        self.judges = pruner is not None
        self.judge: Judging | None = None
        self.proposed = 0
        self.is_exhausted = False  # every combination of values has been proposed
        self.identities: set[str] = set()

    @abstractmethod
    def make_sampler(self, optuna: Any, seed: int) -> Any:
        """Return Optuna's sampler, which is used for one trial."""

    def open(self, overrides: list[str]) -> None:
        require_optuna()
        self.searched = read_space(overrides)
        require_dimensions(self.searched, self.name)
        configurations = checked_configurations(self.searched)
        self.first = configurations[0]
        self.swept = [dimension.name for dimension in self.searched.dimensions]
        outlook = outlook_of(configurations, with_training=self.metric is not None)
        self.objectives = objectives_of(self.metric, self.mode, outlook)
        self.require_fit()
        with quiet_optuna():
            self.known = OptunaTrials(self.objectives)
            self.distributions = {
                dimension.name: dimension.distribution() for dimension in self.searched.dimensions
            }
            if self.judges:
                self.judge = self.make_judge(outlook.evaluations)

    def require_fit(self) -> None:
        """Raise an error if the sampler cannot search this space for these objectives."""

    def make_judge(self, evaluations: int | None) -> Judging:
        """Return what prunes trials of so many evaluations, if that number is known.

        Raises:
            ConfigError: Trials cannot be pruned by these objectives.
        """
        require_prunable(self.objectives)
        return Judge(self.rule, self.known, evaluations)

    def total(self) -> int:
        """Return the number of trials, which is no more than there are different ones."""
        wanted = self.proposed if self.is_exhausted else self.trials
        if self.searched.size is not None:
            wanted = min(wanted, self.searched.size)
        return max(wanted, self.proposed)

    def key(self) -> str:
        parts = [
            self.name,
            identity(of_run(self.first).public),
            *(repr(part) for part in self.searched.parts if not isinstance(part, str)),
            repr((self.metric, self.mode, self.seed, self.rule)),
        ]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:HASH_CHARS]

    def ask(self, number: int) -> Proposal | None:
        if number >= self.total():
            return None
        unfinished = [one for one in range(number) if not self.known.is_finished(one)]
        with quiet_optuna():
            self.known.add(number)
            new = self.new_values(number)
            if new is None:
                self.is_exhausted = True
                return None
            values, name = new
            self.known.set_values(number, values, self.distributions)
        self.proposed += 1
        self.identities.add(name)
        state = {VALUES: values, UNFINISHED_AT: unfinished}
        return Proposal(self.searched.overrides(values), name, state)

    def new_values(self, number: int) -> tuple[dict[str, Value], str] | None:
        """Return values and the identity of their configuration, which no earlier trial has.

        Return None if there are no others.
        """
        for attempt in range(MAX_DRAWS):
            values = self.drawn(number, attempt)
            name = self.identity_of(values)
            if name not in self.identities:
                return values, name
        if self.searched.size is None:
            return values, name
        for values in self.searched.combinations():
            name = self.identity_of(values)
            if name not in self.identities:
                return values, name
        return None

    def drawn(self, number: int, attempt: int) -> dict[str, Value]:
        """Return values for a trial that Optuna's sampler draws from what it knows."""
        import optuna

        sampler = self.make_sampler(optuna, seed_of(self.seed, number, attempt))
        study = self.known.study()
        trial = self.known.frozen(number)
        relative_space = sampler.infer_relative_search_space(study, trial)
        drawn = dict(sampler.sample_relative(study, trial, relative_space))
        values = {}
        for dimension in self.searched.dimensions:
            name = dimension.name
            if name not in drawn:
                distribution = self.distributions[name]
                drawn[name] = sampler.sample_independent(study, trial, name, distribution)
            values[name] = dimension.admitted(drawn[name])
        return values

    def identity_of(self, values: Mapping[str, Value]) -> str:
        """Return the identity of the configuration that values give."""
        return identity(of_run(compose(self.searched.overrides(values))).public)

    def restore(self, trials: list[Trial]) -> None:
        with quiet_optuna():
            for trial in trials:
                self.end_those_done(trials[: trial.number], trial.state.get(UNFINISHED_AT, []))
                self.restore_trial(trial)
            self.end_those_done(trials, [])

    def end_those_done(self, trials: Sequence[Trial], unfinished: Sequence[int]) -> None:
        """Note the end of the trials that a resume leaves alone, except for `unfinished`."""
        for trial in trials:
            is_new = trial.number not in unfinished and not self.known.is_finished(trial.number)
            if is_new and trial.is_done:
                self.known.end(trial)

    def restore_trial(self, trial: Trial) -> None:
        """Add a trial of an earlier attempt with its values and its evaluations."""
        saved = trial.state.get(VALUES, {})
        values = {one.name: saved_value(trial, one, saved) for one in self.searched.dimensions}
        self.known.add(trial.number)
        if self.keeps_state:
            self.drawn(trial.number, 0)  # leads to the state that the library had then
        self.known.set_values(trial.number, values, self.distributions)
        self.proposed += 1
        self.identities.add(trial.identity)
        if self.judge is not None:
            self.judge.repeat(trial)

    def report(self, trial: Trial, step: int, value: float) -> str:
        return judged(self.judge, trial, step, value)

    def tell(self, trial: Trial) -> None:
        with quiet_optuna():
            self.known.end(trial)


def saved_value(trial: Trial, dimension: Dimension, saved: Mapping[str, Any]) -> Value:
    """Return the value that a trial has; UsageError if the space does not have it any more."""
    try:
        return dimension.admitted(saved.get(dimension.name))
    except ValueError as e:
        raise UsageError(
            f"trial {trial.number} of this sweep is not in its space any more: "
            f"{dimension.name}: {e}; undo the change, or start a new sweep"
        ) from e


def seed_of(seed: int, number: int, attempt: int) -> int:
    """Return the seed of the generator that draws the values of a trial."""
    text = f"{seed} {number} {attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % MAX_SEED


def checked_configurations(space: Space) -> list[Composed]:
    """Return configurations that have each choice and the ends of each interval at least once.

    Raises:
        ConfigError: Some are wrong; it names the problems of all of them, each once.
    """
    configurations = []
    problems: list[tuple[str, str]] = []
    for values in space.checked():
        composed = compose(space.overrides(values))
        configurations.append(composed)
        problems += problems_of(composed)
    if problems:
        problems = hints_for_integers(space, configurations[0]) or problems
    raise_problems(list(dict.fromkeys(problems)))
    return configurations


def hints_for_integers(space: Space, composed: Composed) -> list[tuple[str, str]]:
    """Return a problem for each interval of numbers with a key that takes integers only."""
    problems = []
    for dimension in space.dimensions:
        if isinstance(dimension, Continuous) and takes_integers(composed, dimension.key):
            ends = f"{dimension.low:g},{dimension.high:g}"
            typed = f"{dimension.key}=interval({ends})"
            meant = shell_word(f"{dimension.key}=int(interval({ends}))")
            why = f"needs an integer; type {meant}"
            problems.append((typed, why))
    return problems


def takes_integers(composed: Composed, key: str) -> bool:
    """Tell if a key takes integers, and no other numbers."""
    try:
        _, argument = look_up(composed, full_key_of(composed, key.lstrip("+")))
    except UsageError:
        return False
    if argument is None:
        return False
    return fits(1, argument.annotation) and not fits(1.5, argument.annotation)
