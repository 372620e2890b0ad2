"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.layers import feature_norm
from dltrain.types import Activation, Fraction, Norm, PositiveFloat, PositiveInt


def layer_sizes(hidden_sizes: Sequence[int], depth: int | None, width: float) -> list[int]:
    """Return the units of the hidden layers; see `MLP`.

    Raises:
        ValueError: There is no layer that further ones could be equal to.
    """
    sizes = list(hidden_sizes)
    if depth is not None:
        if not sizes:
            raise ValueError(
                "model.depth repeats the last entry of model.hidden_sizes: give it one"
            )
        further = depth - len(sizes)
        sizes = [*sizes[:depth], *sizes[-1:] * further]
    return [max(1, round(width * size)) for size in sizes]


class MLP(nn.Sequential):
    """Fully connected layers with activations (Rumelhart, Hinton, Williams 1986).

    Maps inputs (B, ...), flattened, to logits (B, num_classes). `norm` comes before every hidden
    activation and replaces the bias of the layer; `dropout` comes after the activation. `depth` is
    the number of hidden layers, further ones as large as the last of `hidden_sizes`; None for one
    for each. `width` is a factor of the units of all hidden layers.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hidden_sizes: tuple[PositiveInt, ...] = (256, 128),
        norm: Norm = "none",
        activation: Activation = "relu",
        dropout: Fraction = 0.0,
        depth: PositiveInt | None = None,
        width: PositiveFloat = 1.0,
    ) -> None:
        sizes = layer_sizes(hidden_sizes, depth, width)
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise((in_features, *sizes)):
            layers += [
                nn.Linear(fan_in, fan_out, bias=norm == "none"),
                *feature_norm(norm, fan_out),
                activation_layer(activation),
                *dropout_layer(dropout),
            ]
        super().__init__(*layers, nn.Linear((in_features, *sizes)[-1], num_classes))
