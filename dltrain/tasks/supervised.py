"""The stage of every task that has one network and one loss: shared by those tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import Tensor, nn

from dltrain.engine import Stage
from dltrain.optim import Optim
from dltrain.types import DataSplit


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
) -> Stage:
    """Train `model` on batches (inputs (B, ...), targets (B, ...)) by the `loss` of its outputs, for `epochs` epochs."""
    optimizer = optim(model, epochs * len(train))

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        inputs, targets = batch
        value = loss(model(inputs), targets)
        optimizer.update(value)
        return {"loss": value.detach()}

    return Stage(
        name="train",
        epochs=epochs,
        batches=train,
        step=step,
        held_out=held_out if held_out.samples else None,
        evaluate=evaluate,
        optims=(optimizer,),
        watch=watch,
        mode=mode,
    )
