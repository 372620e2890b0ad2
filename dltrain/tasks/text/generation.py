"""Writing on: tokens drawn one after the other from what a language model says comes next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.types import END


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """Draw a token (B,) for each row of logits (B, V), on the CPU.

    Logits are divided by `temperature`, 0 meaning the likeliest. With `top_p` below 1 only the likeliest tokens that
    together have that probability are drawn from (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration").
    """
    logits = logits.float().cpu()
    if temperature == 0:
        return logits.argmax(dim=1)
    probabilities = (logits / temperature).softmax(dim=1)
    if top_p < 1:
        ranked, at = probabilities.sort(dim=1, descending=True)
        ranked = ranked.masked_fill(
            ranked.cumsum(1) - ranked >= top_p, 0
        )  # the first one always stays
        probabilities = torch.zeros_like(probabilities).scatter_(1, at, ranked)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)


def write_on(
    model: Any,
    tokens: Tensor,
    count: int,
    temperature: float,
    top_p: float,
    generator: torch.Generator,
) -> Tensor:
    """`count` tokens (B, count) that follow `tokens` (B, T), by a model with a state or with a limited view.

    One that sees no further back than `context` tokens reads those again for each token; one with a state reads on. No
    special token is written: text has none.
    """
    written: list[Tensor] = []
    seen = tokens
    state = model.begin(len(tokens))
    for _ in range(count):
        if model.context is not None:
            seen = torch.cat([tokens, *written], dim=1)[:, -model.context :]
            state = None
        logits, state = model(seen, state)
        last = logits[:, -1].float().clone()
        last[:, : END + 1] = -torch.inf
        seen = choose(last, temperature, top_p, generator).to(tokens.device).unsqueeze(1)
        written.append(seen)
    return torch.cat(written, dim=1)
