"""The multi-layer perceptron."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.layers import feature_norm
from dltrain.types import Activation, Fraction, Norm, PositiveInt


class MLP(nn.Sequential):
    """Fully connected layers with activations (Rumelhart, Hinton, Williams 1986).

    Maps inputs (B, ...), flattened, to logits (B, num_classes). `norm` comes before every hidden
    activation and replaces the bias of the layer; `dropout` comes after the activation.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hidden_sizes: tuple[PositiveInt, ...] = (256, 128),
        norm: Norm = "none",
        activation: Activation = "relu",
        dropout: Fraction = 0.0,
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise((in_features, *hidden_sizes)):
            layers += [
                nn.Linear(fan_in, fan_out, bias=norm == "none"),
                *feature_norm(norm, fan_out),
                activation_layer(activation),
                *dropout_layer(dropout),
            ]
        super().__init__(*layers, nn.Linear((in_features, *hidden_sizes)[-1], num_classes))
