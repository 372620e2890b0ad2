"""Sparse Adam: Adam that changes only the rows with a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from dltrain.types import Fraction, PositiveFloat
from dltrain.types.waiting import is_immediate


class SparseAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) for embedding tables with sparse gradients.

    Moments and weights of a row change only in steps in which it has a gradient, so the cost of a
    step depends on the batch and not on the table. The bias correction counts every step. Dense
    parameters get ordinary Adam.
    """

    def __init__(
        self,
        params: list[Tensor],
        lr: PositiveFloat = 1e-3,
        beta1: Fraction = 0.9,
        beta2: Fraction = 0.999,
        eps: PositiveFloat = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step for the parameters that have a gradient."""
        for group in self.param_groups:
            dense = []
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    step = torch.zeros((), dtype=torch.float32, device=p.device)
                    self.state[p] = {
                        "step": step,
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
                if p.grad.is_sparse:
                    self._step_rows(p, group)
                else:
                    dense.append(p)
            self._step_dense(dense, group)

    def _step_rows(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        beta1 = group["beta1"]
        beta2 = group["beta2"]
        state["step"] += 1
        rows, gradient = summed(p.grad)
        mean = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].index_select(0, rows)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        first, second = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
        denominator = square.div_(second).sqrt_().add_(group["eps"])
        add_to_rows(p, rows, mean.div_(denominator).mul_(-group["lr"] / first))

    def _step_dense(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if params:
            adam(
                params,
                [p.grad for p in params if p.grad is not None],
                [self.state[p]["exp_avg"] for p in params],
                [self.state[p]["exp_avg_sq"] for p in params],
                [],
                [self.state[p]["step"] for p in params],
                fused=True,
                amsgrad=False,
                maximize=False,
                weight_decay=0.0,
                **{key: group[key] for key in ("lr", "beta1", "beta2", "eps")},
            )


def summed(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (N,) of a sparse gradient and their sums (N, D).

    On a CPU each row comes once: it equals `coalesce`, which takes several times as long. On other
    devices a row comes as often as the gradient has it, each time with its whole sum, so that no
    shape depends on the number of distinct rows. Update tables with `add_to_rows` or `index_copy_`.
    """
    if gradient.is_coalesced():
        return gradient.indices()[0], gradient.values()
    rows = gradient._indices()[0]
    values = gradient._values()
    if is_immediate(rows.device):
        distinct, places = rows.unique(return_inverse=True)
        sums = values.new_zeros(len(distinct), *values.shape[1:])
        return distinct, sums.index_add_(0, places, values)
    ordered, order = rows.sort()
    places = ordered.diff(prepend=ordered[:1]).ne(0).cumsum(0)  # the number of each distinct row
    sums = torch.zeros_like(values).index_add_(0, places, values.index_select(0, order))
    return ordered, sums.index_select(0, places)


def add_to_rows(table: Tensor, rows: Tensor, change: Tensor, scale: float = 1.0) -> None:
    """Add `scale` times the changes (N, D) to the rows (N,) of a table, as `summed` gives them."""
    if is_immediate(table.device):
        table.index_add_(0, rows, change, alpha=scale)
    else:  # a row that comes again gets the same value again
        table.index_copy_(0, rows, table.index_select(0, rows).add_(change, alpha=scale))
