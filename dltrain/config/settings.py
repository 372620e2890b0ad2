"""The settings that belong to no choice: the run's own and the trainer's. Their annotations are their schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from dltrain.types import Ge, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Paths:
    """Where data sets are looked for, and where run folders go."""

    data: str = "data"
    output: str = "outputs"


@dataclass(frozen=True)
class Settings:
    """The top level of a configuration, beside the groups."""

    seed: Annotated[int, Ge(0)] = 0
    name: str | int | None = None
    paths: Paths = field(default_factory=Paths)
    plugins: list[str] = field(default_factory=list)
    expect: dict[str, str] = field(default_factory=dict)
    init: dict[str, str | int | None] = field(default_factory=lambda: {"from": None})
    debug: Literal["smoke", "overfit", "profile"] | None = None


@dataclass(frozen=True)
class Trainer:
    """How long and how often. A step is one batch; with `accumulate` > 1 several of them make one update.

    The first of `epochs`, `steps` and `max_seconds` to be reached ends the run; None sets no such limit. `watch` None is
    the metric that the task itself watches. `mode` None means that less is better of a loss or an error, and more of
    anything else.
    """

    epochs: PositiveInt | None = 5
    steps: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    evaluate_every: PositiveInt | None = None
    log_every: PositiveInt = 50
    watch: str | None = None
    mode: Literal["max", "min"] | None = None

    def better(self, watch: str) -> Literal["max", "min"]:
        """Which way the metric `watch` is better: mse, mse_price and relative_error are errors."""
        less = {"loss", "mse", "rmse", "mae", "error", "perplexity"}
        words = watch.rpartition("/")[2].split("_")
        return self.mode or ("min" if less & {words[0], words[-1]} else "max")
