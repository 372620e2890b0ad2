"""Builds the data of an experiment: as configured, as an earlier run described it, or fake."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dltrain.config.checking.nodes import TARGET
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.engine import Task
from dltrain.errors import ConfigError
from dltrain.experiment.instantiate import instantiate
from dltrain.types import Continues, Data
from dltrain.user_code import location_of_user_code

DEFAULT_BATCH_SIZE = 64


class DataSource(Protocol):
    """Decides which data an experiment uses, given the data set that its configuration names."""

    def prepare(self, data: Data) -> None:
        """Apply what an earlier run learned from its training data, before the spec is used."""

    def select(self, data: Data) -> Data:
        """Return the data that the task gets."""

    def described(self, data: Data) -> dict[str, Any]:
        """Return the description of the configured `data`, or of that of the earlier run."""


@dataclass(frozen=True)
class ConfiguredData:
    """The data set that the configuration names."""

    def prepare(self, data: Data) -> None:
        """Leave the data as it is configured."""

    def select(self, data: Data) -> Data:
        """Return the data itself."""
        return data

    def described(self, data: Data) -> dict[str, Any]:
        """Return what the data describes of itself, which may read it."""
        return data.description()


@dataclass(frozen=True)
class RestoredData:
    """The data set of a trained run, for evaluation; `description` is from the run's manifest."""

    description: dict[str, Any] | None

    def prepare(self, data: Data) -> None:
        """Let the data be read as the run's training data was."""
        if self.description:
            data.restore(self.description)

    def select(self, data: Data) -> Data:
        """Return the data itself."""
        return data

    def described(self, data: Data) -> dict[str, Any]:
        """Return the description of the run's training data."""
        return self.description or {}


@dataclass(frozen=True)
class ContinuedData:
    """The data set of a run that is trained further; `description` as in `RestoredData`."""

    description: dict[str, Any] | None

    def prepare(self, data: Data) -> None:
        """Keep what was learned from the training data, and the splits."""
        if self.description and isinstance(data, Continues):
            data.continue_as(self.description)

    def select(self, data: Data) -> Data:
        """Return the data itself."""
        return data

    def described(self, data: Data) -> dict[str, Any]:
        """Return the description of the run's training data, or of the data that replaced it."""
        return self.description or data.description()


@dataclass(frozen=True)
class FakeData:
    """Random data of the same shape, without a file; `description` as in `RestoredData`."""

    description: dict[str, Any] | None = None

    def prepare(self, data: Data) -> None:
        """Let the data be read as the run's training data was."""
        if self.description:
            data.restore(self.description)

    def select(self, data: Data) -> Data:
        """Return fakes in the data's place."""
        return data.fake()

    def described(self, data: Data) -> dict[str, Any]:
        """Return the description of the run's training data."""
        return self.description or {}


def configured_data(config: dict[str, Any], settings: dict[str, Any]) -> Data:
    """Return the data set that a checked configuration names; no file is opened.

    `settings` are those of the regularizers. Preprocessing steps come before their transforms.
    """
    plugins = config["plugins"]
    transforms = [
        instantiate(node, f"preprocessing.{name}", {}, plugins)
        for name, node in config.get("preprocessing", {}).items()
    ]
    transforms += settings.get("transforms", [])
    if transforms or "transforms" in settings:
        settings = {**settings, "transforms": transforms}
    available = {
        "root": Path(config["paths"]["data"]),
        "seed": config["seed"],
        "predicts": predicted_targets(config),
    }
    data: Data = instantiate(config["dataset"], "dataset", available, plugins, settings)
    return data


def predicted_targets(config: dict[str, Any]) -> str:
    """Return what the targets have to be, "classes" or "numbers"; "" where the data decides."""
    task = locate(config["task"][TARGET], config["plugins"])
    if inspect.isclass(task) and issubclass(task, Task):
        return task.predicts
    return ""


def require_valid_preprocessing(data: Data) -> None:
    """Raise ConfigError if a transform refuses the shape of the inputs."""
    try:
        _ = data.spec
    except ValueError as e:
        if location_of_user_code(e):
            raise
        raise ConfigError([("preprocessing", str(e))]) from e


def require_model_for_categories(config: dict[str, Any], data: Data) -> None:
    """Raise ConfigError if the data has category codes and the model would read them as numbers."""
    model = locate(config["model"][TARGET], config["plugins"])
    if data.spec.cardinalities and "cardinalities" not in arguments(model):
        why = (
            "this model would take the codes of categories for numbers: "
            "model=tabular_mlp, or dataset.categories=onehot"
        )
        raise ConfigError([("model", why)])


def batch_size(config: dict[str, Any], data: Data) -> int:
    """Return the configured batch size, as a number of samples."""
    size = config["dataset"].get("batch_size", DEFAULT_BATCH_SIZE)
    return data.spec.train_samples if size == "all" else int(size)
