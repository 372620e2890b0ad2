"""Batch norm whose statistics are those of the rows of all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dltrain.distributed.feeding import DividingFeed


class Total(torch.autograd.Function):
    """The sum of a tensor over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """Return the sum over the processes."""
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of the gradients over the processes."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def normalized_by_all(norm: Any, x: Tensor) -> Tensor:
    """Return x (B, C, ...) normalized by the mean and variance of the rows of all processes.

    Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1. The running statistics of `norm`
    are updated.
    """
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    counts_rows = 0.0 if norm.feed.step_rows.is_empty else 1.0
    values = x.float()
    size = values.numel() // values.shape[1]
    count = Total.apply(values.new_tensor(size * counts_rows))
    mean = Total.apply(values.sum(axes) * counts_rows) / count
    deviations = values - mean.view(shape)
    variance = Total.apply(deviations.square().sum(axes) * counts_rows) / count
    update_running(norm, mean.detach(), variance.detach(), count.detach())
    scaled = deviations * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        scaled = scaled * norm.weight.view(shape) + norm.bias.view(shape)
    return scaled.to(x.dtype)


@torch.no_grad()
def update_running(norm: Any, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Move the running statistics towards those of a batch, with the unbiased variance."""
    if not norm.track_running_stats:
        return
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:  # the mean over all batches
        momentum = 1 / norm.num_batches_tracked
    unbiased = variance * (count / (count - 1).clamp(min=1))
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(unbiased, momentum)


class SyncedBatchNorm1d(nn.BatchNorm1d):
    """Batch norm of features, over all processes in training."""

    feed: DividingFeed

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C) or (B, C, L), normalized."""
        return normalized_by_all(self, x) if self.training else super().forward(x)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of images, over all processes in training."""

    feed: DividingFeed

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), normalized."""
        return normalized_by_all(self, x) if self.training else super().forward(x)


class SyncedBatchNorm3d(nn.BatchNorm3d):
    """Batch norm of volumes, over all processes in training."""

    feed: DividingFeed

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, D, H, W), normalized."""
        return normalized_by_all(self, x) if self.training else super().forward(x)


SYNCED = {
    nn.BatchNorm1d: SyncedBatchNorm1d,
    nn.BatchNorm2d: SyncedBatchNorm2d,
    nn.BatchNorm3d: SyncedBatchNorm3d,
}


def not_synchronized(network: nn.Module) -> list[str]:
    """Return the names of the batch norms that `synchronize` leaves as they are."""
    others = []
    for name, module in network.named_modules():
        is_batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_batch_norm and type(module) not in SYNCED:
            others.append(name)
    return others


def synchronize(network: nn.Module, feed: DividingFeed) -> None:
    """Let every batch norm of a network normalize by the rows of all processes.

    The layers stay the same objects, so parameters, state and optimizers do too.
    """
    for module in network.modules():
        synced: Any = SYNCED.get(type(module))  # type: ignore[arg-type]
        if synced is not None:
            module.__class__ = synced
            vars(module)["feed"] = feed
