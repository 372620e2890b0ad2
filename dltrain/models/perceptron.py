"""The perceptron: one linear layer."""

from __future__ import annotations

from torch import nn


class Perceptron(nn.Sequential):
    """Scores (B, num_classes) of flattened inputs by one linear layer that starts at zero (Rosenblatt 1958).

    With `loss=perceptron optimizer=sgd dataset.batch_size=1` it learns by the perceptron rule; with `loss=cross_entropy`
    it is logistic regression. From zero weights the perceptron rule's predictions do not depend on the learning rate.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        linear = nn.Linear(in_features, num_classes)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.Flatten(), linear)
