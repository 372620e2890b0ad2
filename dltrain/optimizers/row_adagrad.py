"""Adagrad by rows: one rate for each row of a table, for tables with a gradient of few rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.optimizers.sparse_adam import summed
from dltrain.types import PositiveFloat


class RowAdagrad(torch.optim.Optimizer):
    """Steps of a row scaled by the root of the sum of its mean squared gradients so far: Adagrad (Duchi et al. 2011,
    figure 1) with one number kept for a row instead of one for each weight.

    Large batches of text add up what a frequent word's row gets from hundreds of places; plain descent then diverges,
    and this does not. Rows without a gradient are left alone; a vector counts as one row for each number.
    """

    def __init__(
        self, params: list[Tensor], lr: PositiveFloat = 0.2, eps: PositiveFloat = 1e-10
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step by the gradients that are there."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    self.state[p] = {"sum": torch.zeros(len(p) if p.ndim else 1, device=p.device)}
                sums = self.state[p]["sum"]
                if p.grad.is_sparse:
                    rows, gradient = summed(p.grad)
                    size = sums.index_select(0, rows).add_(gradient.square().mean(1))
                    sums.index_copy_(0, rows, size)
                    p.index_add_(
                        0,
                        rows,
                        gradient.div_(size.sqrt_().add_(group["eps"]).unsqueeze(1)),
                        alpha=-group["lr"],
                    )
                else:
                    flat = p.grad.reshape(len(sums), -1)
                    sums.add_(flat.square().mean(1))
                    p.sub_(
                        (flat / (sums.sqrt() + group["eps"]).unsqueeze(1)).view_as(p),
                        alpha=group["lr"],
                    )
