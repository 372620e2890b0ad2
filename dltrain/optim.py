"""One gradient step: `Optim` knows torch.optim, and never the algorithm that calls it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dltrain.weights.freezing import learning_rate_groups, trainable_parameters

Params = list[Tensor]
Average = Callable[[Params, Params, int, int], None]
ROUNDING = 1e-6  # batch fractions that sum to a whole batch may miss it by this much


class Schedule(Protocol):
    """The learning rate's factor over the updates; it may depend on the watched metric."""

    def factor(self, update: int) -> float:
        """Return the factor of the learning rate at an update, counted from 0."""

    def observe(self, metric: float) -> None:
        """Receive the value of the watched metric after an evaluation."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""


class Penalty(Protocol):
    """A regularizer of the weights that is not part of the loss: it acts before or after a step."""

    def before_step(self, params: Params) -> None:
        """Change the gradients of `params`."""

    def after_step(self, params: Params, lr: float) -> None:
        """Change one group of parameters, whose step was made with the learning rate `lr`."""


class Reduction:
    """Combines gradients over the processes of a run; this one is for a single process.

    A loss is the mean over the samples of a process, so its gradient counts by its weight.
    """

    processes = 1
    number = 0  # of the optimizer among those of a run

    def total(self, weight: float | Tensor) -> float | Tensor:
        """Return the sum of the weights of the losses that all processes have."""
        return weight

    def default_weight(self) -> float:
        """Return the weight of a loss that is given without one."""
        return 1.0

    def own_weight(self, weight: float | Tensor) -> float | Tensor:
        """Return the weight of this process's loss."""
        return weight

    def is_finite(self, loss: Tensor) -> bool:
        """Return whether the losses () of all processes are finite."""
        return bool(loss.isfinite())

    def backward(self, loss: Tensor, params: Params, completes: bool) -> None:
        """Add the gradient of `loss`; combine the sums if it `completes` the gradient of a step."""
        loss.backward(inputs=params)

    def complete(self, params: Params) -> None:
        """Combine the gradients of the processes before a step, unless `backward` did."""

    def complete_for_saving(self, params: Params) -> None:
        """Combine gradients of an incomplete step, so that a checkpoint has those of all."""

    def whole(self, value: Tensor) -> Tensor:
        """Return a number that may be divided among the processes as an ordinary tensor."""
        return value

    def whole_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state of an optimizer with whole tensors, for a checkpoint."""
        return state

    def divided_like(self, value: Any, param: Tensor) -> Any:
        """Return a whole tensor of a checkpoint, divided among the processes as a parameter is."""
        return value

    def own_rows(self, values: Any) -> Any:
        """Return this process's rows of tensors (B, ...) in a dictionary, a tuple or alone."""
        return values

    def all_rows(self, values: Tensor) -> Tensor:
        """Return the rows (B, ...) of all processes, of which each has `own_rows`."""
        return values


