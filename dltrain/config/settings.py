"""Settings of the run and of the trainer. Their annotations are their schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from dltrain.types import Fraction, Ge, Interval, Lt, Often, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Paths:
    """Folders: `data` holds datasets, `output` gets the folders of runs."""

    data: str = "data"
    output: str = "outputs"


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints that are kept, beside the newest ones.

    `keep` is the number of the best ones, by the watched metric. Those after every `every` epochs
    of a stage are never removed; None keeps none for its epoch.
    """

    keep: PositiveInt = 1
    every: PositiveInt | None = None


@dataclass(frozen=True)
class Lora:
    """Fine-tuning by products of two small matrices (`dltrain.weights.lora`).

    `rank` None trains the network itself. The product is multiplied by `alpha` / rank; None means
    alpha = rank. `dropout` is that of its inputs. `targets` are the layers that get a product, by
    default every linear layer; `train` are parameters that are trained as well.
    """

    rank: PositiveInt | None = None
    alpha: PositiveFloat | None = None
    dropout: Fraction = 0.0
    targets: list[str | int] = field(default_factory=list)
    train: list[str | int] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    """The top level of a configuration, beside the groups."""

    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    name: str | int | None = None
    paths: Paths = field(default_factory=Paths)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    plugins: list[str] = field(default_factory=list)
    expect: dict[str, str] = field(default_factory=dict)
    init: dict[str, str | int | None] = field(
        default_factory=lambda: {"from": None, "weights": None}
    )
    freeze: list[str | int] = field(default_factory=list)
    unfreeze_epoch: PositiveInt | None = None
    lr_factors: dict[str, PositiveFloat] = field(default_factory=dict)
    lora: Lora = field(default_factory=Lora)
    debug: Literal["smoke", "overfit", "profile"] | None = None
    resume: Literal["auto"] | None = None


@dataclass(frozen=True)
class Trainer:
    """The length of a run, and how often it evaluates, logs and saves.

    A step is one batch; with `accumulate` > 1 several steps make one update. The first of `epochs`,
    `steps` and `max_seconds` that is reached ends the run; None sets no such limit. `stage_steps`
    ends each stage after so many steps of its own. `watch` None is the metric that the task itself
    watches; `mode` None is the direction that the task declares.

    `save_every` is in steps, or "2ep", "30s", "10min"; None saves after epochs, if that takes no
    more than 1 % of the time. Up to `skip_nonfinite` updates in a row are skipped if their
    gradient is infinite or NaN, then the run ends. `on_oom` halve: a batch that does not fit in
    memory is trained in halves, which still make one update.
    """

    epochs: PositiveInt | None = 5
    steps: PositiveInt | None = None
    stage_steps: PositiveInt | None = None
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
