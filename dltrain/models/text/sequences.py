"""Helpers of sequence models: inputs to steps, masks for padding, and one vector per sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dltrain.types import PAD, UNKNOWN
from dltrain.types.rows import random_rows_by_default

# The standard deviation of initial embeddings. With smaller ones, a model soon memorizes rare names
# (measured on IMDB: docs/results.md).
INITIAL_STD = 1.0
Summary: TypeAlias = Literal["last", "mean", "max", "attention"]
InitialEmbedding: TypeAlias = dict[str, str | int | bool | None]
"""Initial embeddings: those of the run `from`, and whether they stay `frozen`."""


class Steps(nn.Module):
    """Converts inputs to steps (B, T, F) and the number of steps (B,) of each.

    Tokens (B, T) become embeddings of `embedding_dim` numbers, zero for padding. A series (B, T, F)
    stays as it is, a row of a table (B, F) becomes F steps of one number, and an image (B, C, H, W)
    becomes its H rows, from top to bottom. In training, `word_dropout` of the tokens are replaced
    by the unknown token, so that rare names are not memorized (Iyyer et al. 2015, "Deep Unordered
    Composition Rivals Syntactic Methods for Text Classification", section 3). With `time_major`,
    the embeddings of a step are contiguous in memory, as recurrent layers read them.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        vocab_size: int,
        embedding_dim: int,
        word_dropout: float = 0.0,
        time_major: bool = False,
    ) -> None:
        super().__init__()
        self.word_dropout = word_dropout
        self.time_major = time_major
        self.embedding: nn.Embedding | None = None
        features = {1: 1, 2: input_shape[-1], 3: input_shape[0] * input_shape[-1]}
        self.size = features[len(input_shape)]
        if vocab_size:
            self.embedding = embedding(vocab_size, embedding_dim, INITIAL_STD)
            self.size = embedding_dim
        self.max_steps = input_shape[-2] if len(input_shape) > 1 else input_shape[0]

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the steps (B, T, F) of inputs, and their number (B,)."""
        if self.embedding is not None:
            lengths = lengths_of(inputs)
            inputs = self._drop_words(inputs)
            if self.time_major:
                return self.embedding(inputs.T).transpose(0, 1), lengths
            return self.embedding(inputs), lengths
        if inputs.ndim == 4:
            inputs = inputs.transpose(1, 2).flatten(2)
        elif inputs.ndim == 2:
            inputs = inputs.unsqueeze(2)
        return inputs, torch.full((len(inputs),), inputs.shape[1], device=inputs.device)

    def _drop_words(self, tokens: Tensor) -> Tensor:
        """Replace some tokens (B, T) by the unknown token, in training."""
        if not self.training or not self.word_dropout:
            return tokens
        uniform = partial(torch.rand, device=tokens.device)
        dropped = random_rows_by_default(uniform, tokens.shape) < self.word_dropout
        return tokens.masked_fill(dropped & (tokens != PAD), UNKNOWN)


class Lookup(torch.autograd.Function):
    """An embedding lookup with a dense gradient of the table (V, D), zero for padding.

    Maps tokens (...) to vectors (..., D). The gradient equals that of torch's embedding; a scatter
    computes it in about half the time on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, tokens: Tensor) -> Tensor:
        """Return the vectors (..., D) of tokens (...) from the table (V, D)."""
        ctx.save_for_backward(tokens)
        ctx.rows = len(table)
        return F.embedding(tokens, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        """Return the gradient (V, D) of the table."""
        (tokens,) = ctx.saved_tensors
        gradients = outer[0].flatten(0, -2)
        rows = tokens.reshape(-1, 1).expand_as(gradients)
        table = gradients.new_zeros(ctx.rows, gradients.shape[1]).scatter_add_(0, rows, gradients)
        table[PAD] = 0
        return table, None


class TokenVectors(nn.Embedding):
    """An embedding whose vector for padding stays zero."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors (..., D) of tokens (...)."""
        if self.training and tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            vectors: Tensor = Lookup.apply(self.weight, tokens)
            return vectors
        return super().forward(tokens)


def embedding(vocab_size: int, embedding_dim: int, std: float | None = None) -> nn.Embedding:
    """Return an embedding whose vector for padding stays zero.

    Its initial numbers have the standard deviation `std`; without it, vectors have a length of
    about 1.
    """
    layer = TokenVectors(vocab_size, embedding_dim, padding_idx=PAD)
    if std is None:
        std = 1 / math.sqrt(embedding_dim)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.weight[PAD])
    return layer


def lengths_of(tokens: Tensor) -> Tensor:
    """Return the number of tokens (B,) before the padding in each row (B, T), at least one."""
    return (tokens != PAD).sum(1).clamp_min(1)


def inside(lengths: Tensor, longest: int) -> Tensor:
    """Return a mask (B, T) that is False for padding."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)


def last(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the last output (B, F) of each sequence, from outputs (B, T, F)."""
    return outputs.transpose(0, 1)[lengths - 1, torch.arange(len(outputs), device=outputs.device)]


def mean(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean (B, F) over the steps of each sequence."""
    masked = outputs.masked_fill(~inside(lengths, outputs.shape[1]).unsqueeze(2), 0)
    return masked.sum(1) / lengths.unsqueeze(1)


def maximum(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the maximum (B, F) over the steps of each sequence."""
    return outputs.masked_fill(~inside(lengths, outputs.shape[1]).unsqueeze(2), -math.inf).amax(1)


class AttentionSummary(nn.Module):
    """The mean over the steps h of each sequence, weighted by the softmax of w . tanh(h).

    Maps outputs (B, T, F) to (B, F); see Zhou et al. 2016, "Attention-Based Bidirectional Long
    Short-Term Memory Networks for Relation Classification", equations 9 to 11. `query` is w (F,).
    It is zero at first, so that all steps have the same weight.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(size))

    def forward(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the weighted means (B, F) of outputs (B, T, F) with lengths (B,)."""
        scores = (outputs.tanh() @ self.query.to(outputs.dtype)).float()  # (B, T)
        weights = scores.masked_fill(~inside(lengths, outputs.shape[1]), -math.inf).softmax(dim=1)
        return (weights.to(outputs.dtype).unsqueeze(1) @ outputs).squeeze(1)


Summarize: TypeAlias = Callable[[Tensor, Tensor], Tensor]
FIXED_SUMMARIES: dict[Summary, Summarize] = {"last": last, "mean": mean, "max": maximum}


def summarize(kind: Summary, size: int) -> Summarize:
    """Return a function of outputs (B, T, F) and lengths (B,) that returns vectors (B, F)."""
    if kind == "attention":
        return AttentionSummary(size)
    return FIXED_SUMMARIES[kind]


def reversed_sequences(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence of x (B, T, F) and keep its padding at the end."""
    steps = torch.arange(x.shape[1], device=x.device)
    places = lengths.unsqueeze(1) - 1 - steps
    places = torch.where(places >= 0, places, steps)
    return x.gather(1, places.unsqueeze(2).expand_as(x))