class Optim:
    """A gradient step, from the loss to the averaged weights: `update(loss)`.

    It owns the parameters of `modules` that require a gradient, and leaves none on any other.

    * `accumulate`: the number of losses that make one step.
    * `clip_norm`, `clip_value`: bounds of the gradient; 0 clips nothing.
    * `average(averages, values, count, total)` updates running averages of weights and float
      buffers after every step; `count` steps were made before it, and `total` is `total_updates`.
    * `total_updates`: the number of steps that the stage is planned to make; 0 if unknown.
    * `skip_nonfinite`: a step whose gradient is infinite or not a number is left out.
      `bad_in_a_row` counts such steps, and those that the scaler of fp16 leaves out.
    * `lr_factors` {pattern: factor}: factors of the learning rate of single layers.
    * `reduction` returns what combines the gradients of the parameters over several processes.

    Callbacks read `lrs`, the learning rates of the last step, and `grad_norm`, the total gradient
    norm before clipping at the last step that computed it (None before the first). A step computes
    it if `record_grad_norm` was set, or if clipping or a check for finite gradients needs it. Where
    a batch gives several losses, or several batches one, `updates_per_batch` is their number. Where
    a batch is divided, the step runner sets `batch_fraction` to the fraction of the batch that the
    next loss covers.
    """

    def __init__(  # noqa: PLR0913 - each is one part of a gradient step
        self,
        modules: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Schedule | None = None,
        *,
        accumulate: int = 1,
        clip_norm: float = 0.0,
        clip_value: float = 0.0,
        penalties: Sequence[Penalty] = (),
        average: Average | None = None,
        total_updates: int = 0,
        skip_nonfinite: bool = False,
        scaler: torch.amp.GradScaler | None = None,
        lr_factors: Mapping[Any, float] | None = None,
        reduction: Callable[[Params], Reduction] = lambda params: Reduction(),
    ) -> None:
        self.params: Params = list(trainable_parameters(modules).values())
        self.reduction = reduction(self.params)
        groups = learning_rate_groups(modules, lr_factors) if lr_factors else self.params
        self.optimizer = optimizer(groups)
        self.schedule = schedule
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.penalties = tuple(penalties)
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * group.get("lr_factor", 1)
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.total_updates = total_updates
        self.updates_per_batch = Fraction(1)
        self.updates = 0

        # the accumulation window: the losses since the last step
        self.pending = 0.0  # batches
        self.batch_fraction = 1.0
        self.weight: float | Tensor = 0.0  # the sum of their weights
        self.expected_weight: float | Tensor | None = (
            None  # of a whole window, estimated from its first loss
        )

        # a step runner that repeats the device's part of a step calls `finish_step` itself
        self.finishes_later = False

        self.record_grad_norm = False
        self.grad_norm: Tensor | None = None
        self.skip_nonfinite = skip_nonfinite
        self.skip_step = False  # a loss of the window is not finite
        self.bad_in_a_row = torch.zeros((), dtype=torch.int64)

        # a bad batch changes batch norm's statistics before its gradient is known
        buffers = [b for b in modules.buffers() if b.is_floating_point()]
        self.buffers: Params = buffers if skip_nonfinite else []
        self.good_buffers = clones(self.buffers)  # after the last good step

        self.average = average
        self.averaged_values: Params = [v.detach() for v in (*self.params, *buffers)]
        self.averages: Params = clones(self.averaged_values) if average else []

    @property
    def lrs(self) -> list[float]:
        """The learning rates of the last step, one for each group of parameters."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def update(
        self,
        loss: Tensor,
        gradients: Mapping[Tensor, Tensor] | None = None,
        weight: float | Tensor | None = None,
    ) -> None:
        """Add the gradient of `loss` (), and make a step once `accumulate` losses are in.

        The step uses the mean of all losses, weighted by `weight`: the number of samples or tokens
        that a loss is the mean of. Without weights, all batches count the same. An update rule that
        is not the gradient of a function, such as contrastive divergence, passes its own
        `gradients` {parameter: gradient}.
        """
        portion = self._portion(weight)
        checks_loss = self.skip_nonfinite and not self.scaler.is_enabled()
        if checks_loss and not self.reduction.is_finite(loss):
            self.skip_step = True
            self._copy(self.buffers, self.good_buffers)
        else:
            self.backward(loss, gradients, portion)
        self.pending += self.batch_fraction
        if self.pending > self.accumulate - ROUNDING:
            self.step()

    def _portion(self, weight: float | Tensor | None) -> float | Tensor:
        """Count a loss of this weight; return its expected portion of the step's mean."""
        is_alone = self.accumulate == 1 and self.batch_fraction == 1
        is_whole = is_alone and not self.pending  # a resume may end a window that was longer
        processes = self.reduction.processes
        if is_whole and processes == 1:
            return 1.0
        if weight is None:
            weight = self.batch_fraction * self.reduction.default_weight()
        total = self.reduction.total(weight)
        weight = processes * self.reduction.own_weight(weight)
        if is_whole:  # the mean over the processes is then that over all samples
            return weight / positive(total)
        if self.expected_weight is None:
            whole_batch = total / self.batch_fraction
            self.expected_weight = positive(self.accumulate * whole_batch)
            self.weight = self.pending * whole_batch  # 0, except in a checkpoint of version 0.1
        self.weight = self.weight + total
        return weight / self.expected_weight

    def backward(
        self, loss: Tensor, gradients: Mapping[Tensor, Tensor] | None, portion: float | Tensor
    ) -> None:
        """Add `portion` times the gradient of `loss`, or the given gradients."""
        if gradients is None:
            completes = self.pending + self.batch_fraction > self.accumulate - ROUNDING
            self.reduction.backward(self._scaled(loss, portion), self.params, completes)
            return
        for p in self.params:
            if p not in gradients:
                continue
            gradient = self._scaled(gradients[p], portion)
            if p.grad is None:
                p.grad = gradient
            else:
                p.grad.add_(gradient)

    def _scaled(self, value: Tensor, portion: float | Tensor) -> Tensor:
        """Return `portion` times a loss or a gradient, with the scale of the loss."""
        is_whole = isinstance(portion, float) and portion == 1
        scaled: Tensor = self.scaler.scale(value if is_whole else value * portion)
        return scaled

    def flush(self) -> None:
        """Make the step of an incomplete window, with the mean of its losses."""
        if self.pending:
            self.step()

    def step(self) -> None:
        """Make a step with the accumulated gradient, or skip it if it is not finite."""
        self.reduction.complete(self.params)
        self._normalize()
        self.scaler.unscale_(self.optimizer)
        for penalty in self.penalties:
            penalty.before_step(self.params)
        if self.needs_grad_norm():
            self._measure_gradient()
        if self._is_to_skip():
            self.forget_gradient()
            return
        self._clip()
        self.set_learning_rates()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # autocast keeps half-precision copies: a second forward pass would read stale weights
        torch.clear_autocast_cache()
        if not self.finishes_later:
            self.finish_step()

    def finish_step(self) -> None:
        """Apply the penalties, average the weights, count the step, and start the next window."""
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

    def _normalize(self) -> None:
        """Divide the gradient by the window's weight, which may not be the expected one."""
        if self.expected_weight is None:
            return
        factor = self.expected_weight / positive(self.weight)
        if isinstance(factor, float) and abs(factor - 1) < ROUNDING:
            return
        for gradient in self._gradients():
            gradient.mul_(factor)

    def _gradients(self) -> Params:
        """Return the gradients of the parameters that have one."""
        return [p.grad for p in self.params if p.grad is not None]

    def needs_grad_norm(self) -> bool:
        """Tell if the next step computes the norm of the gradient."""
        needs_check = self.skip_nonfinite or self.scaler.is_enabled()
        return bool(self.record_grad_norm or self.clip_norm or needs_check)

    def _is_to_skip(self) -> bool:
        """Return whether to leave out the step; the scaler of fp16 does that by itself."""
        checks = self.skip_nonfinite and not self.scaler.is_enabled()
        return checks and bool(self.bad_in_a_row)

    def _measure_gradient(self) -> None:
        """Keep the norm of the gradient, and count steps in a row whose gradient is not finite."""
        norm = self.reduction.whole(nn.utils.get_total_norm(self._gradients()))
        self.grad_norm = norm
        self.record_grad_norm = False
        if self.skip_nonfinite or self.scaler.is_enabled():
            finite = norm.isfinite() & (not self.skip_step)
            bad_in_a_row = self.bad_in_a_row.to(norm.device, non_blocking=True)
            self.bad_in_a_row = (bad_in_a_row + 1) * ~finite

    def _clip(self) -> None:
        """Scale the gradient down to `clip_norm`, and bound each of its values by `clip_value`."""
        if self.clip_norm and self.grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.params, self.clip_norm, self.grad_norm)
        if self.clip_value:
            nn.utils.clip_grad_value_(self.params, self.clip_value)

    def set_learning_rates(self) -> None:
        """Set the learning rates of the next step by the schedule."""
        if self.schedule:
            factor = self.schedule.factor(self.updates)
            for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = lr * factor

    def forget_gradient(self) -> None:
        """Drop the gradient since the last step, and restore the buffers from before it."""
        for p in self.params:
            p.grad = None
        self._copy(self.buffers, self.good_buffers)
        self._begin_window()
        self.skip_step = False

    def _begin_window(self) -> None:
        self.pending = 0.0
        self.weight = 0.0
        self.expected_weight = None

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the modules within the block, if weights are averaged."""
        values = self.averaged_values[: len(self.averages)]
        trained = clones(values)
        self._copy(values, self.averages)
        try:
            yield
        finally:
            self._copy(values, trained)

    def use_averages(self) -> None:
        """Put the averaged weights into the modules for good, if weights are averaged."""
        self._copy(self.averaged_values[: len(self.averages)], self.averages)

    @staticmethod
    @torch.no_grad()
    def _copy(to: Params, source: Params) -> None:
        for a, b in zip(to, source, strict=True):
            a.copy_(b)

    def updates_for(self, batches: int) -> int:
        """Return the number of steps that so many batches make, with those of the window."""
        losses = math.floor(batches * self.updates_per_batch) + self.pending
        return math.ceil(losses / self.accumulate - ROUNDING)

    def observe(self, metric: float) -> None:
        """Pass the watched metric on to the schedule."""
        if self.schedule:
            self.schedule.observe(metric)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs, within an accumulation window too."""
        if self.pending:
            self.reduction.complete_for_saving(self.params)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else {},
            "scaler": self.scaler.state_dict(),
            "updates": self.updates,
            "total_updates": self.total_updates,
            "accumulate": self.accumulate,
            "pending": self.pending,
            "weight": self.weight,
            "expected_weight": self.expected_weight,
            "grads": [saved_gradient(p.grad) for p in self.params] if self.pending else [],
            "averages": self.averages,
            "measure": self.record_grad_norm,
            "grad_norm": self.grad_norm,
            "bad_in_a_row": self.bad_in_a_row,
            "spoilt": self.skip_step,
            "good_buffers": self.good_buffers,
        }
        return self.reduction.whole_state(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; settings of the optimizer stay as they are configured."""
        self._load_optimizer(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.updates = state["updates"]
        self.pending = state["pending"]
        self.weight = state.get("weight", 0.0)  # version 0.1 had neither
        self.expected_weight = state.get("expected_weight")
        self.record_grad_norm = state["measure"]
        self.grad_norm = state["grad_norm"]
        self.bad_in_a_row = state["bad_in_a_row"]
        self.skip_step = state["spoilt"]
        self._copy(self.good_buffers, self.buffers)
        if self.good_buffers and state["good_buffers"]:  # within a window the buffers have changed
            self._copy(self.good_buffers, state["good_buffers"])
        for p, saved in zip(self.params, state["grads"], strict=False):
            p.grad = loaded_gradient(self.reduction.divided_like(saved, p), p)
        self._copy(self.averages, state["averages"])

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Load the moments of the optimizer, but not its settings."""
        settings = [configured_settings(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, configured in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(configured)
        for p, moments in self.optimizer.state.items():
            match_memory_layout(p, moments, self.reduction)


def clones(values: Params) -> Params:
    """Return a copy of each tensor."""
    return [value.clone() for value in values]


def configured_settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a group of parameters, except its learning rate."""
    return {key: value for key, value in group.items() if key not in ("params", "lr")}


def match_memory_layout(param: Tensor, moments: dict[str, Any], reduction: Reduction) -> None:
    """Store moments in the memory layout of their parameter, which fused kernels rely on."""
    for key, value in moments.items():
        is_moment = isinstance(value, Tensor) and key != "step"
        if is_moment and value.shape == param.shape:
            moments[key] = stored_like(param, reduction.divided_like(value, param))


def saved_gradient(gradient: Tensor | None) -> Tensor | tuple[Tensor, Tensor] | None:
    """Return a gradient to save: a sparse one as two tensors, as torch warns when it loads one."""
    if gradient is None or not gradient.is_sparse:
        return gradient
    return gradient._indices(), gradient._values()


def loaded_gradient(saved: Any, param: Tensor) -> Tensor | None:
    """Return the gradient of `param` from what `saved_gradient` returned."""
    if isinstance(saved, list | tuple):
        indices, values = (part.to(param.device) for part in saved)
        return torch.sparse_coo_tensor(indices, values, param.shape, check_invariants=False)
    return None if saved is None else stored_like(param, saved)


def stored_like(param: Tensor, value: Tensor) -> Tensor:
    """Return a copy of `value` in the memory layout of `param`."""
    return torch.empty_like(param, dtype=value.dtype).copy_(value)


def positive(weight: float | Tensor) -> float | Tensor:
    """Return a weight to divide by: 1 instead of 0, as a loss over no samples has no gradient."""
    if isinstance(weight, Tensor):
        return torch.where(weight > 0, weight, 1)
    return weight or 1.0
