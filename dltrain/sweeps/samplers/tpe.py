"""The sampler that draws values where the better trials of the sweep were (TPE)."""

from __future__ import annotations

from typing import Any

from dltrain.sweeps.samplers.objectives import Mode
from dltrain.sweeps.samplers.pruning import AtLeastTwo, NonNegativeInt, PrunerName
from dltrain.sweeps.samplers.search import SearchSampler
from dltrain.sweeps.samplers.space import Values
from dltrain.types import PositiveInt


class TpeSampler(SearchSampler):
    """Searches with the tree-structured Parzen estimator (Bergstra et al. 2011).

    Trials that run count as bad ones, so that trials side by side differ. The first `random_trials`
    are drawn at random.
    """

    name = "tpe"
    adapts = True

    def __init__(
        self,
        trials: PositiveInt = 20,
        random_trials: PositiveInt = 10,
        metric: str | list[str | None] | None = None,
        mode: Mode | list[Mode] | None = None,
        seed: NonNegativeInt = 0,
        space: dict[str, Values] | None = None,
        pruner: PrunerName | None = None,
        pruner_trials: PositiveInt = 5,
        pruner_evaluations: PositiveInt = 1,
        pruner_factor: AtLeastTwo = 3,
    ) -> None:
        super().__init__(
            trials,
            metric,
            mode,
            seed,
            space,
            pruner,
            pruner_trials,
            pruner_evaluations,
            pruner_factor,
        )
        self.random_trials = random_trials

    def make_sampler(self, optuna: Any, seed: int) -> Any:
        return optuna.samplers.TPESampler(
            n_startup_trials=self.random_trials, constant_liar=True, seed=seed
        )
