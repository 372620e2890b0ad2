"""Divides the step of an `Optim` into what a device repeats and what the host does each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dltrain.optim import Optim


class RecordedOptim:
    """An `Optim` whose step on the device reads nothing from the host that changes.

    The host calls `begin`, then the device makes the step (the code of the step within `on_device`,
    or a repetition of what it did there), then the host calls `finish`. Learning rates are tensors
    on the device, which `begin` fills. The norm of the gradient is always measured. Penalties after
    a step and averages of weights depend on the count of steps, so `finish` applies them.
    """

    def __init__(self, optim: Optim) -> None:
        self.optim = optim
        self.groups: list[dict[str, Any]] = optim.optimizer.param_groups
        device = optim.params[0].device
        self.rates = [torch.zeros((), device=device) for _ in self.groups]
        self.filled_rates = [0.0] * len(self.rates)
        self.steps = 0  # of the optimizer within `on_device`
        self.grad_norm: Tensor | None = None
        self.earlier_grad_norm: Tensor | None = None
        self.is_norm_requested = False
        self.is_norm_needed = False

    def begin(self) -> None:
        """Set the learning rates of the next step, and note whether its gradient norm is needed."""
        optim = self.optim
        optim.set_learning_rates()
        for place, group in enumerate(self.groups):
            rate = float(group["lr"])
            if rate != self.filled_rates[place]:
                self.rates[place].fill_(rate)
                self.filled_rates[place] = rate
        self.is_norm_requested = optim.record_grad_norm
        self.is_norm_needed = optim.needs_grad_norm()
        self.earlier_grad_norm = optim.grad_norm

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Leave out of the steps within the block what the host does."""
        optim = self.optim
        self.steps = 0
        optim.finishes_later = True
        optim.record_grad_norm = True
        before = optim.optimizer.register_step_pre_hook(self._use_tensors)
        after = optim.optimizer.register_step_post_hook(self._use_numbers)
        try:
            yield
        finally:
            before.remove()
            after.remove()
            optim.finishes_later = False
        self.grad_norm = optim.grad_norm

    def finish(self) -> None:
        """Do what the host does after a step."""
        optim = self.optim
        if self.is_norm_needed:
            optim.grad_norm = self.grad_norm
        else:
            optim.grad_norm = self.earlier_grad_norm
        optim.record_grad_norm = False
        optim.finish_step()

    def abandon(self) -> None:
        """Forget a step that `begin` announced and the device did not make."""
        optim = self.optim
        optim.record_grad_norm = self.is_norm_requested
        optim.grad_norm = self.earlier_grad_norm
        optim.forget_gradient()

    def _use_tensors(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Let the optimizer read its rates and its own count of steps from the device."""
        self.steps += 1
        self.settings = [dict(group) for group in self.groups]
        for group, rate in zip(self.groups, self.rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
            elif "fused" in group:
                group["fused"] = True
        for p in self.optim.params:
            state = optimizer.state.get(p, {})
            if "step" in state:
                state["step"] = state["step"].to(p.device)

    def _use_numbers(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Put the settings back."""
        for group, settings in zip(self.groups, self.settings, strict=True):
            group.update(settings)


def obstacle(optim: Optim) -> str:
    """Return why the step of an `Optim` cannot be recorded; "" if nothing is known against it."""
    if optim.accumulate != 1:
        return f"trainer.accumulate={optim.accumulate} makes a step only after several batches"
    if optim.skip_nonfinite:
        return "trainer.skip_nonfinite waits for the loss of every step"
    if optim.scaler.is_enabled():
        return (
            "device.precision=fp16 decides on the host how the loss is scaled "
            "(device.precision=bf16 needs no scaling)"
        )
    for group in optim.optimizer.param_groups:
        if "capturable" not in group and "fused" not in group:
            return f"the optimizer {type(optim.optimizer).__name__} reads numbers from the host"
    return ""
