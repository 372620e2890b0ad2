"""A deep, narrow multi-layer perceptron that shows the effect of depth on gradients."""

from __future__ import annotations

from torch import nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import feature_norm
from dltrain.types import Activation, Norm, PositiveInt


class DeepMLP(nn.Sequential):
    """A perceptron with `depth` hidden layers of `width` units each.

    Maps inputs (B, ...), flattened, to logits (B, num_classes). `norm` comes before every
    activation and replaces the bias of the layer. With sigmoids and no norm, the gradient shrinks
    in every layer on its way back, by the sigmoid's slope of at most 1/4 times the weights
    (Hochreiter 1991; Glorot and Bengio 2010, "Understanding the difficulty of training deep
    feedforward neural networks").
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        depth: PositiveInt = 10,
        width: PositiveInt = 64,
        norm: Norm = "none",
        activation: Activation = "relu",
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in in (in_features, *[width] * (depth - 1)):
            layers += [
                nn.Linear(fan_in, width, bias=norm == "none"),
                *feature_norm(norm, width),
                activation_layer(activation),
            ]
        super().__init__(*layers, nn.Linear(width, num_classes))
