"""The multi-layer perceptron for tables, with embeddings of categories."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.models.mlp import MLP
from dltrain.types import Activation, Fraction, Norm, PositiveInt


class TabularMLP(nn.Module):
    """An MLP on numbers and embedded categories (Guo and Berkhahn 2016, "Entity Embeddings").

    Maps rows (B, F), whose last len(`cardinalities`) features are codes of categories, to outputs
    (B, num_classes). An embedding has half as many numbers as its category has values, and at most
    `embedding_dim`. The vector of code 0, a missing or unknown value, is zero at first. Inputs with
    more dimensions are flattened.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        cardinalities: tuple[PositiveInt, ...] = (),
        embedding_dim: PositiveInt = 16,
        hidden_sizes: tuple[PositiveInt, ...] = (256, 128),
        norm: Norm = "none",
        activation: Activation = "relu",
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        sizes = [(count, min(embedding_dim, (count + 1) // 2)) for count in cardinalities]
        self.embeddings = nn.ModuleList(nn.Embedding(count, size) for count, size in sizes)
        for embedding in self.embeddings:
            nn.init.zeros_(embedding.weight[0])  # type: ignore[index]
        self.num_numbers = in_features - len(cardinalities)
        width = self.num_numbers + sum(size for _, size in sizes)
        self.mlp = MLP(width, num_classes, hidden_sizes, norm, activation, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (B, num_classes) of rows (B, F)."""
        x = x.flatten(1)
        parts = [x[:, : self.num_numbers]]
        codes = x[:, self.num_numbers :].long().unbind(1)
        for embedding, own_codes in zip(self.embeddings, codes, strict=True):
            parts.append(embedding(own_codes))
        outputs: Tensor = self.mlp(torch.cat(parts, dim=1))
        return outputs
