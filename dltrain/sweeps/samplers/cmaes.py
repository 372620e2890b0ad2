"""The sampler that moves a normal distribution towards the better trials (CMA-ES)."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from dltrain.errors import ConfigError, UsageError
from dltrain.shell import shell_word
from dltrain.sweeps.samplers.dimensions import Choices
from dltrain.sweeps.samplers.search import SearchSampler

log = logging.getLogger("dltrain")
MISSING = 'sweep=cmaes needs cmaes: pip install "dltrain-cli[sweep]"'


class CmaEsSampler(SearchSampler):
    """Searches numbers with CMA-ES (Hansen 2016), generation by generation.

    Choices without an order are drawn at random. Its state is not in the journal: a resume finds it
    by proposing the earlier trials again.
    """

    name = "cmaes"
    adapts = True
    keeps_state = True

    def require_fit(self) -> None:
        """Raise an error unless there are numbers to search, and one objective."""
        if importlib.util.find_spec("cmaes") is None:
            raise UsageError(MISSING)
        if len(self.objectives) > 1:
            why = "searches for one metric; with several use sweep=tpe or sweep=random"
            raise ConfigError([("sweep=cmaes", why)])
        dimensions = self.searched.dimensions
        choices = [one.name for one in dimensions if isinstance(one, Choices)]
        if len(choices) == len(dimensions):
            example = shell_word("optimizer.lr=interval(1e-4,1e-1)")
            why = f"searches numbers, such as {example}; use sweep=tpe"
            raise ConfigError([("sweep=cmaes", why)])
        if choices:
            log.warning(f"sweep=cmaes draws {', '.join(choices)} at random; sweep=tpe searches it")

    def make_sampler(self, optuna: Any, seed: int) -> Any:
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            warn_independent_sampling=False,
            consider_pruned_trials=self.rule.name in ("halving", "hyperband"),
        )
