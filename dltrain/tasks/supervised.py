"""Supervised training of one network by one loss: the stages that several tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dltrain.engine import Direction, Mean, Metrics, Objective, Stage
from dltrain.losses import training_mean
from dltrain.optim import Optim
from dltrain.tasks.outputs import Expected, OutputCheck
from dltrain.types import AuxiliaryHeads, Data, DataSplit
from dltrain.weights.freezing import Freezing


def validation_split(data: Data) -> DataSplit | None:
    """Return the validation split of `data`; None where it has no samples."""
    return data.val if data.val.samples else None


def loss_with_heads(
    loss: nn.Module, outputs: tuple[Tensor, ...], targets: Tensor, head_weight: float
) -> tuple[Tensor, Tensor | int]:
    """Return the loss of a network with auxiliary heads, and the weight of the batch.

    It is the loss of the network's own logits, the first of `outputs`, plus `head_weight` times
    the loss of each head; see `AuxiliaryHeads` and `training_mean`.
    """
    own_logits, *head_logits = outputs
    own_loss, weight = training_mean(loss, own_logits, targets)
    head_losses = [training_mean(loss, logits, targets)[0] for logits in head_logits]
    total: Tensor = own_loss + head_weight * sum(head_losses)
    return total, weight


@dataclass(frozen=True)
class Supervised:
    """Supervised training of a network by the `loss` of its outputs.

    Batches are (inputs (B, ...), targets (B, ...)). A network with `AuxiliaryHeads` is trained by
    the weighted sum of all its losses, which is also the loss that is logged. `combines_scores` is
    that of the stages.
    """

    model: nn.Module
    loss: nn.Module
    optim: Callable[[nn.Module, int], Optim]
    epochs: int
    evaluate: Callable[[Iterable[Any]], dict[str, Any]]
    watch: str
    mode: Direction
    expected: Expected
    freezing: Freezing | None = None
    combines_scores: bool = False

    def stages(self, train: DataSplit, held_out: DataSplit | None) -> Iterator[Stage]:
        """Yield the stage "train", after a stage "frozen" where layers are frozen at first."""
        frozen_epochs = 0
        if self.freezing is not None:
            frozen_epochs = self.freezing.epochs
        if self.freezing is not None and frozen_epochs:
            yield self.stage("frozen", frozen_epochs, train, held_out)
            self.freezing.thaw()
        yield self.stage("train", self.epochs - frozen_epochs, train, held_out)

    def stage(self, name: str, epochs: int, train: DataSplit, held_out: DataSplit | None) -> Stage:
        """Return a stage that trains the network, with an optimizer of its own."""
        """Return a stage that trains the network for some epochs."""
        optim = self.optim(self.model, epochs * len(train))
        batch_loss = self.batch_loss()
        output_check = OutputCheck(self.model, self.loss, self.expected)

        def step(batch: tuple[Tensor, Tensor]) -> Metrics:
            inputs, targets = batch
            outputs = self.model(inputs)
            output_check.require_outputs(inputs, outputs, targets)
            value, weight = batch_loss(outputs, targets)
            output_check.require_gradient(value)
            optim.update(value, weight=weight)
            return {"loss": Mean(value.detach(), weight)}

        return Stage(
            name=name,
            epochs=epochs,
            batches=train,
            step=step,
            held_out=held_out,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=self.mode,
            replayable=True,
            objective=Objective(self.model, batch_loss),
            combines_scores=self.combines_scores,
        )

    def batch_loss(self) -> Callable[[Any, Tensor], tuple[Tensor, Tensor | int]]:
        """Return the function of outputs and targets that gives a batch's loss and its weight."""
        loss = self.loss
        if isinstance(self.model, AuxiliaryHeads) and self.model.auxiliary_heads():
            head_weight = self.model.auxiliary_weight
            return lambda outputs, targets: loss_with_heads(loss, outputs, targets, head_weight)
        return lambda outputs, targets: training_mean(loss, outputs, targets)
