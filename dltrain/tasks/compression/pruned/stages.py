"""The stages of a pruning, whatever the network predicts: dense training, then rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from dltrain.engine import Metrics, Stage
from dltrain.optim import Optim
from dltrain.tasks.compression.pruned.channels import Channels
from dltrain.tasks.compression.pruned.dense_reference import NoReference
from dltrain.tasks.compression.pruned.rewinding import NONE, Rewinding
from dltrain.tasks.compression.pruned.selection import Scope
from dltrain.tasks.compression.pruned.weight_masks import WeightMasks
from dltrain.tasks.supervised import Supervised, validation_split
from dltrain.types import Data, Spec

Kind = Literal["weights", "channels"]
Pruner = WeightMasks | Channels
MODEL = "model."  # begins the names of the network's weights in a state


@dataclass(frozen=True)
class PruningStages:
    """A stage that trains the dense network by `dense`, then one for each of `fractions`.

    Each of the latter prunes until that fraction is gone, and trains what is left by `pruned`.
    """

    data: Data
    dense: Supervised
    pruned: Supervised
    pruner: Pruner
    rewinding: Rewinding
    reference: NoReference
    fractions: Sequence[float]

    def stages(self) -> Iterator[Stage]:
        """Yield the stages "train", "prune_1" and so on."""
        network = self.dense.model
        if self.dense.epochs:
            self.pruner.reset()
        self.rewinding.begin(network)
        yield self.rewinding.observed(self._dense_stage())
        self.reference.keep(network)
        for number, fraction in enumerate(self.fractions, start=1):
            self.pruner.prune(network, fraction)
            self.rewinding.rewind(network)
            self.pruner.apply_to(network)
            yield self._pruned_stage(number)

    def _dense_stage(self) -> Stage:
        """Return the stage that trains all weights."""
        stage = self._stage(self.dense, "train")

        def step(batch: Any) -> Metrics:
            self.pruner.require_library()
            return stage.step(batch)

        return replace(stage, step=step)

    def _pruned_stage(self, number: int) -> Stage:
        """Return the stage that trains what round `number` has left."""
        stage = self._stage(self.pruned, f"prune_{number}")
        return replace(stage, objective=None)  # the penalty belongs to this network's weights

    def _stage(self, training: Supervised, name: str) -> Stage:
        held_out = validation_split(self.data)
        return training.stage(name, training.epochs, self.data.train, held_out)


def optim_of_rest(pruner: Pruner, optim: Callable[..., Optim]) -> Callable[[nn.Module, int], Optim]:
    """Return what makes the optimizer of a pruned network, which holds removed weights at zero."""

    def make(network: nn.Module, steps: int) -> Optim:
        made = optim(network, steps, "finetune")
        made.penalties = (*made.penalties, *pruner.penalties(network))
        return made

    return make


def pruner_of(
    kind: Kind, network: nn.Module, spec: Spec, scope: Scope, skip: Sequence[str | int]
) -> Pruner:
    """Return what removes weights or channels of `network`.

    Raises:
        ValueError: The network cannot be pruned in this way.
    """
    if kind == "weights":
        return WeightMasks(network, scope, skip)
    return Channels(network, spec, scope, skip)


def require_combination(kind: Kind, rewind: str) -> None:
    """Raise ValueError if channels are to be removed and rewound."""
    if kind == "channels" and rewind != NONE:
        raise ValueError("rewind is for weights that are left: set kind=weights or rewind=none")


def shape_before_loading(task: Any, state: dict[str, Any], prefix: str, *others: Any) -> None:
    """Give the network of a task the shapes of a state that is about to be loaded."""
    task.pruner.fit(task.model, state, prefix + MODEL)
