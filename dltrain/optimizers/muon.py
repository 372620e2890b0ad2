"""Muon: orthogonalized momentum for hidden weight matrices, AdamW for the other parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from dltrain.optimizers.fused import fused_if_available
from dltrain.types import Fraction, NonNegative, PositiveFloat, PositiveInt

# Jordan 2024: the steepest polynomial at 0 that stays bounded; after 5 steps, singular values lie
# in 0.7..1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
MIN_COLUMNS_PER_ROW = 3  # above which iterating over the Gram matrix is faster


class Muon(torch.optim.Optimizer):
    """Moves weight matrices by orthogonal matrices (Jordan 2024).

    See kellerjordan.github.io/posts/muon.

    With v <- momentum * v + (1 - momentum) * g and the Nesterov momentum
    momentum * v + (1 - momentum) * g = U S V^T, the step is
    lr * sqrt(max(1, rows / columns)) * U V^T, so that all directions learn at the same rate.
    Convolution kernels are matrices (out_channels, everything else).

    Only hidden matrices are trained in this way. The last of the `params` with two or more
    dimensions, in the order of the model, is taken as the output layer. AdamW trains it and all
    vectors (biases, norms) with the learning rate `adamw_lr`. The first layer counts as hidden,
    even if it is an embedding. `weight_decay` is decoupled in both.
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
        hidden_ids = set(map(id, hidden))
        rest = [p for p in params if id(p) not in hidden_ids]
        by_muon = {"params": hidden, "lr": lr, "momentum": momentum, "ns_steps": ns_steps}
        by_adamw = {
            "params": rest,
            "lr": adamw_lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "fused": fused_if_available(rest),
        }
        super().__init__([by_muon, by_adamw], {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step for the parameters that have a gradient."""
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
                # Only fused kernels count steps on the device; the others read the count.
                device = torch.device("cpu")
                if group["fused"]:
                    device = p.device
                step = torch.zeros((), dtype=torch.float32, device=device)
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
            fused=group["fused"],
            amsgrad=False,
            maximize=False,
            **{key: group[key] for key in ("lr", "beta1", "beta2", "eps", "weight_decay")},
        )


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """Return approximately U V^T of `matrix` = U S V^T (rows, columns).

    A Newton-Schulz iteration needs only matrix products. It runs in bfloat16 on a GPU, as Jordan
    does; elsewhere that is slow, and it runs in float32. There, a wide matrix is read only twice,
    because its Gram matrix determines the factor of every iteration.
    """
    is_tall = len(matrix) > matrix.shape[1]
    dtype = torch.bfloat16 if matrix.is_cuda else torch.float32
    x = matrix.to(dtype)
    if is_tall:
        x = x.T  # which has the smaller Gram matrix
    x = x / x.norm().clamp(min=1e-7)  # the iteration diverges for singular values above 1
    if x.dtype == torch.float32 and x.shape[1] > MIN_COLUMNS_PER_ROW * len(x):
        x = _factor(x @ x.T, steps) @ x
    else:
        x = _iterate(x, steps)
    return x.T if is_tall else x


def _iterate(x: Tensor, steps: int) -> Tensor:
    """Run the iteration x <- a x + (b G + c G^2) x with the Gram matrix G = x x^T."""
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """Return the factor of one iteration, a I + b G + c G^2, from the Gram matrix G."""
    a, b, c = COEFFICIENTS
    result = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal().add_(a)
    return result


def _factor(gram: Tensor, steps: int) -> Tensor:
    """Return the product of the factors of all iterations, from the Gram matrix."""
    factor = total = _polynomial(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        total = factor @ total
    return total
