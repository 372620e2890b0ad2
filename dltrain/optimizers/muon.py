"""Muon: orthogonalized momentum for the hidden weight matrices, AdamW for the rest."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from dltrain.types import Fraction, NonNegative, PositiveFloat, PositiveInt

COEFFICIENTS = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan 2024: steepest at 0 that still stay bounded; 5 steps end in 0.7..1.2
WIDE = 3  # columns a row


class Muon(torch.optim.Optimizer):
    """Moves a weight matrix by an orthogonal one, so that all its directions learn alike (Jordan 2024,
    kellerjordan.github.io/posts/muon).

    With v <- momentum * v + (1 - momentum) * g, Nesterov's momentum * v + (1 - momentum) * g = U S V^T gives the step
    lr * sqrt(max(1, rows / columns)) * U V^T. Convolution kernels are matrices (out_channels, the rest).

    Only hidden matrices are trained so, and order tells which they are: of the `params` with two or more dimensions, in
    the order of the model, the last is taken for the output layer's. It and all vectors (biases, normalization) are
    trained by AdamW, at `adamw_lr`. The first layer counts as hidden, also where it is an embedding. `weight_decay` is
    decoupled, in both.
    """

    def __init__(
        self,
        params: list[Tensor],
        lr: PositiveFloat = 0.02,
        momentum: Fraction = 0.95,
        ns_steps: PositiveInt = 5,
        adamw_lr: PositiveFloat = 1e-3,
        beta1: Fraction = 0.9,
        beta2: Fraction = 0.95,
        eps: PositiveFloat = 1e-8,
        weight_decay: NonNegative = 0.0,
    ) -> None:
        hidden = [p for p in params if p.ndim > 1][:-1]
        chosen = set(map(id, hidden))
        rest = [p for p in params if id(p) not in chosen]
        by_muon = {"params": hidden, "lr": lr, "momentum": momentum, "ns_steps": ns_steps}
        by_adamw = {
            "params": rest,
            "lr": adamw_lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "fused": True,
        }
        super().__init__([by_muon, by_adamw], {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step by the gradients that are there."""
        hidden, rest = self.param_groups
        self._step_hidden(hidden)
        self._step_rest(rest)

    def _step_hidden(self, group: dict[str, Any]) -> None:
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p)
            velocity = state["momentum_buffer"]
            velocity.lerp_(p.grad, 1 - group["momentum"])
            matrix = p.grad.lerp(velocity, group["momentum"]).flatten(1)
            rows, columns = matrix.shape
            step = orthogonalized(matrix, group["ns_steps"]).to(p.dtype).reshape(p.shape)
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(step, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))

    def _step_rest(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                step = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p] = {
                    "step": step,
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        adamw(
            params,
            [p.grad for p in params],
            [self.state[p]["exp_avg"] for p in params],
            [self.state[p]["exp_avg_sq"] for p in params],
            [],
            [self.state[p]["step"] for p in params],
            fused=True,
            amsgrad=False,
            maximize=False,
            **{key: group[key] for key in ("lr", "beta1", "beta2", "eps", "weight_decay")},
        )


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """About U V^T of `matrix` = U S V^T (rows, columns), by Newton-Schulz iteration: matrix products only.

    In bfloat16 on a GPU, as Jordan does; elsewhere that is slow, and it is done in float32. There a matrix several times as
    wide as high is gone through twice only: its Gram matrix says what every iteration multiplies it by.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x  # the smaller Gram matrix
    x = x / x.norm().clamp(min=1e-7)  # no singular value above 1: the iteration diverges from there
    if x.dtype == torch.float32 and x.shape[1] > WIDE * len(x):
        x = _factor(x @ x.T, steps) @ x
    else:
        for _ in range(steps):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _polynomial(gram: Tensor) -> Tensor:
    """What one iteration multiplies a matrix by, of its Gram matrix."""
    a, b, c = COEFFICIENTS
    result = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal().add_(a)
    return result


def _factor(gram: Tensor, steps: int) -> Tensor:
    """What all iterations together multiply a matrix by, of its Gram matrix."""
    factor = total = _polynomial(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        total = factor @ total
    return total
