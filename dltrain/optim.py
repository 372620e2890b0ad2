"""One gradient step, and nothing of who asks for it: `Optim` knows torch.optim, never the algorithm that calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Params = list[Tensor]


class Schedule(Protocol):
    """The learning rate's factor over the updates; `observe` tells it the watched metric."""

    def factor(self, update: int) -> float: ...
    def observe(self, metric: float) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Penalty(Protocol):
    """A pull on the weights beside the loss: on the gradient before the step, or on the weights after it."""

    def before_step(self, params: Params) -> None: ...
    def after_step(self, params: Params, lr: float) -> None:
        """Once for each group of parameters, with the learning rate of their step."""


class Optim:
    """One gradient step, `update(loss)`: scaling, backward, accumulation, clipping, step, schedule, averaging.

    It owns the parameters of `modules` that require a gradient and leaves none on any other. `accumulate` is how many
    losses make one step; `clip_norm` and `clip_value` of 0 clip nothing; `average(averages, values, count, total)`
    updates running averages of weights and float buffers after every step, `count` of `total_updates` steps on. `lrs`
    are the rates of the step just made and `grad_norm` its total gradient norm before clipping, kept when `measure` was
    set before it.
    """

    def __init__(
        self,
        modules: nn.Module,
        optimizer: Callable[[Params], torch.optim.Optimizer],
        schedule: Schedule | None = None,
        *,
        accumulate: int = 1,
        clip_norm: float = 0.0,
        clip_value: float = 0.0,
        penalties: Sequence[Penalty] = (),
        average: Callable[[Params, Params, int, int], None] | None = None,
        total_updates: int = 0,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.params: Params = [p for p in modules.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.params)
        self.schedule, self.accumulate, self.penalties = schedule, accumulate, tuple(penalties)
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.updates = self.pending = 0
        self.measure, self.grad_norm = False, torch.tensor(float("nan"))
        self.average, self.total_updates = average, total_updates
        floats = [*self.params, *(b for b in modules.buffers() if b.is_floating_point())]
        self.averaged_values: Params = [v.detach() for v in floats]
        self.averages: Params = [v.clone() for v in self.averaged_values] if average else []

    @property
    def lrs(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def update(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, and make a step once `accumulate` of them are in."""
        share = loss if self.accumulate == 1 else loss / self.accumulate
        self.scaler.scale(share).backward(inputs=self.params)
        self.pending += 1
        if self.pending == self.accumulate:
            self._step()

    def flush(self) -> None:
        """Make the step of an accumulation window that the stage's end left incomplete, as the mean of what is in."""
        if self.pending:
            for p in self.params:
                if p.grad is not None:
                    p.grad.mul_(self.accumulate / self.pending)
            self._step()

    def _step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        for penalty in self.penalties:
            penalty.before_step(self.params)
        if self.measure or self.clip_norm:
            grads = [p.grad for p in self.params if p.grad is not None]
            self.grad_norm, self.measure = nn.utils.get_total_norm(grads), False
        if self.clip_norm:
            nn.utils.clip_grads_with_norm_(self.params, self.clip_norm, self.grad_norm)
        if self.clip_value:
            nn.utils.clip_grad_value_(self.params, self.clip_value)
        if self.schedule:
            factor = self.schedule.factor(self.updates)
            for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = lr * factor
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for penalty in self.penalties:
            for group in self.optimizer.param_groups:
                penalty.after_step(group["params"], float(group["lr"]))
        for p in self.params:
            p.grad = None
        if self.average:
            self.average(self.averages, self.averaged_values, self.updates, self.total_updates)
        self.updates, self.pending = self.updates + 1, 0
        torch.clear_autocast_cache()  # autocast keeps half-precision copies: a second forward would read stale weights

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the modules hold their averaged weights (the same ones where nothing is averaged)."""
        values = self.averaged_values[: len(self.averages)]
        trained = [v.clone() for v in values]
        self._copy(values, self.averages)
        try:
            yield
        finally:
            self._copy(values, trained)

    @staticmethod
    @torch.no_grad()
    def _copy(to: Params, source: Params) -> None:
        for a, b in zip(to, source, strict=True):
            a.copy_(b)

    @staticmethod
    def _like(param: Tensor, value: Tensor) -> Tensor:
        """A copy of `value` that is stored as `param` is."""
        return torch.empty_like(param, dtype=value.dtype).copy_(value)

    def observe(self, metric: float) -> None:
        """Tell the schedule the watched metric."""
        if self.schedule:
            self.schedule.observe(metric)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else {},
            "scaler": self.scaler.state_dict(),
            "updates": self.updates,
            "pending": self.pending,
            "grads": [p.grad for p in self.params] if self.pending else [],
            "averages": self.averages,
            "measure": self.measure,
            "grad_norm": self.grad_norm,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        settings = [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, configured in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(configured)  # a resume with another momentum or decay means it
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.updates, self.pending, self.measure = state["updates"], state["pending"], state["measure"]
        self.grad_norm = state["grad_norm"]
        for p, moments in self.optimizer.state.items():  # fused kernels walk memory: all in the parameter's own layout
            alike = {k: v for k, v in moments.items() if k != "step" and isinstance(v, Tensor) and v.shape == p.shape}
            moments.update({k: self._like(p, v) for k, v in alike.items()})
        for p, grad in zip(self.params, state["grads"], strict=False):
            p.grad = None if grad is None else self._like(p, grad)
        self._copy(self.averages, state["averages"])
