"""The Transformer as it was first described: an encoder that reads a text, a decoder that writes its translation."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from dltrain.models.attention import Impl
from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.sequences import inside, lengths_of
from dltrain.models.transformer import Block, Position, Positions, Stack
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
        top = self.decoder.blocks[-1]
        assert isinstance(top, Block)
        self.shown = top.memory_attention
        self.shown.impl = "equations"
        self.dropout = nn.Sequential(*dropout_layer(dropout))
        self.to_logits = nn.Linear(dim, target_vocab_size, bias=False)
        if tied:
            self.to_logits.weight = self.target_embedding.weight
        for weight in {self.source_embedding.weight, self.target_embedding.weight, self.to_logits.weight}:
            nn.init.normal_(weight, std=dim**-0.5)

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        return self.output(self.decode(self.encode(source), inputs)[0])

    def encode(self, source: Tensor) -> Memory:
        """Outputs (B, S, D) for source tokens (B, S), and which of them are allowed (B, S)."""
        allowed = inside(lengths_of(source), source.shape[1])
        x = self.dropout(self.source_position(self.source_embedding(source) * self.scale))
        return {"outputs": self.encoder(x, allowed[:, None, None]), "allowed": allowed}

    def begin(self, memory: Memory) -> dict[str, Tensor]:
        """The tokens so far (B, t): none."""
        allowed = memory["allowed"]
        return {"tokens": torch.zeros(len(allowed), 0, dtype=torch.int64, device=allowed.device)}

    def decode(self, memory: Memory, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, T, D) after each of the target tokens (B, T), and to what they attend, (B, T, S)."""
        x = self.dropout(self.target_position(self.target_embedding(inputs) * self.scale))
        features = self.decoder(x, None, True, memory["outputs"], memory["allowed"][:, None, None])
        weights = self.shown.weights
        return features, None if weights is None else weights.mean(1)

    def step(self, tokens: Tensor, state: dict[str, Tensor], memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, V) of what comes after one more token (B,) each, and the state with it; all steps are computed again."""
        so_far = torch.cat([state["tokens"], tokens.unsqueeze(1)], dim=1)
        return self.output(self.decode(memory, so_far)[0][:, -1]), {"tokens": so_far}

    def output(self, features: Tensor) -> Tensor:
        logits: Tensor = self.to_logits(features)
        return logits
