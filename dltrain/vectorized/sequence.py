"""Plain sequences of known layers, computed for several runs without torch.func.vmap.

vmap takes a few milliseconds of Python for a network, which is longer than the arithmetic of a
small one. Here each layer is called once on the values of all runs:

* images are (B, K C, H, W), channels last: the channels of the K runs lie next to each other
* rows are (K, B, F)
* values that all runs share, as the inputs of an evaluation, are (B, C, H, W) or (B, F)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.layers import Dropout, Pad
from dltrain.vectorized.layers import (
    CHANNELS_LAST,
    IMAGES,
    GroupedConvolution,
    as_pair,
    average_pool,
    side_by_side,
)

Tensors = Mapping[str, Tensor]
ROWS = 3  # axes of rows (K, B, F)


@dataclass
class StackedValues:
    """The values between two layers; `are_shared` if they are the same for all runs."""

    x: Tensor
    are_shared: bool
    runs: int

    @property
    def are_images(self) -> bool:
        """True for images."""
        return self.x.ndim == IMAGES

    def of_runs(self) -> Tensor:
        """Return the values of all runs, also where they are shared."""
        if not self.are_shared:
            return self.x
        if self.are_images:
            return side_by_side(self.x.repeat(1, self.runs, 1, 1), None)
        return self.x.expand(self.runs, *self.x.shape)

    def changed(self, x: Tensor) -> StackedValues:
        """Return the values after a layer without weights."""
        return StackedValues(x, self.are_shared, self.runs)

    def apart(self, x: Tensor) -> StackedValues:
        """Return the values after a layer that is another one for each run."""
        return StackedValues(x, False, self.runs)


@dataclass
class StackedWeights:
    """The stacked weights and buffers of a layer (K, ...), by their names in it."""

    tensors: dict[str, Tensor]

    def flat(self, name: str) -> Tensor | None:
        """Return the values of all runs (K N,), or None if the layer has no such tensor."""
        tensor = self.tensors.get(name)
        return None if tensor is None else tensor.flatten()


StackedRule = Callable[[Any, StackedWeights, StackedValues], StackedValues]


def convolution(layer: nn.Conv2d, weights: StackedWeights, values: StackedValues) -> StackedValues:
    """Convolve the images of each run with its own kernels."""
    kernels = weights.tensors["weight"].flatten(0, 1).contiguous(memory_format=CHANNELS_LAST)
    images, groups = values.x, layer.groups
    if groups > 1 or not values.are_shared:
        images, groups = values.of_runs(), groups * values.runs
    settings = (as_pair(layer.stride), as_pair(layer.padding), as_pair(layer.dilation), groups)
    images = side_by_side(images, None)
    return values.apart(GroupedConvolution.apply(images, kernels, weights.flat("bias"), settings))


def linear(layer: nn.Linear, weights: StackedWeights, values: StackedValues) -> StackedValues:
    """Multiply the rows of each run by its own matrix."""
    rows = values.of_runs()
    matrices = weights.tensors["weight"].transpose(1, 2)
    if layer.bias is None:
        return values.apart(torch.bmm(rows, matrices))
    return values.apart(torch.baddbmm(weights.tensors["bias"].unsqueeze(1), rows, matrices))


def flatten(layer: nn.Flatten, weights: StackedWeights, values: StackedValues) -> StackedValues:
    """Make rows of images."""
    if not values.are_images:
        return values
    if values.are_shared:
        return values.changed(values.x.flatten(1))
    images = values.x.unflatten(1, (values.runs, -1))
    return values.changed(images.transpose(0, 1).flatten(2))


def without_weights(
    layer: nn.Module, weights: StackedWeights, values: StackedValues
) -> StackedValues:
    """Apply a layer that treats every channel and every unit alike."""
    return values.changed(layer(values.x))


def mean_pooling(
    layer: nn.AvgPool2d, weights: StackedWeights, values: StackedValues
) -> StackedValues:
    """Average the blocks of images."""
    rest = {"padding": layer.padding, "ceil_mode": layer.ceil_mode}
    images = side_by_side(values.x, None)
    return values.changed(average_pool(images, layer.kernel_size, layer.stride, rest))


def batch_norm(layer: Any, weights: StackedWeights, values: StackedValues) -> StackedValues:
    """Normalize each channel, or each feature, of each run over its batch."""
    x = values.of_runs()
    are_rows = x.ndim == ROWS
    if are_rows:
        x = x.transpose(0, 1).flatten(1)
    statistics = weights.flat("running_mean"), weights.flat("running_var")
    scale_and_shift = weights.flat("weight"), weights.flat("bias")
    if layer.training:
        weights.tensors["num_batches_tracked"].add_(1)
    x = F.batch_norm(x, *statistics, *scale_and_shift, layer.training, layer.momentum, layer.eps)
    if are_rows:
        x = x.unflatten(1, (values.runs, -1)).transpose(0, 1).contiguous()
    return values.apart(x)


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
DROPOUTS = (Dropout, nn.Dropout)
RULES: dict[type[nn.Module], StackedRule] = {
    nn.Conv2d: convolution,
    nn.Linear: linear,
    nn.Flatten: flatten,
    nn.AvgPool2d: mean_pooling,
    **dict.fromkeys(NORMS, batch_norm),
    **dict.fromkeys((Pad, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Identity), without_weights),
    **dict.fromkeys((nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU), without_weights),
    **dict.fromkeys((nn.Tanh, nn.Sigmoid), without_weights),
}


def is_ordinary(layer: nn.Module) -> bool:
    """Return whether the settings of a layer are those that its rule knows."""
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, NORMS):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return True


def leaves(model: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """Return the layers of a plain sequence by name; None if the network is not one."""
    if type(model).forward is not nn.Sequential.forward:
        return None
    layers: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        inner = [("", child)] if not list(child.children()) else leaves(child)
        if inner is None:
            return None
        layers += [(f"{name}.{own}".rstrip("."), layer) for own, layer in inner]
    return layers


def is_known(layer: nn.Module) -> bool:
    """Return whether there is a rule for a layer."""
    has_rule = type(layer) in RULES or type(layer) in DROPOUTS
    return has_rule and is_ordinary(layer)


class StackedSequence:
    """A plain sequence of layers for several runs.

    `layers` are those of one run. `draw` is called with the number of a run, the name of a dropout
    layer, and ones shaped like its input; it returns the run's mask.
    """

    def __init__(
        self,
        layers: list[tuple[str, nn.Module]],
        runs: int,
        draw: Callable[[int, str, Tensor], Tensor],
    ) -> None:
        self.layers = layers
        self.runs = runs
        self.draw = draw

    def __call__(
        self, tensors: Tensors, inputs: Tensor, axis: int | None, training: bool
    ) -> Tensor:
        """Return the outputs (K, B, ...); `axis` of the inputs counts the runs."""
        x = inputs
        if axis == 1:
            x = side_by_side(inputs, axis)
        values = StackedValues(x, axis is None, self.runs)
        for name, layer in self.layers:
            layer.train(training)
            values = self.after(name, layer, tensors, values)
        outputs = values.of_runs()
        if values.are_images:
            outputs = outputs.unflatten(1, (self.runs, -1)).transpose(0, 1)
        return outputs

    def after(
        self, name: str, layer: nn.Module, tensors: Tensors, values: StackedValues
    ) -> StackedValues:
        """Return the values after a layer."""
        rule = RULES.get(type(layer))
        if rule is None:
            return self.dropped(name, layer, values)
        own = [*dict(layer.named_parameters()), *dict(layer.named_buffers())]
        weights = StackedWeights({key: tensors[f"{name}.{key}"] for key in own})
        return rule(layer, weights, values)

    def dropped(self, name: str, layer: nn.Module, values: StackedValues) -> StackedValues:
        """Return the values after dropout: each run draws its own mask."""
        if not layer.training:
            return values
        x = values.of_runs()
        if values.are_images:
            of_runs = x.detach().unflatten(1, (self.runs, -1)).unbind(1)
            masks = [self.draw(k, name, torch.ones_like(one)) for k, one in enumerate(of_runs)]
            return values.apart(x * side_by_side(torch.stack(masks, 1), 1))
        masks = [self.draw(k, name, torch.ones_like(one)) for k, one in enumerate(x.detach())]
        return values.apart(x * torch.stack(masks))


def known_layers(model: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """Return the layers of a plain sequence if there are rules for all of them; else None."""
    layers = leaves(model)
    if layers is None or not all(is_known(layer) for _, layer in layers):
        return None
    return layers
