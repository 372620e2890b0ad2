"""Shapes of a network whose channels were removed: layers that follow the shapes of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SIZED = (*CONVOLUTIONS, nn.Linear, _BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
"""The layers that can have fewer channels than their constructor was called with."""


def shrink_to(network: nn.Module, state: Mapping[str, Any], prefix: str = "") -> None:
    """Give the layers of `network` the smaller shapes that their weights have in `state`.

    The names in `state` begin with `prefix`. New values are undefined until they are loaded. A
    tensor that is missing in `state`, or is not smaller there, stays as it is.
    """
    for path, layer in network.named_modules():
        if isinstance(layer, SIZED):
            beginning = f"{prefix}{path}." if path else prefix
            shrink_layer(layer, state, beginning)
            update_sizes(layer)


def shrink_layer(layer: nn.Module, state: Mapping[str, Any], beginning: str) -> None:
    """Give the tensors of a layer the smaller shapes that they have in `state`."""
    for name, value in tensors_of(layer).items():
        saved = state.get(beginning + name)
        if isinstance(saved, Tensor) and is_smaller(saved, value):
            replace_tensor(layer, name, value.detach().new_empty(saved.shape))


def tensors_of(layer: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and the buffers of a layer by name."""
    return {**dict(layer.named_parameters()), **dict(layer.named_buffers())}


def is_smaller(saved: Tensor, value: Tensor) -> bool:
    """Return whether the shape of `saved` is that of `value` with fewer rows or columns."""
    if saved.ndim != value.ndim or saved.shape == value.shape:
        return False
    return all(a <= b for a, b in zip(saved.shape, value.shape, strict=True))


def replace_tensor(layer: nn.Module, name: str, value: Tensor) -> None:
    """Put `value` in the place of a parameter or a buffer of `layer`, in its memory layout."""
    old = getattr(layer, name)
    value = value.contiguous()
    if old.ndim == 4 and old.is_contiguous(memory_format=torch.channels_last):
        value = value.contiguous(memory_format=torch.channels_last)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value, requires_grad=old.requires_grad)
    setattr(layer, name, value)


def update_sizes(layer: nn.Module) -> None:
    """Set the numbers of channels that a layer says it has to those of its weight."""
    for kind, update in UPDATES.items():
        if isinstance(layer, kind) and layer.weight is not None:
            update(layer)


def update_linear(layer: nn.Linear) -> None:
    """Set the numbers of features of a linear layer."""
    layer.out_features, layer.in_features = layer.weight.shape


def update_convolution(layer: Convolution) -> None:
    """Set the numbers of channels of a convolution."""
    if is_depthwise(layer):
        layer.groups = len(layer.weight)
    layer.out_channels = len(layer.weight)
    layer.in_channels = layer.weight.shape[1] * layer.groups


def update_batch_norm(layer: _BatchNorm) -> None:
    """Set the number of features of batch norm."""
    layer.num_features = len(layer.weight)


def update_layer_norm(layer: nn.LayerNorm) -> None:
    """Set the shape that layer norm normalizes."""
    layer.normalized_shape = tuple(layer.weight.shape)


def update_group_norm(layer: nn.GroupNorm) -> None:
    """Set the number of channels of group norm."""
    layer.num_channels = len(layer.weight)


def update_prelu(layer: nn.PReLU) -> None:
    """Set the number of slopes of PReLU."""
    layer.num_parameters = len(layer.weight)


UPDATES: dict[Any, Callable[[Any], None]] = {
    CONVOLUTIONS: update_convolution,
    nn.Linear: update_linear,
    _BatchNorm: update_batch_norm,
    nn.LayerNorm: update_layer_norm,
    nn.GroupNorm: update_group_norm,
    nn.PReLU: update_prelu,
}


def is_depthwise(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution with a filter for each single channel."""
    if not isinstance(layer, CONVOLUTIONS):
        return False
    return 1 < layer.groups == layer.in_channels == layer.out_channels
