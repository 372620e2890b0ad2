"""Search for the likeliest translation: greedy, or by a beam of candidates.

A search ends when all of its texts have ended. To learn that is to wait for the device, so that a
search asks only every few tokens (`is_check`).

Legend of the shapes: B texts, T tokens of a translation, W beams of a text, V words of the
vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dltrain.types import BEGIN, END, PAD, UNKNOWN, EncoderOutput, StepDecoder
from dltrain.types.waiting import is_immediate

NEVER_WRITTEN = [PAD, UNKNOWN, BEGIN]
TOKENS_PER_CHECK = 8  # on a device that computes while the CPU issues the next steps


def is_check(length: int, device: torch.device) -> bool:
    """Return whether a search asks after `length` tokens if all texts have ended.

    The values of tensors on the CPU are there at once, so it asks after every token.
    """
    return is_immediate(device) or length % TOKENS_PER_CHECK == 0


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log-probabilities (N, V) of next tokens; -inf for tokens that are never written."""
    log_p = logits.float().log_softmax(1)
    for token in NEVER_WRITTEN:  # a list as an index would be copied from the host
        log_p[:, token] = -math.inf
    return log_p


def greedy(
    model: StepDecoder, memory: EncoderOutput, limits: Tensor, max_length: int
) -> tuple[Tensor, Tensor]:
    """Take the best token at every step.

    A text without an end token is cut off after `limits` (B,) tokens, which are at most
    `max_length`.

    Returns:
        Tokens (B, T) up to the end token, padded with `PAD`, and their log-probabilities (B,).
    """
    state = model.begin(memory)
    tokens = torch.full_like(limits, BEGIN)
    scores = torch.zeros(len(limits), device=limits.device)
    running = torch.ones_like(limits, dtype=torch.bool)
    written: list[Tensor] = []
    for length in range(1, max_length + 1):
        logits, state = model.step(tokens, state, memory)
        best = log_probabilities(logits).max(1)
        tokens = torch.where(running, best.indices, PAD)
        scores = scores + torch.where(running, best.values, 0)
        written.append(tokens)
        running = running & (tokens != END) & (length < limits)
        if is_check(length, limits.device) and not running.any():
            break
    return without_empty_columns(torch.stack(written, dim=1)), scores


def without_empty_columns(tokens: Tensor) -> Tensor:
    """Return tokens (B, T) without the last columns that have only padding."""
    longest = int((tokens != PAD).sum(1).max())
    return tokens[:, :longest]


def penalty(lengths: Tensor, alpha: float) -> Tensor:
    """Return the length penalty ((5 + length) / 6) ** alpha of each length.

    Wu et al. 2016, "Google's Neural Machine Translation System", equation 14.
    """
    return ((5 + lengths) / 6) ** alpha


def beam_search(
    model: StepDecoder,
    memory: EncoderOutput,
    limits: Tensor,
    max_length: int,
    width: int,
    length_penalty: float,
) -> tuple[Tensor, Tensor]:
    """Search with `width` beams for the best log-probability over `penalty` of the length.

    The length counts the end token. A beam that ends occupies one of the `width` places in that
    step, so that a width of 1 is greedy, and frees it afterwards. The search of a text stops when
    no open beam can beat its best ended one. Where no beam ends within `limits` (B,) tokens, which
    are at most `max_length`, the likeliest is cut off.

    Returns:
        Tokens (B, T) up to the end token, padded with `PAD`, and their log-probabilities (B,).
    """
    count = len(limits)
    device = limits.device
    rows = torch.arange(count, device=device)
    memory = {name: value.repeat_interleave(width, 0) for name, value in memory.items()}
    state = model.begin(memory)
    tokens = torch.full((count * width,), BEGIN, device=device)
    scores = torch.full((count, width), -math.inf, device=device)  # of open beams
    scores[:, 0] = 0  # all beams begin with the same token, so one is enough
    paths = torch.zeros(count, width, 0, dtype=torch.int64, device=device)  # (B, W, length)
    best = torch.full((count,), -math.inf, device=device)  # penalized score of ended beams
    best_scores = torch.full((count,), -math.inf, device=device)  # without the penalty
    best_paths = torch.full((count, max_length), PAD, device=device)
    penalties = penalty(torch.arange(1, max_length + 1, device=device), length_penalty)
    final_penalties = penalties[limits - 1].unsqueeze(1)
    for length in range(1, max_length + 1):
        logits, state = model.step(tokens, state, memory)
        log_p = log_probabilities(logits).unflatten(0, (count, width))  # (B, W, V)
        top = (scores.unsqueeze(2) + log_p).flatten(1).topk(width, dim=1)
        scores = top.values
        parents = top.indices // log_p.shape[2]
        tokens = top.indices % log_p.shape[2]
        parent_paths = paths.gather(1, parents.unsqueeze(2).expand_as(paths))
        paths = torch.cat([parent_paths, tokens.unsqueeze(2)], dim=2)
        ended = (tokens == END) & scores.isfinite()
        at_limit = (length >= limits).unsqueeze(1)
        none_ended = ~ended.any(1, keepdim=True) & best.isinf().unsqueeze(1)
        cut_off = at_limit & none_ended
        ended_scores, beams = scores.masked_fill(~(ended | cut_off), -math.inf).max(1)
        penalized = ended_scores / penalties[length - 1]
        better = penalized > best
        best = torch.where(better, penalized, best)
        best_scores = torch.where(better, ended_scores, best_scores)
        written = torch.where(better.unsqueeze(1), paths[rows, beams], best_paths[:, :length])
        best_paths[:, :length] = written
        # A log-probability only falls, so that this bound holds for every continuation.
        hopeless = scores / final_penalties <= best.unsqueeze(1)
        scores = scores.masked_fill(ended | at_limit | hopeless, -math.inf)
        if is_check(length, device) and scores.isinf().all():
            break
        sources = (rows.unsqueeze(1) * width + parents).flatten()
        state = {name: value[sources] for name, value in state.items()}
        tokens = tokens.flatten()
    return without_empty_columns(best_paths), best_scores
