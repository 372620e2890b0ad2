"""The sampler that searches architectures: accuracy against the size of the network, or its time.

A survey is Elsken et al. 2019, "Neural Architecture Search". The values come from TPE with several
objectives (Ozaki et al. 2020, "Multiobjective Tree-Structured Parzen Estimator").
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dltrain.config.compose import Composed
from dltrain.config.overrides import parse
from dltrain.errors import ConfigError
from dltrain.sweeps.samplers.dimensions import Integers, Value
from dltrain.sweeps.samplers.front_pruning import FrontJudge
from dltrain.sweeps.samplers.network_sizes import NetworkSizes
from dltrain.sweeps.samplers.objectives import VAL, Mode
from dltrain.sweeps.samplers.pruning import AtLeastTwo, Judging, NonNegativeInt, PrunerName
from dltrain.sweeps.samplers.search import MAX_DRAWS
from dltrain.sweeps.samplers.space import Values, read_space, space_overrides
from dltrain.sweeps.samplers.tpe import TpeSampler
from dltrain.sweeps.trial import Trial
from dltrain.types import PositiveInt

log = logging.getLogger("dltrain")
MODEL = "model"
MAX_TOO_LARGE = 20  # networks that are drawn in turn for a trial until one is small enough


class ArchitectureSampler(TpeSampler):
    """Searches the settings of a network by TPE, for one objective or several.

    The space is that of the model in `spaces`, with the keys of `space` in addition or instead. The
    upper end of an integer interval of `spaces` is lowered to what the data allows: a network that
    would halve its images too often is not in the space. Other networks that cannot be built are
    failed trials, which cost no time. Values of networks that are too large are drawn again, and
    are a failed trial if no smaller one is found.

    With several objectives a trial is pruned if it is worse than the median of the trials with no
    larger networks (`FrontJudge`).

    Args:
        spaces: The space of each model, by its name in the group `model`.
        max_parameters: The number of parameters that a network may have; None for any.
        trials: See `SearchSampler`, as for the others.
        random_trials: See `TpeSampler`.
        metric: None in a list is the metric that the runs watch.
        mode: See `SearchSampler`.
        seed: See `SearchSampler`.
        space: See `SearchSampler`.
        pruner: See `SearchSampler`; "median" only, with several objectives.
        pruner_trials: See `SearchSampler`.
        pruner_evaluations: See `SearchSampler`.
        pruner_factor: See `SearchSampler`.
    """

    name = "architecture"

    def __init__(
        self,
        spaces: dict[str, dict[str, Values]] | None = None,
        max_parameters: PositiveInt | None = None,
        trials: PositiveInt = 30,
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
            random_trials,
            metric,
            mode,
            seed,
            space,
            pruner,
            pruner_trials,
            pruner_evaluations,
            pruner_factor,
        )
        self.spaces = dict(spaces or {})
        self.max_parameters = max_parameters
        self.sizes = NetworkSizes()

    def prepare(self, base: Composed, typed: Sequence[str]) -> None:
        parsed, _ = parse(list(typed), sweep=True)
        swept = {override.key_or_group for override in parsed if override.is_sweep_override()}
        if MODEL in swept:
            log.info("sweep.spaces is not read: the command searches over model")
            return
        fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
        own = self.spaces.get(str(base.choices.get(MODEL)), {})
        keys = {override.key_or_group for override in parsed} | self.space.keys()
        open_space = {key: value for key, value in own.items() if key not in keys}
        limited = {key: self.limited(key, value, fixed) for key, value in open_space.items()}
        self.space = {**limited, **self.space}

    def limited(self, key: str, value: Values, fixed: Sequence[str]) -> Values:
        """Return the values of a key, an integer interval up to the last that can be built.

        `fixed` are the overrides of all runs.
        """
        [dimension] = read_space(space_overrides({key: value})).dimensions
        if not isinstance(dimension, Integers) or dimension.step != 1:
            return value
        high = dimension.high
        while high > dimension.low and self.sizes.problem([*fixed, f"{key}={high}"]):
            high -= 1
        if high == dimension.high:
            return value
        log.info(f"{key} is at most {high}: with {high + 1} no network can be built for this data")
        if high == dimension.low:
            return high
        interval = f"int(interval({dimension.low},{high}))"
        return f"tag(log,{interval})" if dimension.log else interval

    def drawn(self, number: int, attempt: int) -> dict[str, Value]:
        values = super().drawn(number, attempt)
        if self.max_parameters is None:
            return values
        for further in range(1, MAX_TOO_LARGE):
            if not self.sizes.is_above(self.searched.overrides(values), self.max_parameters):
                return values
            values = super().drawn(number, attempt + further * MAX_DRAWS)
        return values

    def refuse(self, trial: Trial) -> str:
        return self.sizes.problem(trial.overrides, self.max_parameters)

    def make_judge(self, evaluations: int | None) -> Judging:
        if len(self.objectives) == 1:
            return super().make_judge(evaluations)
        first = self.objectives[0]
        if self.rule.name != "median":
            why = "compares one metric; sweep.pruner=median compares networks of a size"
            raise ConfigError([(f"sweep.pruner={self.rule.name}", why)])
        if not first.metric.startswith(VAL):
            why = (
                f"compares evaluations, which do not measure {first.metric}; name a val/ one first"
            )
            raise ConfigError([("sweep.pruner", why)])
        return FrontJudge(
            self.rule, first, evaluations, lambda trial: self.sizes.parameters(trial.overrides)
        )

    def key(self) -> str:
        return f"{super().key()} {self.max_parameters}"
