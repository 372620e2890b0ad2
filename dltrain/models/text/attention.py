"""Attention: scaled dot products, in several heads, and the additive kind; by torch's fused kernel or by its equation."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Impl: TypeAlias = Literal["torch", "equations"]


def scaled_dot_product(
    queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(d)) V (Vaswani et al. 2017, "Attention Is All You Need", equation 1), and the softmax itself.

    Queries (..., T, d), keys (..., S, d) and values (..., S, v) give (..., T, v) and (..., T, S). Where `allowed`, which
    broadcasts to the latter, is false nothing is attended to.
    """
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    weights = scores.softmax(-1)
    return weights @ values, weights


class MultiHeadAttention(nn.Module):
    """Attention in `num_heads` subspaces side by side (Vaswani et al. 2017, section 3.2.2).

    With `rotary` positions queries and keys are turned by an angle that grows with their position, so that a product
    depends on the distance alone (Su et al. 2021, "RoFormer", equation 34). `impl=equations` computes by the equation and
    leaves the weights (B, heads, T, S) in `weights`; torch's kernel never has them in memory.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        rotary: bool = False,
        impl: Impl = "torch",
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"model.dim={dim} is not divided by model.num_heads={num_heads}")
        if rotary and dim // num_heads % 2:
            raise ValueError(
                "rotary positions turn pairs: model.dim / model.num_heads has to be even"
            )
        self.num_heads, self.rotary, self.impl, self.dropout = num_heads, rotary, impl, dropout
        self.project = nn.Linear(dim, 3 * dim)  # to queries, keys and values
        self.output = nn.Linear(dim, dim)
        self.weights: Tensor | None = None

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        allowed: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """x (B, T, D) attends to `memory` (B, S, D), or to itself; `causal`: to nothing after it. `allowed` (B, 1, 1 or T, S)
        is true where it may."""
        if memory is None:
            q, k, v = (self.heads(part) for part in self.project(x).chunk(3, dim=2))
        else:
            q, (k, v) = self.queries(x), self.keys_and_values(memory)
        if self.rotary:
            q, k = rotated(q), rotated(k)
        if self.impl == "torch":
            p = self.dropout if self.training else 0.0
            outputs = F.scaled_dot_product_attention(q, k, v, allowed, p, is_causal=causal)
        else:
            if causal:
                allowed = torch.ones(
                    q.shape[2], k.shape[2], dtype=torch.bool, device=x.device
                ).tril()
            outputs, weights = scaled_dot_product(q, k, v, allowed)
            self.weights = weights.detach()
            if self.dropout:
                outputs = F.dropout(weights, self.dropout, self.training) @ v
        return self.output(outputs.transpose(1, 2).flatten(2))

    def queries(self, x: Tensor) -> Tensor:
        """The queries (B, heads, T, d) of x (B, T, D)."""
        dim = x.shape[2]
        return self.heads(F.linear(x, self.project.weight[:dim], self.project.bias[:dim]))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and the values, (B, heads, S, d) each, of x (B, S, D)."""
        dim = x.shape[2]
        keys, values = F.linear(x, self.project.weight[dim:], self.project.bias[dim:]).chunk(
            2, dim=2
        )
        return self.heads(keys), self.heads(values)

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, D) as (B, heads, T, D / heads)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def rotated(x: Tensor) -> Tensor:
    """Vectors (..., T, d) turned by their position t: the pair (x_i, x_{i + d/2}) by the angle t 10000^(-2i/d)."""
    steps, size = x.shape[-2], x.shape[-1]
    rates = 10_000.0 ** (-torch.arange(0, size, 2, device=x.device) / size)
    angles = torch.arange(steps, device=x.device).unsqueeze(1) * rates  # (T, d / 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class AdditiveAttention(nn.Module):
    """Weights from v' tanh(W q + U k) (Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
    Translate", appendix A.1.2)."""

    def __init__(self, query_size: int, key_size: int, size: int) -> None:
        super().__init__()
        self.of_query, self.of_key = (
            nn.Linear(query_size, size),
            nn.Linear(key_size, size, bias=False),
        )
        self.score = nn.Linear(size, 1, bias=False)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        allowed: Tensor,
        of_keys: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, T, q), keys (B, S, k) and values (B, S, v) give (B, T, v) and weights (B, T, S); `allowed` is (B, S),
        `of_keys` what was computed of the keys before."""
        of_keys = self.of_key(keys) if of_keys is None else of_keys
        scores = self.score(
            (self.of_query(queries).unsqueeze(2) + of_keys.unsqueeze(1)).tanh()
        ).squeeze(3)
        weights = scores.masked_fill(~allowed.unsqueeze(1), -math.inf).softmax(2)
        return weights @ values, weights
