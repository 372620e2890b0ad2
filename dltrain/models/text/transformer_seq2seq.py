"""The Transformer for translation: an encoder and a decoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.attention import Impl, MultiHeadAttention, rotated
from dltrain.models.text.sequences import inside, lengths_of
from dltrain.models.text.transformer import Block, Position, Positions, Stack
from dltrain.types import Activation, DecoderState, EncoderOutput, Fraction, PositiveInt


class TransformerSeq2Seq(nn.Module):
    """A Transformer encoder and decoder (Vaswani et al. 2017, "Attention Is All You Need").

    Maps source tokens (B, S) and target tokens (B, T) to logits (B, T, target_vocab_size) of the
    next target token at each position. The norm comes before each part, in the paper after it. A
    source token attends to all source tokens except padding; a target token attends to the source
    and to itself and earlier target tokens. With `tied`, the output layer shares the target
    embedding (section 3.4). The last layer's attention to the source is always computed from its
    equation, so that its weights, the mean over the heads, can be plotted.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
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
        self.encoder = Stack(*settings)
        self.decoder = Stack(*settings, with_memory=True)
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
        """Return logits (B, T, V) for source tokens (B, S) and target tokens (B, T)."""
        return self.output(self.decode(self.encode(source), inputs)[0])

    def encode(self, source: Tensor) -> EncoderOutput:
        """Return what the decoder reads of source tokens (B, S).

        These are the encoder's "outputs" (B, S, D) and a mask "allowed" (B, S), False for padding.
        """
        allowed = inside(lengths_of(source), source.shape[1])
        x = self.dropout(self.source_position(self.source_embedding(source) * self.scale))
        return {"outputs": self.encoder(x, allowed[:, None, None]), "allowed": allowed}

    def begin(self, memory: EncoderOutput) -> DecoderState:
        """Return the keys and values (B, 2, heads, t, d) of each layer.

        "<layer> read" are those of the source, "<layer> written" those of the target so far: none.
        """
        state: DecoderState = {}
        for i, block in enumerate(self.layers):
            keys_and_values = block.memory_attention.keys_and_values(memory["outputs"])
            state[f"{i} read"] = torch.stack(keys_and_values, dim=1)
            state[f"{i} written"] = state[f"{i} read"][:, :, :, :0]
        return state

    def decode(self, memory: EncoderOutput, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (B, T, D) for target tokens (B, T), and attention weights (B, T, S)."""
        x = self.dropout(self.target_position(self.target_embedding(inputs) * self.scale))
        features = self.decoder(x, None, True, memory["outputs"], memory["allowed"][:, None, None])
        weights = self.layers[-1].memory_attention.weights
        if weights is None:
            return features, None
        return features, weights.mean(1)

    def step(
        self, tokens: Tensor, state: DecoderState, memory: EncoderOutput
    ) -> tuple[Tensor, DecoderState]:
        """Return logits (B, V) of the next token after `tokens` (B,), and the new state."""
        after = dict(state)
        position = state["0 written"].shape[3]
        allowed = memory["allowed"][:, None, None]
        x = self.target_embedding(tokens).unsqueeze(1) * self.scale
        x = self.dropout(self.target_position(F.pad(x, (0, 0, position, 0)))[:, -1:])
        for i, block in enumerate(self.layers):
            normed = block.norm(x)
            new = torch.stack(block.attention.keys_and_values(normed), dim=1)
            written = torch.cat([state[f"{i} written"], new], dim=3)
            after[f"{i} written"] = written
            x = x + block.dropout(attend_from_last(block.attention, normed, written))
            read = state[f"{i} read"]
            normed = block.memory_norm(x)
            outputs = attend_from_last(block.memory_attention, normed, read, allowed)
            x = x + block.dropout(outputs)
            x = x + block.mlp(x)
        return self.output(self.decoder.norm(x)[:, 0]), after

    @property
    def layers(self) -> list[Block]:
        """The blocks of the decoder."""
        return [block for block in self.decoder.blocks if isinstance(block, Block)]

    def output(self, features: Tensor) -> Tensor:
        """Return logits (..., V) of features (..., D)."""
        logits: Tensor = self.to_logits(features)
        return logits


def attend_from_last(
    attention: MultiHeadAttention, x: Tensor, known: Tensor, allowed: Tensor | None = None
) -> Tensor:
    """Return the attention outputs (B, 1, D) of one step x (B, 1, D).

    `known` are keys and values (B, 2, heads, S, d). With rotary positions, x is the last of the S
    steps.
    """
    queries = attention.queries(x)
    keys, values = known.unbind(1)
    if attention.rotary:
        queries = rotated(F.pad(queries, (0, 0, keys.shape[2] - 1, 0)))[:, :, -1:]
        keys = rotated(keys)
    heads = F.scaled_dot_product_attention(queries, keys, values, allowed)
    out: Tensor = attention.output(heads.transpose(1, 2).flatten(2))
    return out
