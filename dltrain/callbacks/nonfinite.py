"""Stops a run whose loss or scores are no longer numbers."""

from __future__ import annotations

import math
from typing import Any

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.errors import DivergedError


class NonFinite(Callback):
    """Raises `DivergedError` at the first log step or evaluation whose loss is infinite or not a number.

    It subscribes to the log before anything that saves, so a checkpoint never follows a bad loss.
    """

    name = "nonfinite"

    def __init__(self, log: MetricsLog) -> None:
        log.subscribe(self.look)

    def look(self, engine: Engine, record: dict[str, Any]) -> None:
        bad = [name for name, value in record.items() if isinstance(value, float) and not math.isfinite(value)]
        losses = [name for name in bad if "loss" in name]
        if losses:
            rates = ", ".join(f"{rate:g}" for optim in engine.stage.optims for rate in optim.lrs)
            raise DivergedError(
                f"{losses[0]} is {record[losses[0]]} at step {engine.step} (learning rate {rates}): the training diverged.\n"
                "A lower optimizer.lr, schedule.warmup=0.05 or regularization=[clip] may help; "
                "device.precision=fp32 rules out the precision"
            )
