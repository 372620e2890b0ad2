"""What models of sequences share: how inputs become steps, how padding is left out, how steps become one vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dltrain.types import PAD, UNKNOWN

DEVIATION = 1.0  # of what words begin with: smaller ones are soon what rare names happen to stand for, and learned by heart
Summary: TypeAlias = Literal["last", "mean", "max", "attention"]
Begin: TypeAlias = dict[str, str | int | bool | None]
"""What a model's token vectors begin with: `from` a run of word vectors, and whether they stay `frozen`."""


class Steps(nn.Module):
    """Inputs as steps (B, T, F), and how many of them there are of each (B,).

    Token numbers (B, T) become vectors of `embedding_dim`, that of padding being zero; a series (B, T, F) is taken as it is,
    a row of a table (B, F) as F steps of one number, an image (B, C, H, W) as its H rows, from the top. In training the
    share `word_dropout` of the tokens is unknown (Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods
    for Text Classification", section 3): rare names are not learned by heart. With `time_major` the vectors lie in memory
    step by step, as recurrent layers read them.
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
        self.word_dropout, self.time_major = word_dropout, time_major
        self.embedding = embedding(vocab_size, embedding_dim, DEVIATION) if vocab_size else None
        of_shape = {1: 1, 2: input_shape[-1], 3: input_shape[0] * input_shape[-1]}
        self.size = embedding_dim if vocab_size else of_shape[len(input_shape)]
        self.most = input_shape[-2] if len(input_shape) > 1 else input_shape[0]

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.embedding is not None:
            lengths = lengths_of(inputs)
            if self.training and self.word_dropout:
                hidden = torch.rand(inputs.shape, device=inputs.device) < self.word_dropout
                inputs = inputs.masked_fill(hidden & (inputs != PAD), UNKNOWN)
            if self.time_major:
                return self.embedding(inputs.T).transpose(0, 1), lengths
            return self.embedding(inputs), lengths
        if inputs.ndim == 4:
            inputs = inputs.transpose(1, 2).flatten(2)
        elif inputs.ndim == 2:
            inputs = inputs.unsqueeze(2)
        return inputs, torch.full((len(inputs),), inputs.shape[1], device=inputs.device)


class Lookup(torch.autograd.Function):
    """The vectors (..., D) of tokens (...), with a dense gradient of the table (V, D), which padding has no part in.

    It is that of torch's embedding, summed by a scatter: on a processor that takes about half the time.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, tokens: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.rows = len(table)
        return F.embedding(tokens, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (tokens,), gradients = ctx.saved_tensors, outer[0].flatten(0, -2)
        rows = tokens.reshape(-1, 1).expand_as(gradients)
        table = gradients.new_zeros(ctx.rows, gradients.shape[1]).scatter_add_(0, rows, gradients)
        table[PAD] = 0
        return table, None


class TokenVectors(nn.Embedding):
    """A vector for each token, that of padding always zero."""

    def forward(self, tokens: Tensor) -> Tensor:
        if self.training and tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            found: Tensor = Lookup.apply(self.weight, tokens)
            return found
        return super().forward(tokens)


def embedding(vocab_size: int, embedding_dim: int, std: float | None = None) -> nn.Embedding:
    """A vector for each token, that of padding always zero; numbers of deviation `std`, or vectors of length about 1."""
    layer = TokenVectors(vocab_size, embedding_dim, padding_idx=PAD)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(embedding_dim) if std is None else std)
    nn.init.zeros_(layer.weight[PAD])
    return layer


def lengths_of(tokens: Tensor) -> Tensor:
    """How many tokens (B,) of each row (B, T) stand before the padding; at least one."""
    return (tokens != PAD).sum(1).clamp_min(1)


def inside(lengths: Tensor, longest: int) -> Tensor:
    """Which steps (B, T) are none of the padding."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)


def last(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The output (B, F) of each sequence's last step, of outputs (B, T, F)."""
    return outputs.transpose(0, 1)[lengths - 1, torch.arange(len(outputs), device=outputs.device)]


def mean(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The mean (B, F) over the steps of each sequence."""
    kept = outputs.masked_fill(~inside(lengths, outputs.shape[1]).unsqueeze(2), 0)
    return kept.sum(1) / lengths.unsqueeze(1)


def most(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The largest value (B, F) over the steps of each sequence."""
    return outputs.masked_fill(~inside(lengths, outputs.shape[1]).unsqueeze(2), -math.inf).amax(1)


class Attention(nn.Module):
    """The mean (B, F) over the steps h of each sequence, weighted by the softmax of w . tanh(h) (Zhou et al. 2016,
    "Attention-Based Bidirectional Long Short-Term Memory Networks for Relation Classification", equations 9 to 11).

    `query` is w (F,). It begins at zero: all steps weigh alike.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(size))

    def forward(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        scores = (outputs.tanh() @ self.query.to(outputs.dtype)).float()  # (B, T)
        weights = scores.masked_fill(~inside(lengths, outputs.shape[1]), -math.inf).softmax(dim=1)
        return (weights.to(outputs.dtype).unsqueeze(1) @ outputs).squeeze(1)


Summarize: TypeAlias = Callable[[Tensor, Tensor], Tensor]
FIXED: dict[Summary, Summarize] = {"last": last, "mean": mean, "max": most}


def summarize(kind: Summary, size: int) -> Summarize:
    """What makes one vector (B, F) of the outputs (B, T, F) of sequences with lengths (B,), F being `size`."""
    return Attention(size) if kind == "attention" else FIXED[kind]


def backwards(x: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence of x (B, T, F) from its last step to its first, the padding where it was."""
    steps = torch.arange(x.shape[1], device=x.device)
    at = lengths.unsqueeze(1) - 1 - steps
    return x.gather(1, torch.where(at >= 0, at, steps).unsqueeze(2).expand_as(x))
