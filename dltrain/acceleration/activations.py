"""Recomputes the activations of repeated blocks in the backward pass, instead of keeping them.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 3.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dltrain.types.rows import CommonGeneratorBefore

log = logging.getLogger("dltrain")
MIN_BLOCKS = 2  # in an nn.Sequential or nn.ModuleList
MIN_SIBLINGS = 3  # of one class, that are attributes of a module
CONTAINERS = (nn.Sequential, nn.ModuleList)


class BuffersBefore(AbstractContextManager[None]):
    """Gives a block the buffers that it had before its forward pass, within the block of `with`.

    Batch norm would update its running statistics in the recomputation again, and spectral norm
    would compute another weight. Random numbers that several processes draw together are those of
    the forward pass, too.
    """

    def __init__(self, owners: list[tuple[nn.Module, str]]) -> None:
        self.owners = owners
        self.before = [module.get_buffer(name).clone() for module, name in owners]
        self.current: list[Tensor] = []
        self.generator = CommonGeneratorBefore()

    def __enter__(self) -> None:
        self.generator.__enter__()
        self.current = [module.get_buffer(name) for module, name in self.owners]
        for (module, name), value in zip(self.owners, self.before, strict=True):
            module._buffers[name] = value.clone()

    def __exit__(self, *_: object) -> None:
        for (module, name), value in zip(self.owners, self.current, strict=True):
            module._buffers[name] = value
        self.generator.__exit__()


class RecomputedForward:
    """The calls of a block: in training, only the inputs are kept for the backward pass.

    It takes the place of torch's compiled call in a module, which copies, pickles and `state_dict`
    leave out. `forward` computes the block. Random numbers are the same in the recomputation.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.forward: Callable[..., Any] = block._call_impl
        self.owners = [
            (module, name)
            for module in block.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if buffer is not None and name not in module._non_persistent_buffers_set
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the block returns for these arguments."""
        if not (self.block.training and torch.is_grad_enabled()):
            return self.forward(*args, **kwargs)
        return checkpoint(
            self.forward, *args, use_reentrant=False, context_fn=self._contexts, **kwargs
        )

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of the forward pass and of its recomputation."""
        return nullcontext(), BuffersBefore(self.owners)


def recompute_activations(task: nn.Module) -> int:
    """Let the repeated blocks of a task's networks recompute activations; return their number.

    Logs a warning if there are none.
    """
    blocks = [block for network in task.children() for block in repeated_blocks(network)]
    for block in blocks:
        block._compiled_call_impl = RecomputedForward(block)
    if not blocks:
        log.warning(
            "device.checkpoint_activations=true recomputes nothing: "
            "the networks of this task have no repeated blocks"
        )
    return len(blocks)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks of a network: residual blocks, Transformer layers.

    They are the children of an `nn.Sequential` or `nn.ModuleList` that have several layers, if
    there are two or more, and three or more children of one class of any other module. A stage that
    is an `nn.Sequential` of blocks is not recomputed as one, but block by block. The network as a
    whole is never a block: its recomputation would need all of its activations at once.
    """
    candidates = [child for child in network.children() if has_layers(child)]
    if isinstance(network, CONTAINERS):
        is_repeated = len(candidates) >= MIN_BLOCKS
        chosen = {id(child) for child in candidates if is_repeated}
    else:
        counts = Counter(type(child) for child in candidates)
        chosen = {
            id(child)
            for child in candidates
            if counts[type(child)] >= MIN_SIBLINGS and not isinstance(child, CONTAINERS)
        }
    blocks = []
    for child in network.children():
        if id(child) in chosen and not is_stage(child):
            blocks.append(child)
        else:
            blocks += repeated_blocks(child)
    return blocks


def has_layers(module: nn.Module) -> bool:
    """Return whether a module has parts, and parameters in them."""
    has_parts = next(module.children(), None) is not None
    return has_parts and next(module.parameters(), None) is not None


def is_stage(module: nn.Module) -> bool:
    """Return whether a module is a container of blocks, to be recomputed one by one."""
    if not isinstance(module, CONTAINERS):
        return False
    return sum(map(has_layers, module.children())) >= MIN_BLOCKS
