"""Attention: scaled dot-product with several heads, by torch's kernel or equation, and additive."""

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
    """Return softmax(Q K^T / sqrt(d)) V, and the softmax itself.

    This is equation 1 of Vaswani et al. 2017, "Attention Is All You Need".

    Args:
        queries: Q (..., T, d).
        keys: K (..., S, d).
        values: V (..., S, v).
        allowed: False where a query must not attend to a key; broadcasts to (..., T, S).

    Returns:
        The outputs (..., T, v) and the weights (..., T, S).
    """
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    weights = scores.softmax(-1)
    return weights @ values, weights


class MultiHeadAttention(nn.Module):
    """Attention in `num_heads` parallel subspaces (Vaswani et al. 2017, section 3.2.2).

    With `rotary` positions, queries and keys are rotated by an angle that grows with their
    position, so that a product depends only on the distance (Su et al. 2021, "RoFormer", equation
    34). `impl="equations"` computes equation 1 and keeps the weights (B, heads, T, S) in
    `weights`; torch's kernel never materializes them.

    Raises:
        ValueError: `dim` cannot be divided among the heads.
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
            raise ValueError(f"model.dim={dim} is not a multiple of model.num_heads={num_heads}")
        if rotary and dim // num_heads % 2:
            raise ValueError(
                "rotary positions rotate pairs of numbers: model.dim / model.num_heads must be even"
            )
        self.num_heads = num_heads
        self.rotary = rotary
        self.impl = impl
        self.dropout = dropout
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
        """Return outputs (B, T, D) of x (B, T, D) attending to `memory` (B, S, D) or to itself.

        `allowed` (B, 1, 1 or T, S) is False where x must not attend; with `causal`, a step does not
        attend to later steps.
        """
        if memory is None:
            q, k, v = map(self.heads, self.project(x).chunk(3, dim=2))
        else:
            q = self.queries(x)
            k, v = self.keys_and_values(memory)
        if self.rotary:
            q = rotated(q)
            k = rotated(k)
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
        """Return the queries (B, heads, T, d) of x (B, T, D)."""
        dim = x.shape[2]
        return self.heads(F.linear(x, self.project.weight[:dim], self.project.bias[:dim]))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, (B, heads, S, d) each, of x (B, S, D)."""
        dim = x.shape[2]
        both = F.linear(x, self.project.weight[dim:], self.project.bias[dim:])
        keys, values = both.chunk(2, dim=2)
        return self.heads(keys), self.heads(values)

    def heads(self, x: Tensor) -> Tensor:
        """Reshape x (B, T, D) to (B, heads, T, D / heads)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def rotated(x: Tensor) -> Tensor:
    """Rotate vectors x (..., T, d) by their position t.

    The pair (x_i, x_{i + d/2}) is rotated by the angle t 10000^(-2i/d).
    """
    steps, size = x.shape[-2], x.shape[-1]
    rates = 10_000.0 ** (-torch.arange(0, size, 2, device=x.device) / size)
    angles = torch.arange(steps, device=x.device).unsqueeze(1) * rates  # (T, d / 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class AdditiveAttention(nn.Module):
    """Additive attention: scores v' tanh(W q + U k).

    See Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
    Translate", appendix A.1.2.
    """

    def __init__(self, query_size: int, key_size: int, size: int) -> None:
        super().__init__()
        self.of_query = nn.Linear(query_size, size)
        self.of_key = nn.Linear(key_size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        allowed: Tensor,
        projected_keys: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return outputs (B, T, v) and weights (B, T, S).

        Args:
            queries: Queries (B, T, q).
            keys: Keys (B, S, k).
            values: Values (B, S, v).
            allowed: False where a key is padding, (B, S).
            projected_keys: U k (B, S, size), if computed before.
        """
        if projected_keys is None:
            projected_keys = self.of_key(keys)
        hidden = self.of_query(queries).unsqueeze(2) + projected_keys.unsqueeze(1)
        scores = self.score(hidden.tanh()).squeeze(3)
        weights = scores.masked_fill(~allowed.unsqueeze(1), -math.inf).softmax(2)
        return weights @ values, weights
