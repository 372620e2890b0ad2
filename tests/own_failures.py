"""A plugin with a network that fails in one process of a run, in its fifth training step."""

from __future__ import annotations

import math
import os

from torch import Tensor, nn

FAILING_STEP = 5


class FailsInProcess(nn.Module):
    """A linear network that raises in the process that FAILING_PROCESS names."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), num_classes)
        self.steps = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, K) of inputs (B, ...)."""
        self.steps += self.training
        is_failing = os.environ.get("RANK", "0") == os.environ.get("FAILING_PROCESS")
        if is_failing and self.steps == FAILING_STEP:
            raise ValueError("this network cannot have such inputs")
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits


class OwnBatchNorm(nn.BatchNorm1d):
    """A batch norm of a class of its own."""


class NormalizedByOwn(nn.Sequential):
    """A linear network with a batch norm that torch does not know."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        size = math.prod(input_shape)
        super().__init__(nn.Flatten(), OwnBatchNorm(size), nn.Linear(size, num_classes))
