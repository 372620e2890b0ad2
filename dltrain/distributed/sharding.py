"""Divides parameters, gradients and moments among processes, by torch's fully_shard (FSDP2)."""

from __future__ import annotations

import functools
import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from dltrain.acceleration.activations import repeated_blocks
from dltrain.acceleration.feeding import mapped
from dltrain.distributed.feeding import DividingFeed
from dltrain.distributed.gradients import DataParallel
from dltrain.distributed.orders import GATHER_OPTIMIZER, GATHER_TASK, GATHER_WEIGHTS, LOAD_TASK
from dltrain.distributed.processes import Order, Processes
from dltrain.engine import Task
from dltrain.optim import Params


class ShardedTask:
    """A task whose networks are divided among the processes.

    The repeated blocks of a network are gathered one after the other, when a pass needs them; the
    rest of a network is gathered as a whole, and kept until its backward pass is over. Parameters
    keep their names and their modules, and checkpoints have whole tensors.

    Outside of steps process 0 evaluates and draws pictures alone: it then has whole networks.
    """

    def __init__(self, task: Task, group: Processes) -> None:
        self.group = group
        self.task = task
        self.in_step = False
        self.is_whole = False
        self.is_trained = False  # from then on process 0 loads states that the others do not know
        self.modules: list[FSDPModule] = []
        for network in networks_of(task):
            self._shard(network)
        task.register_load_state_dict_pre_hook(self._divide_loaded)
        task.register_state_dict_post_hook(partial(self._gather_state))

    def _shard(self, network: nn.Module) -> None:
        """Divide the parameters of a network; torch divides contiguous ones only."""
        network.to(memory_format=torch.contiguous_format)
        blocks = repeated_blocks(network)
        for block in blocks:
            self.modules.append(fully_shard(block))
        self.modules.append(fully_shard(network, reshard_after_forward=False))
        for module in (*blocks, network):
            module.register_forward_hook(own_output, prepend=True)
            if self.group.leads:
                module.register_forward_pre_hook(self._before_forward, prepend=True)
        passes = Passes(network)
        for name in public_methods(network):
            passes.register(name)

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        """Gather the networks for a pass that process 0 makes alone."""
        if not self.in_step:
            self.gather()

    def begin_step(self) -> None:
        """Divide the networks again if they are whole; a step follows."""
        self.in_step = True
        if self.is_whole:
            self.divide()

    def end_step(self) -> None:
        """Note that the step is over."""
        self.in_step = False

    def gather(self) -> None:
        """Make the networks whole; the other processes take part by order."""
        if self.is_whole:
            return
        if self.group.leads:
            self.group.send(Order(GATHER_WEIGHTS))
        for module in self.modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        self.is_whole = True

    def divide(self) -> None:
        """Free the parts of the networks that other processes have."""
        root_modules = networks_of(self.task)
        for module in self.modules:
            module.reshard()
            is_block = all(module is not root for root in root_modules)
            module.set_reshard_after_forward(is_block, recurse=False)
        self.is_whole = False

    def _gather_state(self, module: nn.Module, state: Any, prefix: str, metadata: Any) -> None:
        """Replace the divided tensors of a state by whole ones."""
        if not any(isinstance(value, DTensor) for value in state.values()):
            return
        if self.group.leads:
            self.group.send(Order(GATHER_TASK))
        for name, value in list(state.items()):
            state[name] = gathered(value, self.group.leads)
        self.is_whole = False  # torch divides the networks for their state

    def end_training(self) -> None:
        """Note that training is over."""
        self.is_trained = True

    def _divide_loaded(self, module: nn.Module, state: Any, prefix: str, *others: Any) -> None:
        """Divide the whole tensors of a state that is about to be loaded."""
        if self.is_trained and self.group.leads:
            self.group.send(Order(LOAD_TASK))
            self.group.share_object(dict(state))
        if self.is_whole:
            self.divide()
        for name, param in module.named_parameters(remove_duplicate=False):
            if prefix + name in state:
                state[prefix + name] = divided_like(state[prefix + name], param)


