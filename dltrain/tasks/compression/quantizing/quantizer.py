"""Quantizes one network by one method: checks, calibration, conversion, and what a state needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.tasks.compression.quantized.layers import Range
from dltrain.tasks.compression.quantized.rounding import activation_parameters
from dltrain.tasks.compression.quantizing.calibration import (
    MeanSquare,
    called_layers,
    observing,
)
from dltrain.tasks.compression.quantizing.conversion import (
    Layers,
    Method,
    convert_dynamic,
    convert_int4,
    convert_static,
    make_aware,
)
from dltrain.tasks.compression.quantizing.observing import ObservedRange, Observer

MAX_NAMED = 8  # layers in a message


@dataclass(frozen=True)
class QuantizerSettings:
    """The settings of a quantization; see `Quantization` for the fields."""

    method: Method
    observer: Observer = "mse"
    activation_bits: int = 8
    group_size: int = 32
    skip: Sequence[str] = ()


class Quantizer:
    """Quantizes `model`, in its place.

    First `prepare`; then let the model run within `observing` on batches of training data; then
    `make_aware` for quantization-aware training, or not; then `convert`. `observers` hold what was
    seen, and belong into the state of a task until the model is converted. `reference` is a copy of
    the network as it was before.

    Raises:
        ValueError: A pattern of `skip` fits no layer, or the method cannot quantize the network.
    """

    def __init__(self, model: nn.Module, settings: QuantizerSettings) -> None:
        self.model = model
        self.settings = settings
        self.layers = Layers.of(model, settings.skip)
        self.observers = nn.ModuleList()
        self.observed: list[str] = []
        self.reference: nn.Module | None = None
        require_matches(model, settings.skip)
        require_suitable(self.layers, settings.method)

    def prepare(self, run: Callable[[], Any]) -> None:
        """Make the observers of the layers that `run` calls, which passes a batch through."""
        names = self._observable()
        if names:
            self.model.eval()  # in training, batch norm would learn from the batch
            with torch.no_grad():
                names = called_layers(self.model, names, run)
        self.observed = names
        self.observers.extend(self._observer(name) for name in names)

    def _observable(self) -> list[str]:
        """Return the names of the layers whose inputs the method has to see."""
        if self.settings.method == "dynamic":
            return []
        if self.settings.method == "int4":
            return list(self.layers.linear)
        return [*self.layers.convolutions, *self.layers.linear]

    def _observer(self, name: str) -> nn.Module:
        """Return the observer of a layer's inputs."""
        layer = self.model.get_submodule(name)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if self.settings.method == "int4":
            return MeanSquare(weight.shape[1], weight.device)
        return ObservedRange(weight.device)

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Let the observers see what passes the network, which is in evaluation mode."""
        self.model.eval()
        with torch.no_grad(), observing(self.model, self.observed, self.observers):
            yield

    def keep_reference(self) -> None:
        """Keep a copy of the network as it is now."""
        self.reference = copy.deepcopy(self.model).eval().requires_grad_(False)

    def make_aware(self) -> None:
        """Let the layers compute with rounded numbers, so that training gets used to it."""
        make_aware(self.model, self.layers, self._ranges())

    def convert(self) -> list[str]:
        """Quantize the network; return the names of the layers with weights that stay real."""
        if self.settings.method == "dynamic":
            convert_dynamic(self.model, self.layers)
        elif self.settings.method == "int4":
            importance = dict(zip(self.observed, self._mean_squares(), strict=True))
            for name, layer in self.layers.linear.items():
                importance.setdefault(name, torch.ones_like(layer.weight[0]))
            convert_int4(self.model, self.layers, importance, self.settings.group_size)
        else:
            convert_static(self.model, self.layers, self._ranges())
        self.layers = Layers({}, {}, {}, {})
        self.observed = []
        del self.observers[:]
        return real_layers(self.model)

    def _ranges(self) -> dict[str, Range]:
        """Return scale and zero point of the inputs of each observed layer."""
        ranges = {}
        bits = self.settings.activation_bits
        for name, observer in zip(self.observed, self.observers, strict=True):
            assert isinstance(observer, ObservedRange)
            lowest, highest = observer.range(self.settings.observer, bits)
            ranges[name] = activation_parameters(lowest, highest, bits)
        return ranges

    def _mean_squares(self) -> Iterator[Tensor]:
        """Yield the mean square of each input of the observed layers."""
        for observer in self.observers:
            assert isinstance(observer, MeanSquare)
            yield observer.mean()


def require_matches(model: nn.Module, patterns: Sequence[str]) -> None:
    """Raise ValueError for a pattern that fits the name of no layer with weights."""
    names = [name for name, layer in model.named_modules() if list(layer.parameters(False))]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"task.skip: no layer is called {pattern!r}; the layers are {listed(names)}"
            )


def require_suitable(layers: Layers, method: Method) -> None:
    """Raise ValueError if a method cannot quantize the layers of a network."""
    calibrated = method in ("static", "qat")
    if calibrated and layers.recurrent:
        raise ValueError(
            f"task.method={method} needs layers whose inputs have a fixed range; "
            f"{listed(layers.recurrent)} is recurrent: set task.method=dynamic"
        )
    if calibrated and not (layers.linear or layers.convolutions):
        raise ValueError(
            "this network has no linear layer and no convolution that can be quantized; set "
            "task.method=dynamic, or another model"
        )
    if not calibrated and not (layers.linear or layers.embeddings or layers.recurrent):
        raise ValueError(
            f"task.method={method} quantizes linear, recurrent and embedding layers, and this "
            "network has none: set task.method=static"
        )


def real_layers(model: nn.Module) -> list[str]:
    """Return the layers that have parameters still, each with its class."""
    return [
        f"{name} ({type(layer).__name__})"
        for name, layer in model.named_modules()
        if list(layer.parameters(recurse=False))
    ]


def listed(names: Collection[str]) -> str:
    """Return names as a text, at most `MAX_NAMED` of them."""
    shown = list(names)[:MAX_NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
