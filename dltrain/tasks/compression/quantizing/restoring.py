"""Gives a network the layers of a saved state before the state is loaded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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
from dltrain.tasks.compression.quantizing.conversion import settings_of
from dltrain.tasks.compression.quantizing.following import replace_layer

MODEL = "model."  # begins the names of a task's network
Tensors = Mapping[str, Tensor]


def restore_quantized(task: nn.Module, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """Quantize the layers of `task.model` that are quantized in a state, which is then loaded.

    A hook of `register_load_state_dict_pre_hook`. The names of the tensors tell what each layer is;
    its values are loaded afterwards.
    """
    model = task.model
    assert isinstance(model, nn.Module)
    by_layer: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in state.items():
        name, _, tensor = key.removeprefix(prefix).removeprefix(MODEL).rpartition(".")
        by_layer[name][tensor] = value
    for name, layer in list(model.named_modules()):
        replacement = quantized_like(layer, by_layer[name])
        if replacement is not None:
            replace_layer(model, name, replacement)


def quantized_like(layer: nn.Module, tensors: Tensors) -> nn.Module | None:
    """Return the quantized form of a layer that has `tensors`; None if it stays as it is."""
    if "folded" in tensors and not isinstance(layer, Folded):
        return Folded(tensors["folded"].device)
    if isinstance(layer, nn.MaxPool2d) and "pooled" in tensors:
        return IntegerMaxPool2d(layer, tensors["pooled"].device)
    if "weight_int4" in tensors:
        return int4_like(layer, tensors)
    if isinstance(layer, nn.Linear | nn.Conv2d) and "weight_int8" in tensors:
        return int8_like(layer, tensors)
    if isinstance(layer, nn.Embedding) and "weight_int8" in tensors:
        return Int8Embedding(layer.weight)
    if isinstance(layer, nn.RNNBase) and "weight_hh_int8" in tensors:
        return recurrent_like(layer)
    return None


def int4_like(layer: nn.Module, tensors: Tensors) -> nn.Module | None:
    """Return the int4 form of a layer; None if it has that form."""
    if not isinstance(layer, nn.Linear | nn.Embedding):
        return None
    size = layer.weight.shape[1]
    importance = torch.ones(size, device=layer.weight.device)
    group_size = size // tensors["weight_groups"].shape[1]
    if isinstance(layer, nn.Embedding):
        return Int4Embedding(layer.weight, group_size, importance)
    return Int4Linear(layer.weight, layer.bias, group_size, importance)


def int8_like(layer: nn.Linear | nn.Conv2d, tensors: Tensors) -> nn.Module:
    """Return the int8 form of a linear layer or a convolution."""
    weight = layer.weight
    bias = weight.new_zeros(len(weight)) if "bias" in tensors else None
    if "input_scale" not in tensors:
        return DynamicLinear(weight, bias)
    inputs = any_range(weight.device)
    if isinstance(layer, nn.Linear):
        return StaticLinear(weight, bias, inputs)
    outputs = any_range(weight.device) if "output_scale" in tensors else None
    settings = settings_of(layer)
    return StaticConv2d(weight, bias, settings, inputs, outputs, "relu" in tensors)


def any_range(device: torch.device) -> Range:
    """Return a range whose values are to be loaded."""
    return torch.ones((), device=device), torch.zeros((), dtype=torch.int32, device=device)
