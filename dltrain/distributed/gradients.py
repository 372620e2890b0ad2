"""Combines the gradients of several processes, by torch's DistributedDataParallel.

A loss is passed through DistributedDataParallel instead of a network: it combines the gradients of
the optimizer's own parameters while the backward pass computes them, whatever the task called. So
a task with two optimizers, or one that calls a network's methods, needs nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dltrain.distributed.feeding import DividingFeed, rows_of
from dltrain.distributed.orders import SAVE_GRADIENTS
from dltrain.distributed.processes import Order, Processes
from dltrain.optim import Params, Reduction

# torch copies such gradients into its buckets, which takes little time
STRIDES = "Grad strides do not match bucket view strides"


class LossOf(nn.Module):
    """Holds the parameters of an optimizer; its output is the loss that it is called with."""

    def __init__(self, params: Sequence[Tensor]) -> None:
        super().__init__()
        self.params = nn.ParameterList(params)

    def forward(self, loss: Tensor) -> Tensor:
        """Return the loss."""
        return loss


class DataParallel(Reduction):
    """The mean of the gradients over the processes, for parameters that each process has.

    The first step combines gradients after the backward pass, and learns which parameters have one:
    from then on they are combined during it. Gradients that come from no backward pass, sparse
    ones, and those of an incomplete window of accumulation are combined when a step needs them.

    `number` counts the optimizers of a run; by it process 0 orders the others to combine the
    gradients of a checkpoint.
    """

    def __init__(self, params: Params, group: Processes, feed: DividingFeed) -> None:
        self.group = group
        self.feed = feed
        self.processes = group.size
        self.number = group.new_number()
        self.parallel: DistributedDataParallel | None = None
        self.is_dense = True
        self.is_complete = False
        for p in params:
            dist.broadcast(p.detach(), 0)

    def total(self, weight: float | Tensor) -> float | Tensor:
        """Return the sum of the weights over the processes."""
        own = torch.as_tensor(self.own_weight(weight), dtype=torch.float32)
        return self.group.sum(own.to(self.group.device))

    def default_weight(self) -> float:
        """Return the number of this process's rows, for a loss that is their mean."""
        return float(self.feed.step_rows.count or 1)

    def own_weight(self, weight: float | Tensor) -> float | Tensor:
        """Return the weight of this process's loss: 0 if it has no row of the batch."""
        return 0 * weight if self.feed.step_rows.is_empty else weight

    def is_finite(self, loss: Tensor) -> bool:
        """Return whether the losses of all processes are finite."""
        return self.group.all_true(bool(loss.isfinite()))

    def backward(self, loss: Tensor, params: Params, completes: bool) -> None:
        """Add the gradient of `loss`, and combine the sums if this completes those of a step."""
        if self.parallel is None or not completes:
            loss.backward(inputs=params)
            self.is_complete = False
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", STRIDES, UserWarning)
            self.parallel(loss).backward(inputs=params)
        self.is_complete = True

    def complete(self, params: Params) -> None:
        """Replace each gradient by its mean over the processes, unless `backward` did."""
        if self.is_complete:
            self.is_complete = False
            return
        counts = self.average(params)
        all_have_gradients = bool((counts == self.processes).all())
        if self.is_dense and self.parallel is None:
            self.parallel = DistributedDataParallel(
                LossOf(params),
                find_unused_parameters=not all_have_gradients,
                init_sync=False,
            )

    def average(self, params: Params) -> Tensor:
        """Replace the gradients by their means; return how many processes had each of them (P,)."""
        has_gradient = [p.grad is not None for p in params]
        is_sparse = [p.grad is not None and p.grad.is_sparse for p in params]
        flags = torch.tensor([has_gradient, is_sparse], dtype=torch.int64)
        dist.all_reduce(flags, group=self.group.control)
        counts, sparse_counts = flags
        self.is_dense = self.is_dense and not sparse_counts.any()
        for p, count, sparse_count in zip(params, counts.tolist(), flags[1].tolist(), strict=True):
            if not count:
                continue
            if p.grad is None:
                p.grad = empty_gradient(p, bool(sparse_count))
            p.grad = self._mean(p.grad)
        return counts

    def _mean(self, gradient: Tensor) -> Tensor:
        """Return the mean of a gradient over the processes."""
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            if gradient.is_cuda:  # NCCL takes no sparse tensors
                return self._gathered_mean(gradient)
        elif not gradient.is_contiguous():  # channels-last, for one
            gradient = gradient.clone(memory_format=torch.preserve_format)
        dist.all_reduce(gradient)
        return gradient.div_(self.processes)

    def _gathered_mean(self, gradient: Tensor) -> Tensor:
        """Return the mean of a sparse gradient over the processes, by way of their CPUs."""
        own = (gradient.indices().cpu(), gradient.values().cpu())
        parts = self.group.gather_objects(own)
        indices = torch.cat([indices for indices, _ in parts], dim=1).to(gradient.device)
        values = torch.cat([values for _, values in parts]).to(gradient.device)
        shape = gradient.shape
        total = torch.sparse_coo_tensor(indices, values, shape, check_invariants=False)
        return total.coalesce().div_(self.processes)

    def complete_for_saving(self, params: Params) -> None:
        """Combine the gradients of an incomplete step; the other processes do it by order."""
        if self.group.leads:
            self.group.send(Order(SAVE_GRADIENTS, self.number))
        self.average(params)

    def own_rows(self, values: Any) -> Any:
        """Return this process's rows of tensors (B, ...)."""
        return rows_of(values, self.group.share.rows(num_values(values)))

    def all_rows(self, values: Tensor) -> Tensor:
        """Return the rows (B, ...) of all processes, in their order."""
        parts: list[Tensor] = self.group.gather_objects(values.detach().cpu())
        return torch.cat(parts).to(values.device)


def num_values(values: Any) -> int:
    """Return the number of rows B of tensors (B, ...) in a dictionary, a tuple or alone."""
    if isinstance(values, Tensor):
        return len(values)
    parts = values.values() if isinstance(values, dict) else values
    return len(next(iter(parts)))


def empty_gradient(param: Tensor, is_sparse: bool) -> Tensor:
    """Return the gradient 0 of a parameter that only other processes have used."""
    if is_sparse:
        indices = torch.zeros(1, 0, dtype=torch.int64, device=param.device)
        values = param.detach().new_zeros(0, *param.shape[1:])
        return torch.sparse_coo_tensor(indices, values, param.shape, check_invariants=False)
    return torch.zeros_like(param)
