"""Stops a run whose loss, gradient or weights are no longer numbers, before anything of it is saved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.errors import DivergedError
from dltrain.optim import Optim

SCALER_PATIENCE = 20  # fp16's scaler halves its scale at each: 20 in a row take it below any use


class NonFinite(Callback):
    """Raises `DivergedError` at the first log step or evaluation whose loss or gradient is infinite or not a number.

    It subscribes to the log before anything that saves, so a checkpoint never follows a bad loss. Up to `skips` updates in
    a row may have been left out for their gradient (`Optim.skip_nonfinite`), and 20 by the loss scaling of fp16.
    """

    name = "nonfinite"
    draws = False

    def __init__(self, log: MetricsLog, skips: int = 0) -> None:
        self.log, self.skips = log, skips
        log.subscribe(self.look)

    def step_end(self, engine: Engine) -> None:
        for optim in engine.stage.optims if self.skips else ():
            if not optim.scaler.is_enabled() and int(optim.bad_in_a_row) > self.skips:
                raise diverged(
                    engine,
                    f"the gradient of {self.skips + 1} updates in a row is not finite",
                    engine.step,
                )

    def look(self, engine: Engine, record: dict[str, Any]) -> None:
        for optim in engine.stage.optims:
            if optim.scaler.is_enabled() and int(optim.bad_in_a_row) >= SCALER_PATIENCE:
                raise diverged(
                    engine,
                    f"{int(optim.bad_in_a_row)} updates in a row overflow, whatever their scale",
                    engine.step,
                )
        forgiving = self.skips or any(optim.scaler.is_enabled() for optim in engine.stage.optims)
        for name, value in record.items():
            if not isinstance(value, float) or math.isfinite(value):
                continue
            if "loss" in name and not (self.skips and name.startswith("train/")):
                step = self.log.first_bad if name.startswith("train/") else engine.step
                raise diverged(engine, f"{name} is {value}", step)
            if "grad_norm" in name and not forgiving:
                raise diverged(
                    engine, f"the gradient is not finite ({name} is {value})", engine.step
                )


def require_finite(engine: Engine) -> None:
    """DivergedError if a weight, an average or a moment of an optimizer is not finite: such a state is never saved."""
    floats = [p for _, p in tensors(engine)]
    if floats and not nn.utils.get_total_norm(floats).isfinite() and first_bad(engine):
        raise diverged(engine, "the weights are not finite", engine.step)


def tensors(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """By name what has to be finite: weights, running averages of weights, statistics, an optimizer's moments."""
    names = {id(p): name for name, p in engine.task.named_parameters()}
    for name, weight in engine.task.named_parameters():
        yield f"weight {name}", weight.detach()
    for name, module in engine.task.named_modules():
        if isinstance(
            module, nn.modules.batchnorm._NormBase
        ):  # a buffer of another kind may hold -inf, as masks do
            for key, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    yield f"statistic {name}.{key}", buffer
    for optim in engine.stage.optims:
        for p in optim.params:
            for key, moment in optim.optimizer.state.get(p, {}).items():
                if isinstance(moment, Tensor) and moment.is_floating_point():
                    yield f"{key} of {names.get(id(p), 'a weight')}", moment
        for i, average in enumerate(optim.averages):
            yield f"average {i}", average


def first_bad(engine: Engine) -> str:
    """The name of the first tensor that is not finite; empty if all are."""
    return next((name for name, tensor in tensors(engine) if not bool(tensor.isfinite().all())), "")


def diverged(engine: Engine, what: str, step: int) -> DivergedError:
    optims: tuple[Optim, ...] = engine.stage.optims
    rates = ", ".join(f"{rate:g}" for optim in optims for rate in optim.lrs)
    bad = first_bad(engine)
    where = f"first bad tensor: {bad}" if bad else "all weights are finite still"
    return DivergedError(
        f"{what} at step {step} (learning rate {rates}): the training diverged; {where}.\n"
        "A lower optimizer.lr, schedule.warmup=0.05 or regularization=[clip] may help; "
        "device.precision=fp32 rules out the precision; trainer.skip_nonfinite=5 leaves out single bad updates"
    )
