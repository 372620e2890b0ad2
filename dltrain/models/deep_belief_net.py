"""A stack of restricted Boltzmann machines under a classifier."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.rbm import RBM, Units
from dltrain.types import Fraction, PositiveInt


class DeepBeliefNet(nn.Module):
    """Logits (B, num_classes) through sigmoid layers whose weights are those of RBMs (Hinton, Osindero, Teh 2006).

    `hidden_sizes` are the hidden units of each; `visible_units` of the first are pixels in 0..1 as probabilities, or
    standardized values. `input_dropout` drops inputs, `dropout` hidden units, while the classifier learns.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hidden_sizes: tuple[PositiveInt, ...] = (500, 500, 2000),
        visible_units: Units = "bernoulli",
        input_dropout: Fraction = 0.0,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if not hidden_sizes:
            raise ValueError("hidden_sizes=[]: a deep belief net has at least one hidden layer")
        sizes = (in_features, *hidden_sizes)
        higher: list[Units] = ["bernoulli"] * (len(hidden_sizes) - 1)
        units = (visible_units, *higher)
        self.rbms = nn.ModuleList(
            RBM(visible, hidden, unit)
            for (visible, hidden), unit in zip(pairwise(sizes), units, strict=True)
        )
        self.dropouts = nn.ModuleList(
            nn.Sequential(*dropout_layer(p)) for p in (input_dropout, *[dropout] * len(units))
        )
        self.head = nn.Linear(sizes[-1], num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.dropouts[0](inputs.flatten(1))
        for rbm, dropout in zip(self.rbms, self.dropouts[1:], strict=True):
            x = dropout(rbm(x))
        logits: Tensor = self.head(x)
        return logits
