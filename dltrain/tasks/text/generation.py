"""Text generation: tokens drawn one after the other from a language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.types import END


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """Draw a token (B,) for each row of logits (B, V), on the CPU.

    The logits are divided by `temperature`; 0 takes the likeliest token. With `top_p` below 1,
    tokens are drawn only from the likeliest ones that together have that probability (Holtzman et
    al. 2020, "The Curious Case of Neural Text Degeneration").
    """
    logits = logits.float().cpu()
    if temperature == 0:
        return logits.argmax(dim=1)
    probabilities = (logits / temperature).softmax(dim=1)
    if top_p < 1:
        ranked, tokens = probabilities.sort(dim=1, descending=True)
        excess = ranked.cumsum(1) - ranked >= top_p  # the first token is always kept
        ranked = ranked.masked_fill(excess, 0)
        probabilities = torch.zeros_like(probabilities).scatter_(1, tokens, ranked)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)


def continue_text(
    model: Any,
    tokens: Tensor,
    count: int,
    temperature: float,
    top_p: float,
    generator: torch.Generator,
) -> Tensor:
    """Return `count` tokens (B, count) that follow `tokens` (B, T).

    A model with a `context` reads the last `context` tokens again for each new one; a model with a
    state reads each token once. Special tokens are never drawn, since text has none.
    """
    written: list[Tensor] = []
    inputs = tokens
    state = model.begin(len(tokens))
    for _ in range(count):
        if model.context is not None:
            inputs = torch.cat([tokens, *written], dim=1)[:, -model.context :]
            state = None
        logits, state = model(inputs, state)
        next_logits = logits[:, -1].float().clone()
        next_logits[:, : END + 1] = -torch.inf
        drawn = choose(next_logits, temperature, top_p, generator)
        inputs = drawn.to(tokens.device).unsqueeze(1)
        written.append(inputs)
    return torch.cat(written, dim=1)
