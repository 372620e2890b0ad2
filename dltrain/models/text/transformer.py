"""Transformers with pre-normalization: blocks, a classifier and a language model."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.attention import Impl, MultiHeadAttention
from dltrain.models.text.sequences import InitialEmbedding, Steps, Summary, inside, summarize
from dltrain.types import Activation, Fraction, PositiveInt

Positions: TypeAlias = Literal["sinusoidal", "learned", "rotary"]
INITIAL_STD = 0.02  # as in GPT-2


class Position(nn.Module):
    """Adds a positional encoding to vectors (B, T, D).

    "sinusoidal" adds sines and cosines of wavelengths from 2 pi to 20000 pi (Vaswani et al. 2017,
    section 3.5), "learned" an embedding of the position, and "rotary" nothing, because attention
    rotates queries and keys.
    """

    def __init__(self, kind: Positions, max_steps: int, dim: int) -> None:
        super().__init__()
        self.learned: nn.Embedding | None = None
        if kind == "learned":
            self.learned = nn.Embedding(max_steps, dim)
            nn.init.normal_(self.learned.weight, std=INITIAL_STD)
        self.sinusoidal = kind == "sinusoidal"

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors (B, T, D) with their positional encoding."""
        if self.learned is not None:
            return x + self.learned.weight[: x.shape[1]]
        if self.sinusoidal:
            return x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        return x


def sinusoids(steps: int, dim: int, device: torch.device) -> Tensor:
    """Return PE (T, D): PE(t, 2i) = sin(t 10000^(-2i/D)), PE(t, 2i + 1) = cos of the same."""
    rates = 10_000.0 ** (-torch.arange(0, dim, 2, device=device) / dim)
    angles = torch.arange(steps, device=device).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :dim]


class Block(nn.Module):
    """A Transformer block: x + attention(norm(x)), then x + MLP(norm(x)).

    A decoder block `with_memory` adds x + attention(norm(x), memory) in between. The norm comes
    before each part, so that training needs no warm-up (Xiong et al. 2020, "On Layer Normalization
    in the Transformer Architecture").
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
        self.norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, num_heads, dropout, rotary, impl)
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
        """Return the outputs (B, T, D) of x (B, T, D); see `MultiHeadAttention` for the masks."""
        x = x + self.dropout(self.attention(self.norm(x), None, allowed, causal))
        if memory is not None:
            x = x + self.dropout(self.memory_attention(self.memory_norm(x), memory, memory_allowed))
        out: Tensor = x + self.mlp(x)
        return out


class Stack(nn.Module):
    """A stack of `num_layers` blocks and a final layer norm.

    Initial weights are those of GPT-2: N(0, 0.02), divided by sqrt(2 num_layers) for the last
    layer of each residual part, because so many of them are added up.
    """

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
        for name, parameter in self.named_parameters():
            if name.endswith(("output.weight", "mlp.3.weight")):
                nn.init.normal_(parameter, std=INITIAL_STD / math.sqrt(2 * num_layers))
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, std=INITIAL_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        x: Tensor,
        allowed: Tensor | None = None,
        causal: bool = False,
        memory: Tensor | None = None,
        memory_allowed: Tensor | None = None,
    ) -> Tensor:
        """Return the outputs (B, T, D) of x (B, T, D); see `MultiHeadAttention` for the masks."""
        for block in self.blocks:
            x = block(x, allowed, causal, memory, memory_allowed)
        normalized: Tensor = self.norm(x)
        return normalized


class TransformerClassifier(nn.Module):
    """A Transformer encoder for texts, series, table rows, or images read row by row.

    Maps inputs to logits, or predicted numbers, (B, num_classes). Every step attends to all steps
    except padding. `summary` and `embedding` are as in `Recurrent`.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
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
        embedding: InitialEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.steps = Steps(input_shape, vocab_size, dim)
        self.project = nn.Identity() if vocab_size else nn.Linear(self.steps.size, dim)
        self.position = Position(positions, self.steps.max_steps, dim)
        self.before = nn.Sequential(*dropout_layer(dropout))
        self.stack = Stack(
            num_layers, dim, num_heads, hidden_size, activation, dropout, positions, impl
        )
        self.summarize = summarize(summary, dim)
        self.output = nn.Linear(dim, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, or predicted numbers, (B, num_classes) of inputs."""
        steps, lengths = self.steps(inputs)
        x = self.before(self.position(self.project(steps)))
        outputs = self.stack(x, inside(lengths, x.shape[1])[:, None, None])
        logits: Tensor = self.output(self.summarize(outputs, lengths))
        return logits


class TransformerLanguageModel(nn.Module):
    """A Transformer decoder as a language model, as in GPT-2 (Radford et al. 2019).

    Maps tokens (B, T) to logits (B, T, vocab_size) of the next token at each position; a token
    attends to itself and earlier tokens. It sees at most `max_length` tokens and has no state. With
    `tied`, the output layer shares the embedding.
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
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)
        self.position = Position(positions, max_length, dim)
        self.before = nn.Sequential(*dropout_layer(dropout))
        self.stack = Stack(
            num_layers, dim, num_heads, hidden_size, activation, dropout, positions, impl
        )
        self.output = nn.Linear(dim, vocab_size, bias=False)
        if tied:
            self.output.weight = self.embedding.weight
        else:
            nn.init.normal_(self.output.weight, std=INITIAL_STD)
        self.context: int | None = max_length

    def begin(self, batch_size: int) -> Tensor:
        """Return an empty state."""
        return torch.zeros(0, 0, batch_size, 0, device=self.embedding.weight.device)

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the logits and the unchanged state."""
        if state is None:
            state = self.begin(len(tokens))
        x = self.before(self.position(self.embedding(tokens)))
        outputs = self.stack(x, causal=True)
        return self.output(outputs), state
