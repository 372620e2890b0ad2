"""`dltrain.check`: every problem of a configuration, and what a training step costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.api.overrides import overrides_of
from dltrain.api.process import isolated
from dltrain.config.check import raise_all
from dltrain.config.checking.combinations import unread
from dltrain.config.compose import compose
from dltrain.config.groups import config_dir as options_in
from dltrain.experiment.batch_norm import require_batches_for_norm
from dltrain.experiment.costs import configured_data, measure_costs
from dltrain.experiment.experiment import Experiment
from dltrain.report.costs import LayerRow
from dltrain.report.data import require_files
from dltrain.types import Data, SpecFromFiles


@dataclass(frozen=True)
class CheckReport:
    """The costs of a training step, measured on a fake batch.

    Attributes:
        parameters: The number of trainable parameters, without those of auxiliary heads.
        flops: The floating-point operations of the forward pass of one sample.
        state_bytes: The memory of weights, gradients and the states of the optimizers.
        activation_bytes: The memory that a batch's activations take.
        step_seconds: The time of a step.
        epoch_seconds: The time of an epoch, about.
        initial_loss: The loss before training.
        layers: The layers in the order in which they run, with their type, shape and parameters.
        figures: All figures by the names that `dltrain check --json` has.
        warnings: Settings that are not read.
        config: The whole configuration, as nested dictionaries.
    """

    parameters: int
    flops: int
    state_bytes: int
    activation_bytes: int
    step_seconds: float
    epoch_seconds: float
    initial_loss: float
    layers: list[LayerRow]
    figures: dict[str, Any]
    warnings: list[str]
    config: dict[str, Any]


def check(
    *overrides: str | Mapping[str, Any],
    config_dir: str | Path | None = None,
    **settings: Any,
) -> CheckReport:
    """Check settings without training or reading the data, and measure what a step costs.

    Args:
        overrides: Settings, as `dltrain.train` takes them.
        config_dir: A folder with options of one's own, as --config-dir.
        settings: Further settings by name.

    Raises:
        ConfigError: Something is wrong; `problems` has a pair for each: what was set, and what is
            wrong with it and what to set instead.
        InputError: The files of the data set are missing.
    """
    typed = overrides_of(overrides, settings)
    with options_in(None if config_dir is None else str(config_dir)):
        composed = compose(typed)
        raise_all(composed)
        with isolated():
            data = configured_data(composed)
            require_files(data)
            experiment = Experiment.on_fake_data(composed.config, known_description(data))
            require_batches_for_norm(experiment)
            costs = measure_costs(experiment, data)
        warnings = list(unread(composed))
    figures = costs.figures
    return CheckReport(
        parameters=figures["parameters"],
        flops=figures["forward_flops_per_sample"],
        state_bytes=figures["state_bytes"],
        activation_bytes=figures["activation_bytes_per_batch"],
        step_seconds=figures["step_seconds"],
        epoch_seconds=figures["epoch_seconds"],
        initial_loss=figures["initial_loss"],
        layers=costs.layers,
        figures=figures,
        warnings=warnings,
        config=composed.public,
    )


def known_description(data: Data) -> dict[str, Any] | None:
    """Return the description of data that must be read to know its shape; None for others."""
    if isinstance(data, SpecFromFiles) and data.spec_is_read:
        return data.description()
    return None
