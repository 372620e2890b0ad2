"""Keeps torch's compiler out of runs that compile nothing: its import takes as long as torch's."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

# methods that import torch._dynamo when they are first called, to keep it from compiling them
EXCLUDED_FROM_COMPILATION = (
    Optimizer.add_param_group,
    Optimizer.load_state_dict,
    Optimizer.state_dict,
    Optimizer.zero_grad,
)
NOT_COMPILED = "__dynamo_disable"  # torch/_compile.py keeps the function to call in it
GRAPH_BREAKS = "_use_grad"  # the name of torch's wrapper of a step, which imports torch._dynamo


def leave_compiler_unloaded() -> None:
    """Let torch's optimizers work without the compiler, unless it is loaded already.

    Networks that are compiled later in the process contain no call of an optimizer.
    """
    if "torch._dynamo" in sys.modules:
        return
    for method in EXCLUDED_FROM_COMPILATION:
        function = inspect.unwrap(method)
        vars(function).setdefault(NOT_COMPILED, function)
    for value in vars(torch.optim).values():
        if isinstance(value, type) and issubclass(value, Optimizer):
            replace_step(value)


def replace_step(optimizer: type[Optimizer]) -> None:
    """Replace the step of a class by one that breaks no graph, if torch's wrapper does."""
    step = vars(optimizer).get("step")
    if inspect.isfunction(step) and step.__code__.co_name == GRAPH_BREAKS:
        type.__setattr__(optimizer, "step", without_graph_breaks(inspect.unwrap(step)))


def without_graph_breaks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that records gradients of its own only for a differentiable optimizer."""

    @functools.wraps(step)
    def plain_step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return plain_step


def use_deterministic_kernels(mode: bool, warn_only: bool = True) -> None:
    """Request deterministic kernels, or any; the compiler is loaded only if that changes."""
    is_set = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    changes = is_set != mode or (mode and warns != warn_only)
    if changes:
        torch.use_deterministic_algorithms(mode, warn_only=warn_only)
