"""Classes that are rare: how the training split makes up for it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Balance: TypeAlias = Literal["none", "weights", "sampler", "focal"]
"""`sampler` draws each class equally often; `weights` and `focal` are the loss's business (config/balance.py)."""


def equally_often(classes: Tensor, generator: torch.Generator) -> Tensor:
    """As many of the places of `classes` (N,) as there are, in random order and with replacement: each class that occurs
    comes equally often, up to one, and every sample of a class as likely as another."""
    found, counts = classes.unique(return_counts=True)
    starts = counts.cumsum(0) - counts
    order = torch.randperm(len(found), generator=generator)  # whose is one more
    which = order[torch.arange(len(classes)) % len(found)]
    within = (
        torch.rand(len(classes), generator=generator, dtype=torch.float64) * counts[which]
    ).long()
    drawn = classes.argsort(stable=True)[starts[which] + within]
    return drawn[torch.randperm(len(drawn), generator=generator)]
