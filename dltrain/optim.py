"""One gradient step, and nothing of who asks for it: `Optim` knows torch.optim, never the algorithm that calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dltrain.weights.freezing import groups

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
    set before it (None otherwise). With `skip_nonfinite` a step whose gradient is infinite or not a number is left out;
    `bad_in_a_row` counts those, and those that fp16's scaler leaves out. `share` is how much of a batch the next loss is
    of, where a batch comes in parts. `lr_factors` {pattern: factor} are of the learning rate of single layers.
    """

    def __init__(
        self,
        modules: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Schedule | None = None,
        *,
        accumulate: int = 1,
        clip_norm: float = 0.0,
        clip_value: float = 0.0,
        penalties: Sequence[Penalty] = (),
        average: Callable[[Params, Params, int, int], None] | None = None,
        total_updates: int = 0,
        skip_nonfinite: bool = False,
        scaler: torch.amp.GradScaler | None = None,
        lr_factors: Mapping[Any, float] | None = None,
    ) -> None:
        self.params: Params = [p for p in modules.parameters() if p.requires_grad]
        self.optimizer = optimizer(groups(modules, lr_factors) if lr_factors else self.params)
        self.schedule, self.accumulate, self.penalties = schedule, accumulate, tuple(penalties)
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * group.get("lr_factor", 1)
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.updates, self.pending, self.share = 0, 0.0, 1.0  # pending: batches since the last step
        self.weight: float | Tensor = 0.0  # of all losses since the last step
        self.expected_weight: float | Tensor | None = None  # of a whole update, from its first loss
        self.measure = False
        self.grad_norm: Tensor | None = None
        self.average, self.total_updates = average, total_updates
        buffers = [b for b in modules.buffers() if b.is_floating_point()]
        self.skip_nonfinite, self.spoilt, self.bad_in_a_row = (
            skip_nonfinite,
            False,
            torch.zeros((), dtype=torch.int64),
        )
        self.buffers: Params = buffers if skip_nonfinite else []
        self.good_buffers = [
            b.clone() for b in self.buffers
        ]  # batch norm's statistics are made before the gradient
        self.averaged_values: Params = [v.detach() for v in (*self.params, *buffers)]
        self.averages: Params = [v.clone() for v in self.averaged_values] if average else []

    @property
    def lrs(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def update(
        self,
        loss: Tensor,
        gradients: Mapping[Tensor, Tensor] | None = None,
        weight: float | Tensor | None = None,
    ) -> None:
        """Add the gradient of `loss`, and make a step once `accumulate` of them are in.

        The step is that of the mean of all losses, in which each counts by its `weight`: the
        samples or tokens that it is a mean of. Without weights, batches count the same. A rule that
        follows no function's gradient, such as contrastive divergence, gives its own: {parameter:
        gradient}.
        """
        part = 1.0 if self._one_loss else self._part(self.share if weight is None else weight)
        if self.skip_nonfinite and not self.scaler.is_enabled() and not loss.isfinite():
            self.spoilt = True  # the step that it is of will be left out
            self._copy(self.buffers, self.good_buffers)
        else:
            self._add_gradient(loss, gradients, part)
        self.pending += self.share
        if self.pending > self.accumulate - 1e-6:
            self._step()

    @property
    def _one_loss(self) -> bool:
        """True if a step is of one loss alone, whose weight makes no difference."""
        return self.accumulate == 1 and self.share == 1

    def _part(self, weight: float | Tensor) -> float | Tensor:
        """Count a loss of this weight; return which part of the step's mean it is expected to be."""
        if self.expected_weight is None:
            whole_batch = weight / self.share
            self.expected_weight = positive(self.accumulate * whole_batch)
            self.weight = self.pending * whole_batch  # 0, but in a checkpoint of version 0.1
        self.weight = self.weight + weight
        return weight / self.expected_weight

    def _add_gradient(
        self, loss: Tensor, gradients: Mapping[Tensor, Tensor] | None, part: float | Tensor
    ) -> None:
        """Add `part` times the gradient of `loss`."""
        whole = isinstance(part, float) and part == 1
        if gradients is None:
            self.scaler.scale(loss if whole else loss * part).backward(inputs=self.params)
            return
        for p in self.params:
            if p in gradients:
                own: Any = self.scaler.scale(gradients[p] if whole else gradients[p] * part)
                p.grad = own if p.grad is None else p.grad.add_(own)

    def _normalize(self) -> None:
        """Make the gathered gradient that of the weighted mean: losses may weigh more or less than
        expected.
        """
        if self.expected_weight is None:
            return
        factor = self.expected_weight / positive(self.weight)
        if isinstance(factor, float) and abs(factor - 1) < 1e-6:
            return
        for p in self.params:
            if p.grad is not None:
                p.grad.mul_(factor)

    def flush(self) -> None:
        """Make the step of an accumulation window that the stage's end left incomplete, as the mean of what is in."""
        if self.pending:
            self._step()

    def _step(self) -> None:
        self._normalize()
        self.scaler.unscale_(self.optimizer)
        for penalty in self.penalties:
            penalty.before_step(self.params)
        scaling = self.scaler.is_enabled()
        if self.measure or self.clip_norm or self.skip_nonfinite or scaling:
            grads = [p.grad for p in self.params if p.grad is not None]
            norm, self.measure = nn.utils.get_total_norm(grads), False
            self.grad_norm = norm
            if self.skip_nonfinite or scaling:
                finite = norm.isfinite() & (not self.spoilt)
                self.bad_in_a_row = (self.bad_in_a_row.to(norm.device) + 1) * ~finite
            if self.skip_nonfinite and not scaling and int(self.bad_in_a_row):
                self.forget_gradient()
                return
        if self.clip_norm:
            nn.utils.clip_grads_with_norm_(self.params, self.clip_norm, norm)
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
        if self.good_buffers:
            self._copy(self.good_buffers, self.buffers)
        self.updates += 1
        self._begin_window()
        torch.clear_autocast_cache()  # autocast keeps half-precision copies: a second forward would read stale weights

    def forget_gradient(self) -> None:
        """Drop the gradient gathered since the last step, and what the batches of it made of the buffers."""
        for p in self.params:
            p.grad = None
        self._copy(self.buffers, self.good_buffers)
        self._begin_window()
        self.spoilt = False

    def _begin_window(self) -> None:
        self.pending = 0.0
        self.weight = 0.0
        self.expected_weight = None

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

    @staticmethod
    def _parts(gradient: Tensor | None) -> Tensor | tuple[Tensor, Tensor] | None:
        """A gradient as it is saved, a sparse one as its places and values: torch warns when it loads such a tensor."""
        if gradient is None or not gradient.is_sparse:
            return gradient
        return gradient._indices(), gradient._values()

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
            "weight": self.weight,
            "expected_weight": self.expected_weight,
            "grads": [self._parts(p.grad) for p in self.params] if self.pending else [],
            "averages": self.averages,
            "measure": self.measure,
            "grad_norm": self.grad_norm,
            "bad_in_a_row": self.bad_in_a_row,
            "spoilt": self.spoilt,
            "good_buffers": self.good_buffers,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        settings = [
            {k: v for k, v in g.items() if k not in ("params", "lr")}
            for g in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, configured in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(configured)  # a resume with another momentum or decay means it
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.updates, self.pending, self.measure = (
            state["updates"],
            state["pending"],
            state["measure"],
        )
        self.weight, self.expected_weight = state.get("weight", 0.0), state.get("expected_weight")
        self.grad_norm, self.bad_in_a_row, self.spoilt = (
            state["grad_norm"],
            state["bad_in_a_row"],
            state["spoilt"],
        )
        self._copy(
            self.good_buffers, self.buffers
        )  # a state is saved after a step, or within a window whose first batch
        if self.good_buffers and state["good_buffers"]:  # has changed them
            self._copy(self.good_buffers, state["good_buffers"])
        for (
            p,
            moments,
        ) in (
            self.optimizer.state.items()
        ):  # fused kernels walk memory: all in the parameter's own layout
            alike = {
                k: v
                for k, v in moments.items()
                if k != "step" and isinstance(v, Tensor) and v.shape == p.shape
            }
            moments.update({k: self._like(p, v) for k, v in alike.items()})
        for p, grad in zip(self.params, state["grads"], strict=False):
            if isinstance(grad, list | tuple):
                rows, values = (part.to(p.device) for part in grad)
                p.grad = torch.sparse_coo_tensor(rows, values, p.shape, check_invariants=False)
            else:
                p.grad = None if grad is None else self._like(p, grad)
        self._copy(self.averages, state["averages"])


def positive(weight: float | Tensor) -> float | Tensor:
    """Return a weight that is to be divided by, or 1 for 0: losses of nothing have a gradient of 0."""
    if isinstance(weight, Tensor):
        return torch.where(weight > 0, weight, 1)
    return weight or 1.0
