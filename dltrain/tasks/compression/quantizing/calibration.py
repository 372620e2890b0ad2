"""Observes the inputs of layers while a network runs on batches of training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.tasks.compression.quantizing.observing import ObservedRange

InputObserver: TypeAlias = "ObservedRange | MeanSquare"


class MeanSquare(nn.Module):
    """The mean square of each of the F numbers of vectors (..., F) that pass one place."""

    total: Tensor
    count: Tensor

    def __init__(self, features: int, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(features, device=device))
        self.register_buffer("count", torch.zeros((), device=device))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Add vectors x (..., F)."""
        rows = x.detach().float().reshape(-1, x.shape[-1])
        self.total += rows.square().sum(0)
        self.count += len(rows)

    def mean(self) -> Tensor:
        """Return the mean squares (F,)."""
        return self.total / self.count.clamp_min(1)


@contextmanager
def observing(model: nn.Module, names: Sequence[str], observers: nn.ModuleList) -> Iterator[None]:
    """Let each of `observers` see the inputs of the layer of `model` with its name in `names`."""
    handles = []
    try:
        for name, observer in zip(names, observers, strict=True):
            layer = model.get_submodule(name)
            handles.append(layer.register_forward_pre_hook(_observation(observer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _observation(observer: Any) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """Return a hook that shows the first input of a layer to an observer."""

    def observe(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        observer.observe(inputs[0])

    return observe


def called_layers(model: nn.Module, names: Sequence[str], run: Callable[[], Any]) -> list[str]:
    """Return those of the layers `names` that `run` calls."""
    called = []
    handles = []
    for name in names:

        def note(layer: nn.Module, inputs: Any, name: str = name) -> None:
            called.append(name)

        handles.append(model.get_submodule(name).register_forward_pre_hook(note))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in names if name in set(called)]
