"""Pruning of a network that predicts numbers; see `NetworkPruning` for the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from torch import Tensor, nn

from dltrain.engine import Direction, Stage
from dltrain.optim import Optim
from dltrain.tasks.compression.pruned.dense_reference import NoReference
from dltrain.tasks.compression.pruned.rewinding import NONE, rewinding_of
from dltrain.tasks.compression.pruned.selection import Schedule, Scope, fractions
from dltrain.tasks.compression.pruned.stages import (
    MODEL,
    Kind,
    PruningStages,
    optim_of_rest,
    pruner_of,
    require_combination,
    shape_before_loading,
)
from dltrain.tasks.compression.pruning import FIGURES
from dltrain.tasks.regression import Regression
from dltrain.types import Data, Ge, Gt, Lt, PositiveInt


class RegressionPruning(Regression):
    """Trains a network that predicts numbers, then removes its smallest weights in rounds.

    Stages and settings are those of `NetworkPruning`, scores those of a regression and the sparsity
    of each layer.

    Raises:
        ValueError: The network cannot be pruned in this way, or the data has classes.
    """

    divisible = False
    networks = ("finetune",)

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        sparsity: Annotated[float, Gt(0), Lt(1)] = 0.9,
        kind: Kind = "weights",
        scope: Scope = "layer",
        rounds: PositiveInt = 1,
        schedule: Schedule = "cubic",
        train_epochs: Annotated[int, Ge(0)] = 5,
        rewind: str = NONE,
        skip: tuple[str | int, ...] = (),
        watch: str = "val/mse",
        mode: Direction | None = None,
    ) -> None:
        super().__init__(data, model, loss, optim, epochs, watch, mode)
        require_combination(kind, rewind)
        self.fractions = fractions(schedule, sparsity, rounds)
        self.train_epochs = train_epochs
        self.rewinding = rewinding_of(rewind, model, train_epochs)
        self.pruner = pruner_of(kind, model, data.spec, scope, skip)
        self.optim_of_rest = optim_of_rest(self.pruner, optim)
        self.register_load_state_dict_pre_hook(shape_before_loading)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train" of the dense network, then one for each round of pruning."""
        training = self.supervised()
        stages = PruningStages(
            data=self.data,
            dense=replace(training, epochs=self.train_epochs),
            pruned=replace(training, optim=self.optim_of_rest, evaluate=self.evaluate_pruned),
            pruner=self.pruner,
            rewinding=self.rewinding,
            reference=NoReference(),
            fractions=self.fractions,
        )
        yield from stages.stages()

    def evaluate_pruned(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores of the pruned network, its sparsity, and its layers."""
        scores = self.evaluate(batches)
        if not scores:  # those of all processes are in the first one
            return {}
        figures = self.pruner.figures(self.model)
        return {**scores, **figures, "per_layer": self.pruner.table(self.model)}

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {**super().directions(), **FIGURES}

    def shape_like(self, weights: Mapping[str, Any]) -> None:
        """Resize the layers of the network to the shapes in `weights`; see `ShapesNetwork`."""
        self.pruner.fit(self.model, weights, MODEL)
