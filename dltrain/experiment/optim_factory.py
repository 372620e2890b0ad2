"""The factory of `Optim` objects, from the optimizer and the schedule of a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from dltrain.config.checking.nodes import OPTIMIZERS, PARTIAL, TARGET, own_optimizer
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.config.settings import Trainer
from dltrain.device import Device
from dltrain.engine import Direction
from dltrain.errors import ConfigError
from dltrain.experiment.instantiate import instantiate
from dltrain.optim import Optim, Params, Reduction

OptimizerFactory = Callable[..., torch.optim.Optimizer]
CONSTANT = {TARGET: "dltrain.schedules.constant.Constant"}


class OptimFactory:
    """Called by a task with the modules to train; returns an `Optim` for them.

    `settings` are those of the regularizers. `direction` says which way the task's watched metric
    is better; it is set once the task is built, and used by stages that do not say it themselves.
    `reduction` returns what combines gradients over several processes.
    """

    def __init__(
        self, config: dict[str, Any], trainer: Trainer, device: Device, settings: dict[str, Any]
    ) -> None:
        self.trainer = trainer
        self.device = device
        self.settings = settings
        self.lr_factors = config.get("lr_factors") or {}
        self.direction: Direction = "max"
        self.reduction: Callable[[Params], Reduction] = lambda params: Reduction()
        self.optimizers = optimizer_factories(config)
        node = CONSTANT if config["debug"] == "overfit" else config["schedule"]
        plugins = config["plugins"]
        self.schedule = instantiate({**node, PARTIAL: True}, "schedule", {}, plugins)
        self.schedule_needs_mode = (
            "mode" in arguments(locate(node[TARGET], plugins))
            and "mode" not in self.schedule.keywords
        )

    def __call__(
        self,
        modules: nn.Module,
        total_steps: int,
        network: str = "",
        mode: str | None = None,
        updates_per_batch: Fraction = Fraction(1),
    ) -> Optim:
        """Return an `Optim` for the trainable parameters of `modules`, over `total_steps` losses.

        With a `network`, the settings of task.optimizers.<network> replace the shared ones. `mode`
        is the direction of the stage's watched metric, where it is not that of the task.
        `updates_per_batch` is the number of losses that a batch gives.
        """
        steps = total_steps
        for limit in (self.trainer.steps, self.trainer.stage_steps):
            if limit is not None:
                steps = min(steps, max(1, math.floor(limit * updates_per_batch)))
        updates = math.ceil(steps / self.trainer.accumulate)
        schedule_settings = {}
        if self.schedule_needs_mode:
            schedule_settings["mode"] = mode or self.direction
        optim = Optim(
            modules,
            self.optimizers.get(network, self.optimizers[""]),
            self.schedule(total_updates=updates, **schedule_settings),
            accumulate=self.trainer.accumulate,
            scaler=self.device.scaler(),
            total_updates=updates,
            skip_nonfinite=self.trainer.skip_nonfinite > 0,
            lr_factors=self.lr_factors,
            reduction=self.reduction,
            **self.settings,
        )
        optim.updates_per_batch = updates_per_batch
        return optim


def optimizer_factories(config: dict[str, Any]) -> dict[str, OptimizerFactory]:
    """Return the factory of each network with an optimizer of its own; "" is for the others."""
    plugins = config["plugins"]
    grouped = bool(config.get("lr_factors"))
    factories = {"": optimizer_factory(config["optimizer"], "optimizer", plugins, grouped)}
    for network in config["task"].get(OPTIMIZERS) or {}:
        node = own_optimizer(config, network)
        path = f"task.{OPTIMIZERS}.{network}"
        factories[network] = optimizer_factory(node, path, plugins, grouped)
    return factories


def optimizer_factory(
    node: dict[str, Any], path: str, plugins: list[str], grouped: bool = False
) -> OptimizerFactory:
    """Return what makes the optimizer of `node`, after trying it on one parameter.

    Raises ConfigError for settings that the optimizer refuses, and if `grouped` parameters, each
    group with a learning rate of its own, are not what it takes.
    """
    optimizer: OptimizerFactory = instantiate(node, path, {}, plugins)
    params = [nn.Parameter(torch.zeros(1))]
    try:
        optimizer(params)
    except ValueError as e:
        raise ConfigError([(path, str(e))]) from e
    if not grouped:
        return optimizer
    try:
        optimizer([{"params": params}])
    except (AttributeError, TypeError) as e:
        why = f"this optimizer takes one learning rate for all layers ({path})"
        raise ConfigError([("lr_factors", why)]) from e
    return optimizer