def own_output(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Return the output of a pass with copies of its views, before torch marks it.

    An operation in place on a view would drop the mark, by which torch gathers parameters for the
    backward pass.
    """
    return mapped(output, own_tensor)


def own_tensor(tensor: Tensor) -> Tensor:
    """Return a copy of a view that has a gradient, and other tensors as they are."""
    return tensor.clone() if tensor._is_view() and tensor.requires_grad else tensor


class Passes:
    """The passes of a network that is divided: by its `forward`, or by another method.

    torch gathers parameters before a pass and divides them after it. A method that is called within
    a pass is a part of it.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.depth = 0
        network.register_forward_pre_hook(self._begin, prepend=True)
        network.register_forward_hook(self._end, always_call=True)

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        self.depth += 1

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.depth -= 1

    def register(self, name: str) -> None:
        """Make the method of that name a pass, where it is not called within one."""
        part = getattr(self.network, name)

        @functools.wraps(part)
        def part_of_pass(*args: Any, **kwargs: Any) -> Any:
            return mapped(part(*args, **kwargs), own_tensor)

        setattr(self.network, name, part_of_pass)
        register_fsdp_forward_method(self.network, name)
        whole_pass = getattr(self.network, name)

        @functools.wraps(part)
        def method(*args: Any, **kwargs: Any) -> Any:
            if self.depth:
                return part(*args, **kwargs)
            self.depth += 1
            try:
                return whole_pass(*args, **kwargs)
            finally:
                self.depth -= 1

        setattr(self.network, name, method)


def networks_of(task: nn.Module) -> list[nn.Module]:
    """Return the networks of a task that have parameters."""
    return [child for child in task.children() if next(child.parameters(), None) is not None]


def public_methods(network: nn.Module) -> list[str]:
    """Return the methods of a network's own class, by which a task may use its parameters."""
    inherited = {*dir(nn.Module), *dir(FSDPModule)}
    return [
        name
        for name, _ in inspect.getmembers(network, inspect.ismethod)
        if not name.startswith("_") and name not in inherited
    ]


class FullySharded(DataParallel):
    """The mean of the gradients over the processes, each of which has a part of every parameter.

    torch combines them in every backward pass, also within a window of accumulation: no process has
    a whole gradient of the network.
    """

    def __init__(self, params: Params, group: Processes, feed: DividingFeed) -> None:
        super().__init__([], group, feed)

    def backward(self, loss: Tensor, params: Params, completes: bool) -> None:
        """Add this process's part of the mean gradient."""
        loss.backward()

    def complete(self, params: Params) -> None:
        """Do nothing: `backward` has combined the gradients."""

    def complete_for_saving(self, params: Params) -> None:
        """Do nothing: `backward` has combined the gradients."""

    def whole(self, value: Tensor) -> Tensor:
        """Return a number as an ordinary tensor."""
        return whole(value)

    def whole_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state of the optimizer with whole tensors; the others gather it by order."""
        if self.group.leads:
            self.group.send(Order(GATHER_OPTIMIZER, self.number))
        return gathered_values(state, self.group.leads)

    def divided_like(self, value: Any, param: Tensor) -> Any:
        """Return a whole tensor divided as a parameter is."""
        return divided_like(value, param)


def whole(value: Any) -> Any:
    """Return a tensor that is divided among the processes as a whole one, and others as they are.

    Every process has to call it for a divided tensor.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value


def gathered(value: Any, is_kept: bool) -> Any:
    """Return a divided tensor as a whole one on the CPU, if it `is_kept`; others as they are.

    Every process has to call it for a divided tensor. On a GPU one whole tensor exists at a time.
    """
    if not isinstance(value, DTensor):
        return value
    tensor = value.full_tensor()
    return tensor.cpu() if is_kept else None


def gathered_values(value: Any, are_kept: bool) -> Any:
    """Return nested dictionaries, lists and tuples with gathered tensors."""
    if isinstance(value, dict):
        return {key: gathered_values(item, are_kept) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(gathered_values(item, are_kept) for item in value)
    return gathered(value, are_kept)


def divided_like(value: Any, param: Tensor) -> Any:
    """Return a whole tensor, the same in all processes, divided as a parameter is."""
    if not isinstance(param, DTensor) or isinstance(value, DTensor):
        return value
    if not isinstance(value, Tensor):  # no gradient
        return value
    placed = value.to(param.device)
    return distribute_tensor(placed, param.device_mesh, param.placements, src_data_rank=None)
