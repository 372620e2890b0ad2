"""The Transformer as it was first described: an encoder that reads a text, a decoder that writes its translation."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.attention import Impl, MultiHeadAttention, rotated
from dltrain.models.text.sequences import inside, lengths_of
from dltrain.models.text.transformer import Block, Position, Positions, Stack
from dltrain.types import Activation, Fraction, PositiveInt

Memory: TypeAlias = dict[str, Tensor]


class TransformerSeq2Seq(nn.Module):
    """Logits (B, T, target_vocab_size) of the token after each of (B, T) target tokens, given source tokens (B, S) (Vaswani
    et al. 2017, "Attention Is All You Need", there normalized after each part instead of before it).

    Every source token sees all others that are none of the padding; a target token sees the source and what is before it.
    With `tied` the output layer shares the vectors of the target's tokens (section 3.4). The last layer's attention to the
    source is computed by its equation whatever `impl`, for it can be drawn: it is the mean over the heads.
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int,
        max_length: int,
        target_length: int,
        num_layers: PositiveInt = 3,
        dim: PositiveInt = 128,
        num_heads: PositiveInt = 4,
        hidden_size: PositiveInt | None = None,
        positions: Positions = "sinusoidal",
        activation: Activation = "relu",
        dropout: Fraction = 0.1,
        tied: bool = True,
        impl: Impl = "torch",
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        self.source_embedding = nn.Embedding(vocab_size, dim)
        self.target_embedding = nn.Embedding(target_vocab_size, dim)
        self.source_position = Position(positions, max_length, dim)
        self.target_position = Position(positions, target_length, dim)
        settings = (num_layers, dim, num_heads, hidden_size, activation, dropout, positions, impl)
        self.encoder, self.decoder = Stack(*settings), Stack(*settings, with_memory=True)
        self.layers[-1].memory_attention.impl = "equations"
        self.dropout = nn.Sequential(*dropout_layer(dropout))
        self.to_logits = nn.Linear(dim, target_vocab_size, bias=False)
        if tied:
            self.to_logits.weight = self.target_embedding.weight
        for weight in {
            self.source_embedding.weight,
            self.target_embedding.weight,
            self.to_logits.weight,
        }:
            nn.init.normal_(weight, std=dim**-0.5)

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        return self.output(self.decode(self.encode(source), inputs)[0])

    def encode(self, source: Tensor) -> Memory:
        """Outputs (B, S, D) for source tokens (B, S), and which of them are allowed (B, S)."""
        allowed = inside(lengths_of(source), source.shape[1])
        x = self.dropout(self.source_position(self.source_embedding(source) * self.scale))
        return {"outputs": self.encoder(x, allowed[:, None, None]), "allowed": allowed}

    def begin(self, memory: Memory) -> dict[str, Tensor]:
        """What each layer will attend to: keys and values (B, heads, t, d) of no token yet, and those of the source."""
        state: dict[str, Tensor] = {}
        for i, block in enumerate(self.layers):
            of_memory = block.memory_attention
            state[f"{i} read"] = torch.stack(of_memory.keys_and_values(memory["outputs"]), dim=1)
            state[f"{i} written"] = state[f"{i} read"][:, :, :, :0]
        return state

    def decode(self, memory: Memory, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, T, D) after each of the target tokens (B, T), and to what they attend, (B, T, S)."""
        x = self.dropout(self.target_position(self.target_embedding(inputs) * self.scale))
        features = self.decoder(x, None, True, memory["outputs"], memory["allowed"][:, None, None])
        weights = self.layers[-1].memory_attention.weights
        return features, None if weights is None else weights.mean(1)

    def step(
        self, tokens: Tensor, state: dict[str, Tensor], memory: Memory
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, V) of what comes after one more token (B,) each, and the state with it."""
        after, before = dict(state), state["0 written"].shape[3]
        x = self.target_embedding(tokens).unsqueeze(1) * self.scale
        x = self.dropout(self.target_position(F.pad(x, (0, 0, before, 0)))[:, -1:])
        for i, block in enumerate(self.layers):
            normed = block.norm(x)
            new = torch.stack(block.attention.keys_and_values(normed), dim=1)
            after[f"{i} written"] = torch.cat([state[f"{i} written"], new], dim=3)
            x = x + block.dropout(attended(block.attention, normed, after[f"{i} written"]))
            allowed = memory["allowed"][:, None, None]
            normed = block.memory_norm(x)
            x = x + block.dropout(
                attended(block.memory_attention, normed, state[f"{i} read"], allowed)
            )
            x = x + block.mlp(x)
        return self.output(self.decoder.norm(x)[:, 0]), after

    @property
    def layers(self) -> list[Block]:
        """Of the decoder."""
        return [block for block in self.decoder.blocks if isinstance(block, Block)]

    def output(self, features: Tensor) -> Tensor:
        logits: Tensor = self.to_logits(features)
        return logits


def attended(
    attention: MultiHeadAttention, x: Tensor, known: Tensor, allowed: Tensor | None = None
) -> Tensor:
    """What one step x (B, 1, D), the last of as many as there are keys where those are turned, finds in keys and values
    (B, 2, heads, S, d)."""
    queries, (keys, values) = attention.queries(x), known.unbind(1)
    if attention.rotary:
        queries = rotated(F.pad(queries, (0, 0, keys.shape[2] - 1, 0)))[:, :, -1:]
        keys = rotated(keys)
    found = F.scaled_dot_product_attention(queries, keys, values, allowed)
    out: Tensor = attention.output(found.transpose(1, 2).flatten(2))
    return out
