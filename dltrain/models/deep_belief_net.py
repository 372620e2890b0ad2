"""The deep belief net: a stack of restricted Boltzmann machines below a classifier."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.rbm import RBM, Units
from dltrain.types import Fraction, PositiveInt


class DeepBeliefNet(nn.Module):
    """Sigmoid layers with the weights of RBMs and a linear classifier (Hinton, Osindero, Teh 2006).

    Maps inputs (B, ...) to logits (B, num_classes).

    Args:
        in_features: Number of inputs, flattened.
        num_classes: Number of classes.
        hidden_sizes: Number of hidden units of each RBM, from the bottom up.
        visible_units: Units of the first RBM: "bernoulli" for pixels in 0..1 as probabilities,
            "gaussian" for standardized values.
        input_dropout: Probability of dropping an input while the classifier learns.
        dropout: Probability of dropping a hidden unit while the classifier learns.

    Raises:
        ValueError: `hidden_sizes` is empty.
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
            raise ValueError(
                '"model.hidden_sizes=[]": a deep belief net needs at least one hidden layer'
            )
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
        """Return the logits (B, num_classes) of inputs (B, ...)."""
        x = self.dropouts[0](inputs.flatten(1))
        for rbm, dropout in zip(self.rbms, self.dropouts[1:], strict=True):
            x = dropout(rbm(x))
        logits: Tensor = self.head(x)
        return logits
