"""The processes of a run, and the collective operations that dltrain needs of them.

Process 0 leads: it owns the run's folder and the screen, and sends orders to the others. Orders and
objects go through a gloo group of their own, on the CPU, so they never wait for a GPU.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dltrain.distributed.meeting import torchrun_store
from dltrain.types.rows import Share

START_TIME = timedelta(minutes=30)  # within which all processes have read their data
ORDER_TIME = timedelta(days=7)  # within which process 0 sends the next order


def set_timeout(timeout: timedelta, group: dist.ProcessGroup | None) -> None:
    """Set how long the operations of a group wait; None is the group of all processes."""
    # public from torch 2.14 on
    function = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    function(timeout, group)


def backend() -> str:
    """Return the libraries that exchange tensors; that of GPUs is loaded when it is used."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


@dataclass(frozen=True)
class Order:
    """An order of process 0: what all processes do next, and a number that it needs."""

    kind: int
    value: float = 0.0


class Processes:
    """The processes that share a run.

    `rank` is the number of this one, and `local_rank` its number on this machine, which is that of
    its GPU.
    """

    def __init__(self, device: torch.device, control: dist.ProcessGroup) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", self.rank))
        self.device = device
        self.control = control
        self.share = Share(self.rank, self.size)
        self.numbers = itertools.count()

    def new_number(self) -> int:
        """Return a number that has the same meaning in all processes."""
        return next(self.numbers)

    @property
    def leads(self) -> bool:
        """True for process 0."""
        return self.rank == 0

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Join the processes that torchrun started, and wait until all have."""
        with torchrun_store(START_TIME) as (store, rank, size):
            return cls.meet(device, store, Share(rank, size))

    @classmethod
    def meet(cls, device: torch.device, store: dist.Store, share: Share) -> Processes:
        """Meet the other processes at `store`, and wait until all are there."""
        dist.init_process_group(
            backend(), store=store, rank=share.rank, world_size=share.processes, timeout=START_TIME
        )
        return cls._current(device)

    @classmethod
    def _current(cls, device: torch.device) -> Processes:
        control = dist.new_group(backend="gloo", timeout=ORDER_TIME)
        assert isinstance(control, dist.ProcessGroup)  # of all processes, so of this one
        return cls(device, control)

    def begin(self, timeout_seconds: float) -> None:
        """Wait until all processes are ready to train; from then on they wait so many seconds.

        That is for operations of a step. Process 0 may take longer to send the next order, because
        it evaluates or saves; if it ends meanwhile, its connections end at once.
        """
        dist.barrier(self.control)
        set_timeout(timedelta(seconds=timeout_seconds), None)

    def end(self) -> None:
        """Wait for the other processes as long as at the start: the next run is being prepared."""
        set_timeout(START_TIME, None)

    def leave(self) -> None:
        """Leave the group, without waiting for the others."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def send(self, order: Order) -> None:
        """Send an order to the other processes; only process 0 does."""
        message = torch.tensor([order.kind, order.value], dtype=torch.float64)
        dist.broadcast(message, 0, group=self.control)

    def receive(self) -> Order:
        """Wait for an order of process 0."""
        message = torch.zeros(2, dtype=torch.float64)
        dist.broadcast(message, 0, group=self.control)
        kind, value = message.tolist()
        return Order(int(kind), value)

    def share_object(self, value: Any = None) -> Any:
        """Return the object of process 0, of plain types and tensors, in every process."""
        holder = [value]
        dist.broadcast_object_list(holder, 0, group=self.control)
        return holder[0]

    def gather_objects(self, value: Any) -> list[Any]:
        """Return the objects of all processes, in their order."""
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value, group=self.control)
        return gathered

    def collect(self, value: Any) -> list[Any]:
        """Return the objects of all processes in process 0, in their order; [] in the others."""
        collected: list[Any] = [None] * self.size * self.leads
        dist.gather_object(value, collected if self.leads else None, 0, group=self.control)
        return collected

    def share_values(self, values: Sequence[Tensor]) -> None:
        """Copy the values of tensors of process 0 into those of the others."""
        for value in values:
            if value.numel():
                shared = value.contiguous()
                dist.broadcast(shared, 0)
                if shared.data_ptr() != value.data_ptr():
                    value.copy_(shared)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes, on its device."""
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    def all_true(self, value: bool) -> bool:
        """Return whether `value` is True in every process."""
        flag = torch.tensor(int(value))
        dist.all_reduce(flag, dist.ReduceOp.MIN, group=self.control)
        return bool(flag)

    def average_(self, gradients: Sequence[Tensor]) -> None:
        """Replace each gradient by its mean over the processes."""
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient.div_(self.size)
