"""From a trained network to one with weights of few bits, in its place, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.tasks.compression.quantized.aware import AwareConv2d, AwareLinear, ConvolutionSettings
from dltrain.tasks.compression.quantized.grouped import Int4Embedding, Int4Linear
from dltrain.tasks.compression.quantized.layers import (
    DynamicLinear,
    Folded,
    Int8Embedding,
    IntegerMaxPool2d,
    Range,
    StaticConv2d,
    StaticLinear,
)
from dltrain.tasks.compression.quantized.recurrent import recurrent_like
from dltrain.tasks.compression.quantizing.folding import (
    FoldableConvolution,
    convolution_of,
    folded_weights,
)
from dltrain.tasks.compression.quantizing.following import only_readers, replace_layer

Method: TypeAlias = Literal["dynamic", "static", "qat", "int4"]
Kinds: TypeAlias = tuple[type[nn.Module], ...]
PASS_INTEGERS: Kinds = (nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity, Folded)


@dataclass(frozen=True)
class Layers:
    """The layers of a network that can be quantized, by name: those that a method takes."""

    linear: Mapping[str, nn.Linear]
    convolutions: Mapping[str, nn.Conv2d]
    embeddings: Mapping[str, nn.Embedding]
    recurrent: Mapping[str, nn.RNNBase]

    @classmethod
    def of(cls, model: nn.Module, skip: Sequence[str]) -> Layers:
        """Return the layers of `model` except those whose names match one of `skip`."""
        linear: dict[str, nn.Linear] = {}
        convolutions: dict[str, nn.Conv2d] = {}
        embeddings: dict[str, nn.Embedding] = {}
        recurrent: dict[str, nn.RNNBase] = {}
        for name, layer in model.named_modules():
            if any(fnmatchcase(name, pattern) for pattern in skip):
                continue
            if type(layer) is nn.Linear:
                linear[name] = layer
            elif type(layer) is nn.Conv2d and _is_plain(layer):
                convolutions[name] = layer
            elif isinstance(layer, nn.Embedding) and layer.max_norm is None:
                embeddings[name] = layer
            elif isinstance(layer, nn.LSTM | nn.GRU) and _is_one_direction(layer):
                recurrent[name] = layer
        return cls(linear, convolutions, embeddings, recurrent)


def _is_plain(layer: nn.Conv2d) -> bool:
    """Return whether a convolution pads with zeros, by numbers of pixels."""
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _is_one_direction(layer: nn.RNNBase) -> bool:
    """Return whether a recurrent layer is a single one that reads forward, time first."""
    is_single = layer.num_layers == 1 and not layer.bidirectional
    return is_single and layer.bias and not layer.batch_first and not layer.proj_size


def settings_of(layer: nn.Module) -> ConvolutionSettings:
    """Return stride, padding, dilation and groups of a convolution."""
    if isinstance(layer, AwareConv2d):
        return layer.settings
    assert isinstance(layer, nn.Conv2d)
    assert not isinstance(layer.padding, str)
    return layer.stride, layer.padding, layer.dilation, layer.groups


def convert_dynamic(model: nn.Module, layers: Layers) -> None:
    """Give linear, recurrent and embedding layers int8 weights; inputs are rounded as they come."""
    for name, linear in layers.linear.items():
        replace_layer(model, name, DynamicLinear(linear.weight, linear.bias))
    convert_tables(model, layers)
    convert_recurrent(model, layers)


def convert_tables(model: nn.Module, layers: Layers) -> None:
    """Give embeddings int8 weights."""
    for name, embedding in layers.embeddings.items():
        replace_layer(model, name, Int8Embedding(embedding.weight))


def convert_recurrent(model: nn.Module, layers: Layers) -> None:
    """Give recurrent layers int8 weights."""
    for name, layer in layers.recurrent.items():
        replace_layer(model, name, recurrent_like(layer))


def convert_int4(
    model: nn.Module, layers: Layers, importance: Mapping[str, Tensor], group_size: int
) -> None:
    """Give linear and embedding layers int4 weights, in groups of `group_size` inputs.

    `importance` (I,) is the mean square of each input of a linear layer. Layers whose size is not a
    multiple of the groups, and recurrent ones, get int8 weights.
    """
    rest = Layers({}, {}, {}, layers.recurrent)
    for name, linear in layers.linear.items():
        if linear.in_features % group_size:
            replace_layer(model, name, DynamicLinear(linear.weight, linear.bias))
            continue
        replacement = Int4Linear(linear.weight, linear.bias, group_size, importance[name])
        replace_layer(model, name, replacement)
    for name, embedding in layers.embeddings.items():
        if embedding.embedding_dim % group_size:
            replace_layer(model, name, Int8Embedding(embedding.weight))
            continue
        alike = torch.ones(embedding.embedding_dim, device=embedding.weight.device)
        replace_layer(model, name, Int4Embedding(embedding.weight, group_size, alike))
    convert_recurrent(model, rest)


def make_aware(model: nn.Module, layers: Layers, ranges: Mapping[str, Range]) -> None:
    """Let linear layers and convolutions compute with rounded weights and inputs, for training.

    Only those with `ranges` of their inputs; batch norms are folded into the convolutions first.
    """
    readers = only_readers(model)
    for name in layers.convolutions:
        if name not in ranges:
            continue
        convolution = convolution_of(model, name, readers)
        weight, bias = folded_weights(model, convolution)
        settings = settings_of(layers.convolutions[name])
        replace_layer(model, name, AwareConv2d(weight, bias, ranges[name], settings))
        if convolution.norm:
            replace_layer(model, convolution.norm, Folded(weight.device))
    for name, linear in layers.linear.items():
        if name in ranges:
            replacement = AwareLinear(linear.weight, linear.bias, ranges[name])
            replace_layer(model, name, replacement)


def convert_static(model: nn.Module, layers: Layers, ranges: Mapping[str, Range]) -> None:
    """Give linear layers and convolutions int8 weights and inputs of fixed `ranges`.

    A convolution includes the batch norm and the ReLU after it. It hands integers to the next
    convolution or linear layer where nothing but pooling is between them.
    """
    readers = only_readers(model)
    convolutions = [
        convolution_of(model, name, readers) for name in layers.convolutions if name in ranges
    ]
    linear = [name for name in layers.linear if name in ranges]
    reading = {*linear, *(convolution.name for convolution in convolutions)}
    for convolution in convolutions:
        path = list(path_of_integers(model, convolution.last, readers, reading))
        outputs = ranges[path[-1]] if path else None
        _convert_convolution(model, convolution, ranges[convolution.name], outputs)
        for name in path:
            layer = model.get_submodule(name)
            if isinstance(layer, nn.MaxPool2d):
                replace_layer(model, name, IntegerMaxPool2d(layer, ranges[path[-1]][0].device))
    for name in linear:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear | AwareLinear)
        replace_layer(model, name, StaticLinear(layer.weight, layer.bias, ranges[name]))
    convert_tables(model, layers)


def _convert_convolution(
    model: nn.Module, convolution: FoldableConvolution, inputs: Range, outputs: Range | None
) -> None:
    """Replace a convolution with what it includes by one in int8."""
    weight, bias = folded_weights(model, convolution)
    settings = settings_of(model.get_submodule(convolution.name))
    has_relu = bool(convolution.relu)
    replacement = StaticConv2d(weight, bias, settings, inputs, outputs, has_relu)
    replace_layer(model, convolution.name, replacement)
    for name in (convolution.norm, convolution.relu):
        if name:
            replace_layer(model, name, Folded(weight.device))


def path_of_integers(
    model: nn.Module, name: str, readers: Mapping[str, str], reading: set[str]
) -> Iterator[str]:
    """Yield the layers between a layer and the next of those `reading` integers, and that one.

    Nothing is yielded where another layer, or several layers, read the output.
    """
    path: list[str] = []
    while name in readers:
        name = readers[name]
        path.append(name)
        if name in reading:
            yield from path
            return
        if not passes_integers(model.get_submodule(name)):
            return


def passes_integers(layer: nn.Module) -> bool:
    """Return whether integers can pass a layer in the place of the real numbers."""
    if type(layer) is nn.MaxPool2d:
        return not layer.ceil_mode and not layer.return_indices and layer.dilation in (1, (1, 1))
    return isinstance(layer, PASS_INTEGERS)
