"""Pruning of a classifier: dense training, then rounds that remove weights or channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from torch import Tensor, nn

from dltrain.engine import Direction, Stage
from dltrain.optim import Optim
from dltrain.tasks.classification import Classification
from dltrain.tasks.compression.pruned.dense_reference import DenseReference, NoReference
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
from dltrain.tasks.images.views import View
from dltrain.types import Data, Ge, Gt, Lt, PositiveInt

FIGURES: dict[str, Direction | None] = {
    "sparsity": None,
    "parameter_sparsity": None,
    "nonzero_parameters": None,
}
REFERENCE: dict[str, Direction | None] = {"dense_accuracy": "max", "accuracy_drop": "min"}


class NetworkPruning(Classification):
    """Trains a classifier, then removes its smallest weights in rounds, each with fine-tuning.

    The stage "train" trains the dense network for `train_epochs` epochs; with 0 the initial weights
    are pruned, such as those of init.from=RUN. The stages "prune_1" to "prune_`rounds`" each remove
    weights by magnitude, then train the others for trainer.epochs epochs; `sparsity` is the
    fraction that is gone after the last one, by `schedule` (see `fractions`). The settings
    `optimizers.finetune` are those of these stages.

    With `kind` "weights" single weights stay at zero, with "channels" whole channels are removed,
    and the network becomes smaller. `scope` says whether all layers compete or each loses the same
    fraction. `skip` names layers that keep everything. `rewind` resets what is left to the initial
    weights or those after update N of the stage "train". With `compare_dense` the checkpoint has
    the dense network too, and every evaluation of a pruned network scores both. Scores are those of
    a classification, and the sparsity of each layer.

    Raises:
        ValueError: The network cannot be pruned in this way, or the data has no classes.
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
        compare_dense: bool = False,
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        views: tuple[View, ...] = (),
    ) -> None:
        super().__init__(data, model, loss, optim, epochs, watch, mode, top_k, metrics, views)
        if used := self.metrics.keys() & {*FIGURES, *REFERENCE}:
            raise ValueError(f"metrics.{min(used)}: a score of pruning has this name")
        require_combination(kind, rewind)
        self.fractions = fractions(schedule, sparsity, rounds)
        self.train_epochs = train_epochs
        self.rewinding = rewinding_of(rewind, model, train_epochs)
        self.pruner = pruner_of(kind, model, data.spec, scope, skip)
        self.optim_of_rest = optim_of_rest(self.pruner, optim)
        self.reference = DenseReference(model) if compare_dense else NoReference()
        self.register_load_state_dict_pre_hook(shape_before_loading)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train" of the dense network, then one for each round of pruning."""
        training = self.supervised()
        stages = PruningStages(
            data=self.data,
            dense=replace(training, epochs=self.train_epochs),
            pruned=replace(
                training,
                optim=self.optim_of_rest,
                evaluate=self.evaluate_pruned,
                combines_scores=not self.reference.is_kept,
            ),
            pruner=self.pruner,
            rewinding=self.rewinding,
            reference=self.reference,
            fractions=self.fractions,
        )
        yield from stages.stages()

    def evaluate_pruned(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores of the pruned network, its sparsity, and its layers."""
        scores = self.evaluate(self.reference.watching(batches, self.views))
        if not scores:  # those of all processes are in the first one
            return {}
        return {
            **scores,
            **self.reference.figures(scores["accuracy"]),
            **self.pruner.figures(self.model),
            "per_layer": self.pruner.table(self.model),
        }

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        more = REFERENCE if self.reference.is_kept else {}
        return {**super().directions(), **FIGURES, **more}

    def shape_like(self, weights: Mapping[str, Any]) -> None:
        """Resize the layers of the network to the shapes in `weights`; see `ShapesNetwork`."""
        self.pruner.fit(self.model, weights, MODEL)
