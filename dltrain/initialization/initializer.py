"""What every initialization scheme is: a filling of the weights of linear and convolution layers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Initializer(ABC):
    """Fills the weight of every layer that has one of two or more dimensions, and sets the bias of that layer to `bias`.

    Vectors of normalization layers are left alone.
    """

    bias: float

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        for layer in model.modules():
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim > 1:
                self.fill(weight)
                if isinstance(bias := getattr(layer, "bias", None), Tensor):
                    nn.init.constant_(bias, self.bias)

    @abstractmethod
    def fill(self, weight: Tensor) -> None:
        """Fill one weight in place."""
