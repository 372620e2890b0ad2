"""The perceptron: one linear layer."""

from __future__ import annotations

from torch import nn


class Perceptron(nn.Sequential):
    """One linear layer with zero initial weights (Rosenblatt 1958).

    Maps inputs (B, ...), flattened, to scores (B, num_classes). With `loss=perceptron
    optimizer=sgd dataset.batch_size=1` it learns by the perceptron rule; with `loss=cross_entropy`
    it is logistic regression. From zero weights, the predictions of the perceptron rule do not
    depend on the learning rate.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        linear = nn.Linear(in_features, num_classes)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.Flatten(), linear)
