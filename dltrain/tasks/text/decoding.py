"""Searching for the likeliest translation, a token at a time: the best next token (greedy), or several beams."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from dltrain.types import BEGIN, END, PAD, UNKNOWN

Memory: TypeAlias = dict[str, Tensor]
State: TypeAlias = dict[str, Tensor]
NEVER = [PAD, UNKNOWN, BEGIN]  # no translation has these in it


class Steps(Protocol):
    """A model that writes a token at a time. Every tensor of `memory` and of a state has a row for each text."""

    def begin(self, memory: Memory) -> State: ...
    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Logits (N, V) of what comes after one more token (N,) each, and the state with it."""


def log_probabilities(logits: Tensor) -> Tensor:
    """Of each next token (N, V); minus infinity of those that are never written."""
    log_p = logits.float().log_softmax(1)
    log_p[:, NEVER] = -math.inf
    return log_p


def greedy(model: Steps, memory: Memory, limits: Tensor) -> tuple[Tensor, Tensor]:
    """The best token at every step: tokens (B, T) up to the end's, filled up with `PAD`, and their log-probabilities (B,).

    A text without an end after `limits` (B,) tokens is cut off.
    """
    state, tokens = model.begin(memory), torch.full_like(limits, BEGIN)
    scores, running = (
        torch.zeros(len(limits), device=limits.device),
        torch.ones_like(limits, dtype=torch.bool),
    )
    found: list[Tensor] = []
    for length in range(1, int(limits.max()) + 1):
        logits, state = model.step(tokens, state, memory)
        best = log_probabilities(logits).max(1)
        tokens = torch.where(running, best.indices, PAD)
        scores = scores + torch.where(running, best.values, 0)
        found.append(tokens)
        running = running & (tokens != END) & (length < limits)
        if not running.any():
            break
    return torch.stack(found, dim=1), scores


def penalty(lengths: Tensor, alpha: float) -> Tensor:
    """((5 + length) / 6) ** alpha (Wu et al. 2016, "Google's Neural Machine Translation System", equation 14)."""
    return ((5 + lengths) / 6) ** alpha


def beam_search(
    model: Steps, memory: Memory, limits: Tensor, width: int, length_penalty: float
) -> tuple[Tensor, Tensor]:
    """The best of `width` beams by log-probability over `penalty`, of the length with its end: as `greedy` gives them.

    A beam that ends takes one of the `width` places for that step (so that a width of 1 is greedy), then leaves it to others.
    The search goes on until no open beam can come to be better than the best that has ended; where none ends in time the
    likeliest is cut off.
    """
    count, device = len(limits), limits.device
    memory = {name: value.repeat_interleave(width, 0) for name, value in memory.items()}
    state, tokens = model.begin(memory), torch.full((count * width,), BEGIN, device=device)
    scores = torch.full((count, width), -math.inf, device=device)  # of open beams
    scores[:, 0] = 0  # all begin with the same token: one of them is enough
    paths = torch.zeros(count, width, 0, dtype=torch.int64, device=device)
    rows = torch.arange(count, device=device)
    best, best_scores = torch.full(
        (2, count), -math.inf, device=device
    )  # penalized, and the log-probability alone
    best_paths = torch.full((count, int(limits.max())), PAD, device=device)
    penalties = penalty(torch.arange(1, int(limits.max()) + 1, device=device), length_penalty)
    for length in range(1, len(penalties) + 1):
        logits, state = model.step(tokens, state, memory)
        log_p = log_probabilities(logits).unflatten(0, (count, width))
        top = (scores.unsqueeze(2) + log_p).flatten(1).topk(width, dim=1)
        parents, tokens = top.indices // log_p.shape[2], top.indices % log_p.shape[2]
        scores = top.values
        paths = torch.cat(
            [paths.gather(1, parents.unsqueeze(2).expand_as(paths)), tokens.unsqueeze(2)], dim=2
        )
        ended = (tokens == END) & scores.isfinite()
        at_limit = (length >= limits).unsqueeze(1)
        cut_off = at_limit & ~ended.any(1, keepdim=True) & best.isinf().unsqueeze(1)
        complete = scores.masked_fill(~(ended | cut_off), -math.inf)
        value, which = complete.max(1)
        penalized = value / penalties[length - 1]
        better = penalized > best
        best = torch.where(better, penalized, best)
        best_scores = torch.where(better, value, best_scores)
        best_paths[better, :length] = paths[rows, which][better]
        hopeless = scores / penalties[limits - 1].unsqueeze(1) <= best.unsqueeze(
            1
        )  # a log-probability only falls
        scores = scores.masked_fill(ended | at_limit | hopeless, -math.inf)
        if scores.isinf().all():
            break
        chosen = (rows.unsqueeze(1) * width + parents).flatten()
        state = {name: value[chosen] for name, value in state.items()}
        tokens = tokens.flatten()
    return best_paths[:, : int((best_paths != PAD).sum(1).max())], best_scores
