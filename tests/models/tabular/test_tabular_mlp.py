"""The MLP for tables: embeddings of categories, and a gradient in every parameter."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.models.tabular.tabular_mlp import TabularMLP
from dltrain.weights.freezing import trainable_count


def test_the_tabular_mlp_embeds_categories_and_learns_with_every_weight() -> None:
    torch.manual_seed(0)
    model = TabularMLP(
        in_features=5, num_classes=2, cardinalities=(3, 40), embedding_dim=4, hidden_sizes=(8,)
    )
    assert [tuple(e.weight.shape) for e in model.embeddings] == [(3, 2), (40, 4)]
    assert trainable_count(model) == 3 * 2 + 40 * 4 + (3 + 2 + 4) * 8 + 8 + 8 * 2 + 2
    x = torch.tensor([[0.1, 0.2, 0.3, 2, 39], [0.1, 0.2, 0.3, 1, 39]])
    out = model(x)
    assert out.shape == (2, 2)
    assert not torch.equal(out[0], out[1])
    out.sum().backward()
    used = model.embeddings[1].weight.grad
    assert isinstance(used, Tensor)
    assert used.abs().sum(dim=1).nonzero().flatten().tolist() == [39]
    other = model.embeddings[0].weight[0]  # type: ignore[index]
    assert not other.any()
