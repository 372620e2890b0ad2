"""The Transformer: encoder, decoder, and both, with normalization before each part."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.attention import Impl, MultiHeadAttention
from dltrain.models.text.sequences import Begin, Steps, Summary, inside, summarize
from dltrain.types import Activation, Fraction, PositiveInt

Positions: TypeAlias = Literal["sinusoidal", "learned", "rotary"]


class Position(nn.Module):
    """Adds to vectors (B, T, D) what says where they stand: sines and cosines of wavelengths from 2 pi to 20000 pi (Vaswani
    et al. 2017, section 3.5), learned vectors, or nothing where attention itself turns them (rotary)."""

    def __init__(self, kind: Positions, most: int, dim: int) -> None:
        super().__init__()
        self.learned = nn.Embedding(most, dim) if kind == "learned" else None
        if self.learned is not None:
            nn.init.normal_(self.learned.weight, std=0.02)
        self.sinusoidal = kind == "sinusoidal"

    def forward(self, x: Tensor) -> Tensor:
        if self.learned is not None:
            return x + self.learned.weight[: x.shape[1]]
        return x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype) if self.sinusoidal else x


def sinusoids(steps: int, dim: int, device: torch.device) -> Tensor:
    """PE(t, 2i) = sin(t 10000^(-2i/D)), PE(t, 2i + 1) = cos of the same, (T, D)."""
    rates = 10_000.0 ** (-torch.arange(0, dim, 2, device=device) / dim)
    angles = torch.arange(steps, device=device).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :dim]


class Block(nn.Module):
    """x + attention(norm(x)), in a decoder x + attention(norm(x), memory) too, then x + MLP(norm(x)).

    Normalized before each part rather than after it, so that it trains without a warm-up (Xiong et al. 2020, "On Layer
    Normalization in the Transformer Architecture").
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_size: int,
        activation: Activation,
        dropout: float,
        rotary: bool,
        impl: Impl,
        with_memory: bool = False,
    ) -> None:
        super().__init__()
        self.norm, self.attention = (
            nn.LayerNorm(dim),
            MultiHeadAttention(dim, num_heads, dropout, rotary, impl),
        )
        if with_memory:
            self.memory_norm = nn.LayerNorm(dim)
            self.memory_attention = MultiHeadAttention(dim, num_heads, dropout, False, impl)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden_size),
            activation_layer(activation),
            nn.Linear(hidden_size, dim),
            *dropout_layer(dropout),
        )
        self.dropout = nn.Sequential(*dropout_layer(dropout))

    def forward(
        self,
        x: Tensor,
        allowed: Tensor | None = None,
        causal: bool = False,
        memory: Tensor | None = None,
        memory_allowed: Tensor | None = None,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.norm(x), None, allowed, causal))
        if memory is not None:
            x = x + self.dropout(self.memory_attention(self.memory_norm(x), memory, memory_allowed))
        out: Tensor = x + self.mlp(x)
        return out


class Stack(nn.Module):
    """`num_layers` blocks and a last normalization; weights as in GPT-2: normal(0.02), those that end a block's part smaller
    by sqrt(2 num_layers), for as many of them add up."""

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        hidden_size: int | None,
        activation: Activation,
        dropout: float,
        positions: Positions,
        impl: Impl,
        with_memory: bool = False,
    ) -> None:
        super().__init__()
        rotary = positions == "rotary"
        settings = (
            dim,
            num_heads,
            hidden_size or 4 * dim,
            activation,
            dropout,
            rotary,
            impl,
            with_memory,
        )
        self.blocks = nn.ModuleList(Block(*settings) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                ends = name.endswith(("output.weight", "mlp.3.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * num_layers) if ends else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(
        self,
        x: Tensor,
        allowed: Tensor | None = None,
        causal: bool = False,
        memory: Tensor | None = None,
        memory_allowed: Tensor | None = None,
    ) -> Tensor:
        for block in self.blocks:
            x = block(x, allowed, causal, memory, memory_allowed)
        normalized: Tensor = self.norm(x)
        return normalized


class TransformerClassifier(nn.Module):
    """Logits, or predicted numbers, (B, num_classes) of a text, a series, a table's row or an image row by row: an encoder.
    Every step attends to all others that are none of the padding. `summary` says how the steps become one vector,
    `embedding.from` a run of word vectors to begin with, as in a recurrent network."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        vocab_size: int = 0,
        num_layers: PositiveInt = 2,
        dim: PositiveInt = 64,
        num_heads: PositiveInt = 4,
        hidden_size: PositiveInt | None = None,
        positions: Positions = "sinusoidal",
        summary: Summary = "mean",
        activation: Activation = "gelu",
        dropout: Fraction = 0.1,
        impl: Impl = "torch",
        embedding: Begin | None = None,
    ) -> None:
        super().__init__()
        self.steps = Steps(input_shape, vocab_size, dim)
        self.project = nn.Identity() if vocab_size else nn.Linear(self.steps.size, dim)
        self.position = Position(positions, self.steps.most, dim)
        self.before = nn.Sequential(*dropout_layer(dropout))
        self.stack = Stack(
            num_layers, dim, num_heads, hidden_size, activation, dropout, positions, impl
        )
        self.summarize = summarize(summary, dim)
        self.output = nn.Linear(dim, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        steps, lengths = self.steps(inputs)
        x = self.before(self.position(self.project(steps)))
        outputs = self.stack(x, inside(lengths, x.shape[1])[:, None, None])
        logits: Tensor = self.output(self.summarize(outputs, lengths))
        return logits


class TransformerLanguageModel(nn.Module):
    """Logits (B, T, vocab_size) of the token after each of (B, T) tokens, by a decoder: nothing sees what comes after it.

    As in GPT-2 (Radford et al. 2019); with `tied` the output layer shares the vectors of the tokens. It sees `max_length`
    tokens at most and carries no state.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        num_layers: PositiveInt = 4,
        dim: PositiveInt = 128,
        num_heads: PositiveInt = 4,
        hidden_size: PositiveInt | None = None,
        positions: Positions = "learned",
        activation: Activation = "gelu",
        dropout: Fraction = 0.0,
        tied: bool = True,
        impl: Impl = "torch",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = Position(positions, max_length, dim)
        self.before = nn.Sequential(*dropout_layer(dropout))
        self.stack = Stack(
            num_layers, dim, num_heads, hidden_size, activation, dropout, positions, impl
        )
        self.output = nn.Linear(dim, vocab_size, bias=False)
        if tied:
            self.output.weight = self.embedding.weight
        else:
            nn.init.normal_(self.output.weight, std=0.02)
        self.context: int | None = max_length

    def begin(self, batch_size: int) -> Tensor:
        """No state: it has no numbers."""
        return torch.zeros(0, 0, batch_size, 0, device=self.embedding.weight.device)

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits, and the state as it was."""
        x = self.before(self.position(self.embedding(tokens)))
        outputs = self.stack(x, causal=True)
        return self.output(outputs), self.begin(len(tokens)) if state is None else state
