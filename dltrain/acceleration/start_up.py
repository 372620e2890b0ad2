"""Keeps torch's compiler out of runs that compile nothing: its import takes as long as torch's."""

from __future__ import annotations

import inspect
import sys

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


def leave_compiler_unloaded() -> None:
    """Let optimizers work without the compiler, unless it is loaded already.

    Networks that are compiled later in the process contain no call of an optimizer.
    """
    if "torch._dynamo" in sys.modules:
        return
    for method in EXCLUDED_FROM_COMPILATION:
        function = inspect.unwrap(method)
        vars(function).setdefault(NOT_COMPILED, function)


def use_deterministic_kernels(mode: bool) -> None:
    """Request deterministic kernels, or any; the compiler is loaded only if that changes."""
    is_set = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    if is_set == mode and (warns or not mode):
        return
    torch.use_deterministic_algorithms(mode, warn_only=True)
