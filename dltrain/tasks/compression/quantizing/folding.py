"""Convolutions with what follows them: batch norm, which is folded into them, and a ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dltrain.tasks.compression.quantized.aware import AwareConv2d
from dltrain.tasks.compression.quantized.layers import Folded


@dataclass(frozen=True)
class FoldableConvolution:
    """A convolution of a network, and the names of the batch norm and the ReLU that follow it.

    A name is "" where there is none.
    """

    name: str
    norm: str = ""
    relu: str = ""

    @property
    def last(self) -> str:
        """The name of the last of these layers."""
        return self.relu or self.norm or self.name


def convolution_of(model: nn.Module, name: str, readers: Mapping[str, str]) -> FoldableConvolution:
    """Return the convolution `name` of a network with what follows it, by `only_readers`."""
    norm = readers.get(name, "")
    if not norm or not folds(model.get_submodule(norm)):
        norm = ""
    relu = readers.get(norm or name, "")
    if not relu or type(model.get_submodule(relu)) is not nn.ReLU:
        relu = ""
    return FoldableConvolution(name, norm, relu)


def folds(layer: nn.Module) -> bool:
    """Return whether a layer is a batch norm with running statistics, or one that is folded."""
    has_statistics = type(layer) is nn.BatchNorm2d and layer.running_mean is not None
    return has_statistics or isinstance(layer, Folded)


@torch.no_grad()
def folded_weights(
    model: nn.Module, convolution: FoldableConvolution
) -> tuple[Tensor, Tensor | None]:
    """Return the weight (O, I, h, w) and bias (O,) of a convolution with its batch norm.

    With the running mean m and variance v of the norm, its factor g and offset b, the weight W and
    bias c of the convolution become W g / sqrt(v + eps) and (c - m) g / sqrt(v + eps) + b.
    """
    layer = model.get_submodule(convolution.name)
    assert isinstance(layer, nn.Conv2d | AwareConv2d)
    bias = None if layer.bias is None else layer.bias.detach()
    if not convolution.norm or isinstance(layer, AwareConv2d):
        return layer.weight.detach(), bias
    norm = model.get_submodule(convolution.norm)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var + norm.eps).rsqrt()
    offset = torch.zeros_like(factor)
    if norm.affine:
        factor = factor * norm.weight
        offset = norm.bias.detach()
    if bias is None:
        bias = torch.zeros_like(factor)
    weight = layer.weight * factor.view(-1, 1, 1, 1)
    return weight.detach(), (bias - norm.running_mean) * factor + offset
