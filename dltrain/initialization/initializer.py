"""Base class of initialization schemes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Initializer(ABC):
    """Initializes all weights with two or more dimensions, and sets the biases of their layers.

    This includes the weights of recurrent and attention layers. The vectors of norms do not change,
    and the embedding of padding stays zero.
    """

    bias: float

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        """Initialize all layers of `model` in place."""
        for layer in model.modules():
            self.initialize(layer)

    def initialize(self, layer: nn.Module) -> None:
        """Initialize the layer's own weights and biases."""
        weights = own_parameters(layer, "weight")
        matrices = [weight for weight in weights if weight.ndim > 1]
        if not matrices:
            return
        for matrix in matrices:
            self.fill(matrix)
        for bias in own_parameters(layer, "bias"):
            nn.init.constant_(bias, self.bias)
        if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
            layer.weight[layer.padding_idx] = 0

    @abstractmethod
    def fill(self, weight: Tensor) -> None:
        """Fill a weight in place.

        It is (out, in) for a linear layer, (out, in, height, width) for a convolution.
        """


def own_parameters(layer: nn.Module, kind: str) -> list[nn.Parameter]:
    """Return the layer's own parameters with `kind` in their names, such as "weight"."""
    own = layer.named_parameters(recurse=False)
    return [parameter for name, parameter in own if kind in name]
