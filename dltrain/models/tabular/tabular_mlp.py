"""The multi-layer perceptron for tables, with a learned vector for every category."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.models.mlp import MLP
from dltrain.types import Activation, Fraction, Norm, PositiveInt


class TabularMLP(nn.Module):
    """Outputs (B, num_classes) of rows (B, F) whose last len(`cardinalities`) features are codes of categories.

    Every category has an embedding, of half as many dimensions as it has values but at most `embedding_dim`; they go with
    the numbers into an MLP (Guo and Berkhahn 2016, "Entity Embeddings of Categorical Variables"). The vector of code 0,
    missing or never seen, begins at zero. Inputs of more dimensions are flattened.
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
        x = x.flatten(1)
        parts = [x[:, : self.num_numbers]]
        for embedding, codes in zip(
            self.embeddings, x[:, self.num_numbers :].unbind(1), strict=True
        ):
            parts.append(embedding(codes.long()))
        outputs: Tensor = self.mlp(torch.cat(parts, dim=1))
        return outputs
