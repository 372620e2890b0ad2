"""`dltrain.load`: a predictor with the weights of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dltrain.api.opening import open_run
from dltrain.api.overrides import overrides_of
from dltrain.api.predictor import Predictor
from dltrain.api.process import isolated
from dltrain.api.run import Run
from dltrain.runs.open import open_trained, require_checkpoint_name


def load(
    run: str | Path | Run,
    *overrides: str | Mapping[str, Any],
    checkpoint: str | int = "best",
    device: str | None = None,
    plugins: str | Sequence[str] = (),
    **settings: Any,
) -> Predictor:
    """Return a predictor with the weights of a run's checkpoint.

    Args:
        run: A run, its folder, a unique part of the folder's name, or `last`.
        overrides: Changed settings, such as "paths.output=FOLDER" to look for the run there.
        checkpoint: best, last, best-2, a step such as "300", or "epoch:3".
        device: cpu, cuda, mps or auto; None for the one that the run names.
        plugins: The packages of the user's own classes in the run.
        settings: Further changed settings by name.

    Raises:
        InputError: The run is unknown, or its checkpoint is missing or broken.
        ConfigError: A setting does not fit the run.
        UsageError: The device is not there, or a class of the user's needs `plugins`.
    """
    typed = overrides_of(overrides, settings)
    if device is not None:
        typed.append(f"device.name={device}")
    folder, others = open_run(run, typed, plugins)
    name = str(checkpoint)
    require_checkpoint_name(name)
    with isolated():
        trained = open_trained(folder, others, name)
        return Predictor(trained, torch.get_num_threads())
