"""The settings that belong to no choice: the run's own and the trainer's. Their annotations are their schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from dltrain.types import Ge, Interval, Lt, Often, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Paths:
    """Where data sets are looked for, and where run folders go."""

    data: str = "data"
    output: str = "outputs"


@dataclass(frozen=True)
class Settings:
    """The top level of a configuration, beside the groups."""

    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    name: str | int | None = None
    paths: Paths = field(default_factory=Paths)
    plugins: list[str] = field(default_factory=list)
    expect: dict[str, str] = field(default_factory=dict)
    init: dict[str, str | int | None] = field(
        default_factory=lambda: {"from": None, "weights": None}
    )
    freeze: list[str | int] = field(default_factory=list)
    unfreeze_epoch: PositiveInt | None = None
    lr_factors: dict[str, PositiveFloat] = field(default_factory=dict)
    debug: Literal["smoke", "overfit", "profile"] | None = None


@dataclass(frozen=True)
class Trainer:
    """How long and how often. A step is one batch; with `accumulate` > 1 several of them make one update.

    The first of `epochs`, `steps` and `max_seconds` to be reached ends the run; None sets no such limit. `watch` None is
    the metric that the task itself watches. `mode` None is the way that the task declares for it.

    `save_every` is in steps, or "2ep", "30s", "10min"; None saves after epochs, as long as that takes no more than a
    hundredth of the time. `skip_nonfinite` updates in a row whose gradient is infinite or not a number are left out before
    the run ends. `on_oom` halve: a batch that does not fit in memory is trained in halves, of one update all the same.
    """

    epochs: PositiveInt | None = 5
    steps: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    evaluate_every: PositiveInt | None = None
    log_every: PositiveInt = 50
    watch: str | None = None
    mode: Literal["max", "min"] | None = None
    save_every: Often | None = None
    on_save_error: Literal["continue", "stop"] = "continue"
    skip_nonfinite: Annotated[int, Ge(0)] = 0
    on_oom: Literal["stop", "halve"] = "stop"

    def __post_init__(self) -> None:
        if self.save_every is not None:
            try:
                Interval.parse(self.save_every)
            except ValueError as e:
                raise ValueError(f"save_every: {e}") from e
