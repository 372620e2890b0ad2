"""Compiles the networks of a task by torch.compile."""

from __future__ import annotations

from torch import nn


def compile_networks(task: nn.Module) -> None:
    """Compile each network of `task`."""
    for network in task.children():
        network.compile()
