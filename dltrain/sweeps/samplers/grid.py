"""The sampler that tries every combination of the swept values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from dltrain.config.command_groups import of_run
from dltrain.config.grid import swept_keys
from dltrain.runs.identity import identity
from dltrain.runs.keys import HASH_CHARS
from dltrain.sweeps.expansion import checked_jobs
from dltrain.sweeps.samplers.sampler import Proposal, Sampler


class GridSampler(Sampler):
    """Tries every combination of the swept values; the last key varies fastest.

    `space` has further keys with their values, as on the command line. `metric` decides which
    trial is the best; None is the metric that the runs watch.
    """

    is_exhaustive = True

    def __init__(
        self,
        metric: str | Sequence[str] | None = None,
        space: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self.metric = metric if metric is None or isinstance(metric, str) else list(metric)
        self.space = dict(space or {})

    def open(self, overrides: list[str]) -> None:
        self.jobs, configurations = checked_jobs(overrides)
        self.first = configurations[0]
        self.identities = [identity(of_run(one).public) for one in configurations]
        self.swept = swept_keys(self.jobs)

    def total(self) -> int:
        return len(self.jobs)

    def key(self) -> str:
        return hashlib.sha256(" ".join(self.identities).encode()).hexdigest()[:HASH_CHARS]

    def ask(self, number: int) -> Proposal | None:
        if number >= len(self.jobs):
            return None
        return Proposal(self.jobs[number], self.identities[number])
