"""Rewinding: after pruning, the weights that are left return to what they were before.

Frankle and Carbin 2019, "The Lottery Ticket Hypothesis"; to a later step than the first: Frankle et
al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis".
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.engine import Metrics, Stage
from dltrain.errors import ConfigError
from dltrain.optim import Optim

NONE = "none"
EXPECTED = "expected none, initial, or step:N with the number of an update in the stage train"


class Rewinding(nn.Module):
    """Leaves the weights as they are trained."""

    def begin(self, network: nn.Module) -> None:
        """Observe the weights before the first step."""

    def observed(self, stage: Stage) -> Stage:
        """Return the stage that trains the dense network, with the weights observed."""
        return stage

    def rewind(self, network: nn.Module) -> None:
        """Put earlier weights into `network`."""


class ToStep(Rewinding):
    """Keeps the weights after update number `step`, in checkpoints too, and rewinds to them.

    Step 0 is the initial state.
    """

    is_kept: Tensor

    def __init__(self, network: nn.Module, step: int) -> None:
        super().__init__()
        self.step = step
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("is_kept", torch.tensor(False))

    def begin(self, network: nn.Module) -> None:
        """Keep the initial weights, if they are asked for."""
        if self.step == 0:
            self._keep(network)

    def observed(self, stage: Stage) -> Stage:
        """Return the stage, which keeps the weights after update number `step`.

        Raises:
            ConfigError: The stage is shorter.
        """
        if self.step == 0:
            return stage
        (optim,) = stage.optims
        require_reached(self.step, optim)
        assert stage.objective is not None
        network = stage.objective.model

        def step(batch: Any) -> Metrics:
            metrics = stage.step(batch)
            if optim.updates == self.step and not optim.pending:
                self._keep(network)
            return metrics

        return replace(stage, step=step, replayable=False, objective=None)

    def _keep(self, network: nn.Module) -> None:
        self.network.load_state_dict(network.state_dict())
        self.is_kept.fill_(True)

    def rewind(self, network: nn.Module) -> None:
        """Put the kept weights into `network`.

        Raises:
            ConfigError: The stage ended before that step.
        """
        if self.step and not bool(self.is_kept):
            raise ConfigError([(f"task.rewind=step:{self.step}", "the stage train ended before")])
        network.load_state_dict(self.network.state_dict())


def require_reached(step: int, optim: Optim) -> None:
    """Raise ConfigError if an optimizer is planned to make fewer updates than `step`."""
    if 0 < optim.total_updates < step:
        why = f"the stage train has {optim.total_updates:,} updates (task.train_epochs)"
        raise ConfigError([(f"task.rewind=step:{step}", why)])


def rewinding_of(text: str, network: nn.Module, train_epochs: int) -> Rewinding:
    """Return the rewinding that task.rewind=`text` asks for.

    Raises:
        ValueError: The text is not a rewinding, or nothing is trained before the step.
    """
    if text == NONE:
        return Rewinding()
    if text == "initial":
        return ToStep(network, 0)
    match = re.fullmatch(r"step:([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"rewind={text}: {EXPECTED}")
    if not train_epochs:
        raise ValueError(f"rewind={text}: nothing is trained before pruning with train_epochs=0")
    return ToStep(network, int(match[1]))
