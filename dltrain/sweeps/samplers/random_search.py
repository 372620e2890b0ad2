"""The sampler that draws the values of each trial at random."""

from __future__ import annotations

from typing import Any

from dltrain.sweeps.samplers.search import SearchSampler


class RandomSampler(SearchSampler):
    """Draws values independently of other trials (Bergstra and Bengio 2012)."""

    name = "random"

    def make_sampler(self, optuna: Any, seed: int) -> Any:
        return optuna.samplers.RandomSampler(seed=seed)
