"""Pruning of a classifier: dense training, then rounds that remove weights or channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from dltrain.engine import Direction, Metrics, Stage
from dltrain.optim import Optim
from dltrain.tasks.classification import Classification
from dltrain.tasks.compression.channels import Channels
from dltrain.tasks.compression.dense_reference import DenseReference, NoReference
from dltrain.tasks.compression.rewinding import NONE, rewinding_of
from dltrain.tasks.compression.selection import Schedule, Scope, fractions
from dltrain.tasks.compression.weight_masks import WeightMasks
from dltrain.tasks.images.views import View
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data, Ge, Gt, Lt, PositiveInt

MODEL = "model."  # begins the names of the network's weights in a state
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
        kind: Literal["weights", "channels"] = "weights",
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
        if kind == "channels" and rewind != NONE:
            raise ValueError("rewind is for weights that are left: set kind=weights or rewind=none")
        self.fractions = fractions(schedule, sparsity, rounds)
        self.train_epochs = train_epochs
        self.make_optim = optim
        self.rewinding = rewinding_of(rewind, model, train_epochs)
        self.pruner: WeightMasks | Channels
        if kind == "weights":
            self.pruner = WeightMasks(model, scope, skip)
        else:
            self.pruner = Channels(model, data.spec, scope, skip)
        self.reference = DenseReference(model) if compare_dense else NoReference()
        self.register_load_state_dict_pre_hook(shape_before_loading)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train" of the dense network, then one for each round of pruning."""
        if self.train_epochs:
            self.pruner.reset()
        self.rewinding.begin(self.model)
        yield self.rewinding.observed(self._dense_stage())
        self.reference.keep(self.model)
        for number, fraction in enumerate(self.fractions, start=1):
            self.pruner.prune(self.model, fraction)
            self.rewinding.rewind(self.model)
            self.pruner.apply_to(self.model)
            yield self._pruned_stage(number)

    def _dense_stage(self) -> Stage:
        """Return the stage that trains all weights."""
        held_out = validation_split(self.data)
        stage = self.supervised().stage("train", self.train_epochs, self.data.train, held_out)

        def step(batch: Any) -> Metrics:
            self.pruner.require_library()
            return stage.step(batch)

        return replace(stage, step=step)

    def _pruned_stage(self, number: int) -> Stage:
        """Return the stage that trains what round `number` has left."""
        training = replace(
            self.supervised(),
            optim=self._optim_of_rest,
            evaluate=self.evaluate_pruned,
            combines_scores=not self.reference.is_kept,
        )
        held_out = validation_split(self.data)
        stage = training.stage(f"prune_{number}", self.epochs, self.data.train, held_out)
        return replace(stage, objective=None)  # the penalty belongs to this network's weights

    def _optim_of_rest(self, network: nn.Module, steps: int) -> Optim:
        """Return the optimizer of a pruned network."""
        optim = self.make_optim(network, steps, "finetune")
        optim.penalties = (*optim.penalties, *self.pruner.penalties(network))
        return optim

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
        """Give the network the shapes that it has in `weights`; see `ShapesNetwork`."""
        self.pruner.fit(self.model, weights, MODEL)


def shape_before_loading(
    task: NetworkPruning, state: dict[str, Any], prefix: str, *others: Any
) -> None:
    """Give the network of a task the shapes of a state that is about to be loaded."""
    task.pruner.fit(task.model, state, prefix + MODEL)
