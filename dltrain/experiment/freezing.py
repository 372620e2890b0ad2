"""Freezes the layers that a configuration names, after checking the names."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from dltrain.config.checking.nodes import TARGET
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.config.settings import Trainer
from dltrain.errors import ConfigError
from dltrain.weights.freezing import Freezing, matching_names

log = logging.getLogger("dltrain")


def freeze(config: dict[str, Any], model: nn.Module, trainer: Trainer) -> Freezing:
    """Freeze what `freeze` names in `model` until `unfreeze_epoch`, and log it.

    Raises ConfigError for names that match no parameter, and for an end that is never reached.
    """
    patterns = config.get("freeze") or []
    until = config.get("unfreeze_epoch")
    problems = []
    if until is not None:
        problems += _unfreezing_problems(config, until, trainer)
    problems += _lr_factor_problems(config, model)
    try:
        freezing = Freezing(model, patterns, until or 0)
    except ValueError as e:
        problems.append(("freeze", str(e)))
    if problems:
        raise ConfigError(problems)
    _log_frozen(freezing)
    return freezing


def _unfreezing_problems(
    config: dict[str, Any], until: int, trainer: Trainer
) -> list[tuple[str, str]]:
    """Return why unfreeze_epoch=`until` cannot have its effect."""
    reasons = []
    if not config.get("freeze"):
        reasons.append('nothing is frozen: "freeze=[...]" says what')
    if trainer.epochs is not None and until >= trainer.epochs:
        epochs = "1 epoch" if trainer.epochs == 1 else f"{trainer.epochs} epochs"
        reasons.append(f"the run has {epochs}: nothing is trained after that")
    if "freezing" not in arguments(locate(config["task"][TARGET], config["plugins"])):
        reasons.append("this task does not unfreeze: leave it out, or resume the run without")
    return [(f"unfreeze_epoch={until}", why) for why in reasons]


def _lr_factor_problems(config: dict[str, Any], model: nn.Module) -> list[tuple[str, str]]:
    """Return a problem for each pattern of lr_factors that matches no parameter."""
    problems = []
    for pattern in config.get("lr_factors") or {}:
        try:
            matching_names(model, [pattern])
        except ValueError as e:
            problems.append(("lr_factors", str(e)))
    return problems


def _log_frozen(freezing: Freezing) -> None:
    """Log which parameters are frozen, and for how long."""
    if not freezing.names:
        return
    count = sum(p.numel() for p in freezing.parameters)
    duration = ""
    if freezing.epochs:
        duration = f" for {freezing.epochs} epochs"
    names = ", ".join(freezing.names)
    log.info(f"frozen{duration}: {len(freezing.names)} parameters ({count:,} numbers): {names}")
