"""Small GANs and tasks that train them, for tests of adversarial learning."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.data.fake import Fake
from dltrain.models.images.gan import GAN
from dltrain.optim import Optim
from dltrain.optimizers.sgd import sgd
from dltrain.tasks.images.adversarial import Adversarial
from dltrain.types import Data, Spec

SPEC = Spec((1, 8, 8), tuple("0123456789"), 60, 20)
LOSSES = ["nonsaturating", "minimax", "least_squares", "hinge", "wasserstein"]
BF16 = functools.partial(torch.autocast, "cpu", torch.bfloat16)


def small_gan(**settings: Any) -> GAN:
    """Return smooth networks without batch norm and dropout: a step has no hidden inputs."""
    torch.manual_seed(1)
    plain = {"latent_size": 4, "generator_sizes": (8,), "discriminator_sizes": (8,), "norm": "none"}
    return GAN(1, (8, 8), 10, **{**plain, "discriminator_dropout": 0.0, **settings})


def small_classifier() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def adversarial_task(
    model: nn.Module | None = None, data: Data | None = None, epochs: int = 1, **settings: Any
) -> Adversarial:
    """Return a task whose optimizers are plain SGD, unless `optim` is another."""
    settings.setdefault("optim", lambda modules, *settings, **more: optim_of(modules))
    return Adversarial(data or Fake(SPEC, 8, 0), model or small_gan(), epochs=epochs, **settings)


def optim_of(module: nn.Module, accumulate: int = 1, lr: float = 0.5) -> Optim:
    return Optim(module, functools.partial(sgd, lr=lr), accumulate=accumulate)


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 1, 8, 8, generator=rng.keyed(5)), torch.arange(count) % 10


def probability(logits: Tensor) -> Tensor:
    """Return the probability of being real, D in the papers."""
    return 1 / (1 + (-logits).exp())
