"""Stops a run whose loss, gradient or weights are not finite, before they are saved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.errors import DivergedError
from dltrain.optim import Optim

SCALER_PATIENCE = 20  # overflows in a row: each halves the scale of fp16, 20 make it useless


class NonFinite(Callback):
    """Raises `DivergedError` at the first logged loss or gradient that is not finite.

    It subscribes to the log before anything that saves, so no checkpoint follows a bad loss. Up to
    `skips` updates in a row may be left out for their gradient (`Optim.skip_nonfinite`), and 20 by
    the loss scaling of fp16.
    """

    name = "nonfinite"
    draws = False

    def __init__(self, log: MetricsLog, skips: int = 0) -> None:
        self.log = log
        self.skips = skips
        log.subscribe(self.look)

    def step_end(self, engine: Engine) -> None:
        if not self.skips:
            return
        for optim in engine.stage.optims:
            if not optim.scaler.is_enabled() and int(optim.bad_in_a_row) > self.skips:
                what = f"the gradient of {self.skips + 1} updates in a row is not finite"
                raise diverged(engine, what, engine.step)

    def look(self, engine: Engine, record: dict[str, Any]) -> None:
        """Check a record of the log, and the updates that fp16's scaler has left out."""
        scaling = [optim for optim in engine.stage.optims if optim.scaler.is_enabled()]
        require_scalable(engine, scaling)
        forgiving = bool(self.skips or scaling)
        for name, value in record.items():
            if isinstance(value, float) and not math.isfinite(value):
                self._require_allowed(engine, name, value, forgiving)

    def _require_allowed(self, engine: Engine, name: str, value: float, forgiving: bool) -> None:
        """Raise DivergedError for a value that is not finite, unless its update was skipped."""
        is_training = name.startswith("train/")
        if "loss" in name and not (self.skips and is_training):
            step = engine.step
            if is_training:
                step = self.log.first_bad
            raise diverged(engine, f"{name} is {value}", step)
        if "grad_norm" in name and not forgiving:
            raise diverged(engine, f"the gradient is not finite ({name} is {value})", engine.step)


def require_scalable(engine: Engine, scaling: Sequence[Optim]) -> None:
    """Raise DivergedError if too many updates in a row overflow under the loss scaling of fp16."""
    for optim in scaling:
        skipped = int(optim.bad_in_a_row)
        if skipped >= SCALER_PATIENCE:
            what = f"{skipped} updates in a row overflow, whatever their scale"
            raise diverged(engine, what, engine.step)


def require_finite(engine: Engine) -> None:
    """Raise DivergedError if a weight, an average or a moment of an optimizer is not finite."""
    floats = [tensor for _, tensor in tensors(engine) if is_whole(tensor)]
    if floats and not nn.utils.get_total_norm(floats).isfinite() and first_bad(engine):
        raise diverged(engine, "the weights are not finite", engine.step)


def is_whole(tensor: Tensor) -> bool:
    """Return whether this process has the whole tensor: it is not divided among processes."""
    return type(tensor) in (Tensor, nn.Parameter)


def require_finite_copy(engine: Engine, state: dict[str, Any]) -> None:
    """Raise DivergedError if a weight in a copy of the engine's state is not finite.

    Only weights that are divided among processes are looked at: `require_finite` cannot see them.
    """
    divided = [name for name, p in engine.task.named_parameters() if not is_whole(p)]
    for name in divided:
        if not bool(state["task"][name].isfinite().all()):
            raise diverged(engine, f"weight {name} is not finite", engine.step)


def tensors(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """Yield what has to be finite, by name.

    These are weights, their running averages, statistics and the moments of optimizers.
    """
    names = {id(p): name for name, p in engine.task.named_parameters()}
    for name, weight in engine.task.named_parameters():
        yield f"weight {name}", weight.detach()
    yield from statistics(engine.task)
    for optim in engine.stage.optims:
        yield from moments(optim, names)
        for i, average in enumerate(optim.averages):
            yield f"average {i}", average


def moments(optim: Optim, names: Mapping[int, str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the moments of an optimizer; `names` are those of the parameters, by id."""
    for p in optim.params:
        for key, moment in optim.optimizer.state.get(p, {}).items():
            if isinstance(moment, Tensor) and moment.is_floating_point():
                yield f"{key} of {names.get(id(p), 'a weight')}", moment


def statistics(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the statistics of normalization layers; other buffers may hold -inf, as masks do."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for key, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    yield f"statistic {name}.{key}", buffer


def first_bad(engine: Engine) -> str:
    """Return the name of the first tensor that is not finite; "" if all are."""
    for name, tensor in tensors(engine):
        if is_whole(tensor) and not bool(tensor.isfinite().all()):
            return name
    return ""


def diverged(engine: Engine, what: str, step: int) -> DivergedError:
    """Return the error of a run that diverged at `step`, with advice."""
    optims: tuple[Optim, ...] = engine.stage.optims
    rates = ", ".join(f"{rate:g}" for optim in optims for rate in optim.lrs)
    where = "all weights are finite still"
    if bad := first_bad(engine):
        where = f"first bad tensor: {bad}"
    return DivergedError(
        f"{what} at step {step} (learning rate {rates}): the training diverged; {where}.\n"
        'A lower optimizer.lr, schedule.warmup=0.05 or "regularization=[clip]" may help; '
        "device.precision=fp32 rules out the precision; "
        "trainer.skip_nonfinite=5 leaves out single bad updates"
    )
