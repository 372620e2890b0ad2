"""The stages of every task that has one network and one loss: shared by those tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from dltrain.engine import Direction, Mean, Metrics, Stage
from dltrain.losses import training_mean
from dltrain.optim import Optim
from dltrain.types import AuxiliaryHeads, DataSplit
from dltrain.weights.freezing import Freezing


def with_heads(
    loss: nn.Module, outputs: tuple[Tensor, ...], targets: Tensor, head_weight: float
) -> tuple[Tensor, Tensor | int]:
    """Return the loss of a network's own outputs plus `head_weight` times that of each auxiliary
    head, and its weight.

    The first of `outputs` is the network's own; see `AuxiliaryHeads` and `training_mean`.
    """
    own, weight = training_mean(loss, outputs[0], targets)
    heads = [training_mean(loss, head, targets)[0] for head in outputs[1:]]
    total: Tensor = own + head_weight * sum(heads)
    return total, weight


def supervised(
    train: DataSplit,
    held_out: DataSplit,
    model: nn.Module,
    loss: nn.Module,
    optim: Callable[[nn.Module, int], Optim],
    epochs: int,
    evaluate: Callable[[Iterable[Any]], dict[str, Any]],
    watch: str,
    mode: Direction,
    freezing: Freezing | None = None,
) -> Iterator[Stage]:
    """Train `model` on batches (inputs (B, ...), targets (B, ...)) by the `loss` of its outputs, for `epochs` epochs.

    It is one stage, but for layers that are frozen at first: then the epochs with them are a stage of their own. A model
    with `AuxiliaryHeads` is trained by the weighted sum of all its losses, and that is the loss that is logged.
    """
    head_weight = (
        model.auxiliary_weight
        if isinstance(model, AuxiliaryHeads) and model.auxiliary_heads()
        else None
    )

    def stage(name: str, epochs: int) -> Stage:
        optimizer = optim(model, epochs * len(train))

        def step(batch: tuple[Tensor, Tensor]) -> Metrics:
            inputs, targets = batch
            outputs = model(inputs)
            if head_weight is None:
                value, weight = training_mean(loss, outputs, targets)
            else:
                value, weight = with_heads(loss, outputs, targets, head_weight)
            optimizer.update(value, weight=weight)
            return {"loss": Mean(value.detach(), weight)}

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
