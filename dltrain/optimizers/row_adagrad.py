"""Adagrad with one learning rate per row, for embedding tables with sparse gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.optimizers.sparse_adam import add_to_rows, summed
from dltrain.types import PositiveFloat


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011, figure 1) with one sum per row instead of one per weight.

    The steps of a row are divided by the root of the sum of its mean squared gradients so far. In
    large batches of text, the row of a frequent word gets gradients from hundreds of places; plain
    gradient descent diverges then, this optimizer does not. Rows without a gradient do not change.
    Each number of a vector counts as a row.
    """

    def __init__(
        self, params: list[Tensor], lr: PositiveFloat = 0.2, eps: PositiveFloat = 1e-10
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step for the parameters that have a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    rows = len(p) if p.ndim else 1
                    self.state[p] = {"sum": torch.zeros(rows, device=p.device)}
                sums = self.state[p]["sum"]
                if p.grad.is_sparse:
                    step_rows(p, p.grad, sums, group["lr"], group["eps"])
                else:
                    step_dense(p, p.grad, sums, group["lr"], group["eps"])


def step_rows(p: Tensor, gradient: Tensor, sums: Tensor, lr: float, eps: float) -> None:
    """Update the rows of `p` that a sparse gradient names."""
    rows, values = summed(gradient)
    size = sums.index_select(0, rows).add_(values.square().mean(1))
    sums.index_copy_(0, rows, size)
    scaled = values.div_(size.sqrt_().add_(eps).unsqueeze(1))
    add_to_rows(p, rows, scaled, scale=-lr)


def step_dense(p: Tensor, gradient: Tensor, sums: Tensor, lr: float, eps: float) -> None:
    """Update all rows of `p`."""
    flat = gradient.reshape(len(sums), -1)
    sums.add_(flat.square().mean(1))
    scaled = flat / (sums.sqrt() + eps).unsqueeze(1)
    p.sub_(scaled.view_as(p), alpha=lr)
