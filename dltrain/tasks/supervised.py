"""The stages of every task that has one network and one loss: shared by those tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from torch import Tensor, nn

from dltrain.engine import Stage
from dltrain.freezing import Freezing
from dltrain.optim import Optim
from dltrain.types import AuxiliaryHeads, DataSplit


class WithHeads(nn.Module):
    """The `loss` of a network's outputs and `weight` times that of each of its auxiliary heads (see `AuxiliaryHeads`)."""

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight

    def forward(self, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        own, *others = (self.loss(o, targets) for o in outputs)
        total: Tensor = own + self.weight * sum(others)
        return total


def supervised(
    train: DataSplit,
    held_out: DataSplit,
    model: nn.Module,
    loss: nn.Module,
    optim: Callable[[nn.Module, int], Optim],
    epochs: int,
    evaluate: Callable[[Iterable[Any]], dict[str, Any]],
    watch: str,
    mode: Literal["max", "min"],
    freezing: Freezing | None = None,
) -> Iterator[Stage]:
    """Train `model` on batches (inputs (B, ...), targets (B, ...)) by the `loss` of its outputs, for `epochs` epochs.

    It is one stage, but for layers that are frozen at first: then the epochs with them are a stage of their own. A model
    with `AuxiliaryHeads` is trained by the weighted sum of all its losses, and that is the loss that is logged.
    """
    if isinstance(model, AuxiliaryHeads) and model.auxiliary_heads():
        loss = WithHeads(loss, model.auxiliary_weight)

    def stage(name: str, epochs: int) -> Stage:
        optimizer = optim(model, epochs * len(train))

        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            inputs, targets = batch
            value = loss(model(inputs), targets)
            optimizer.update(value)
            return {"loss": value.detach()}

        return Stage(
            name=name,
            epochs=epochs,
            batches=train,
            step=step,
            held_out=held_out if held_out.samples else None,
            evaluate=evaluate,
            optims=(optimizer,),
            watch=watch,
            mode=mode,
        )

    frozen = freezing.epochs if freezing else 0
    if freezing and frozen:
        yield stage("frozen", frozen)
        freezing.thaw()
    yield stage("train", epochs - frozen)
