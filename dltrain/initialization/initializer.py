"""What every initialization scheme is: a filling of the weight matrices and kernels of a model's layers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Initializer(ABC):
    """Fills the weights of every layer that have two or more dimensions, and sets the biases of that layer to `bias`.

    So it does with the several weights of recurrent and attention layers. The vectors of normalization layers are left
    alone, and an embedding's padding stays zero.
    """

    bias: float

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        for layer in model.modules():
            own = dict(layer.named_parameters(recurse=False))
            weights = [p for name, p in own.items() if "weight" in name and p.ndim > 1]
            for weight in weights:
                self.fill(weight)
            for name, p in own.items():
                if weights and "bias" in name:
                    nn.init.constant_(p, self.bias)
            if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
                layer.weight[layer.padding_idx] = 0

    @abstractmethod
    def fill(self, weight: Tensor) -> None:
        """Fill one weight in place: (out, in) of a linear layer, (out, in, height, width) of a convolution."""
