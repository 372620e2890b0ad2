"""Sources of the initial weights of a model: the configuration, or a checkpoint."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dltrain.errors import ConfigError
from dltrain.experiment.instantiate import instantiate
from dltrain.runs.find import debug_mode, find
from dltrain.runs.folder import RunFolder
from dltrain.types import Data, DataSplit, InitializesFromInputs
from dltrain.weights.initial import InitialWeights, trained_weights, weights_of_run
from dltrain.weights.published import published_weights
from dltrain.weights.word_vectors import KEY, load_vectors, token_embedding

log = logging.getLogger("dltrain")
INITIALIZING_SAMPLES = 5000  # that a model sees which computes initial weights from data


class WeightSource(Protocol):
    """Decides which weights a model starts with."""

    def initialize(self, config: dict[str, Any], model: nn.Module) -> None:
        """Draw fresh weights by the configured initialization."""

    def fit_to_data(self, model: nn.Module, data: Data) -> None:
        """Let the model compute the initial weights that it takes from training inputs."""

    def load_word_vectors(self, config: dict[str, Any], model: nn.Module, data: Data) -> None:
        """Copy word vectors of another run into the model's embedding."""

    def find(self, config: dict[str, Any], model: Callable[[], nn.Module]) -> InitialWeights | None:
        """Return the weights of a run, or published ones, that the task starts with.

        None without any. `model` returns the model, which is built if it has to be known.
        """


class ConfiguredWeights:
    """Weights as `initialization`, `init` and `model.embedding.from` configure them."""

    def initialize(self, config: dict[str, Any], model: nn.Module) -> None:
        """Draw fresh weights by the configured initialization."""
        initialize(config, model)

    def fit_to_data(self, model: nn.Module, data: Data) -> None:
        """Let the model compute the initial weights that it takes from training inputs."""
        if isinstance(model, InitializesFromInputs):
            model.initialize_from(first_inputs(data.train, INITIALIZING_SAMPLES))

    def load_word_vectors(self, config: dict[str, Any], model: nn.Module, data: Data) -> None:
        """Copy the vectors of the run of `model.embedding.from` into the model's embedding."""
        run = find_source(KEY, str(config["model"]["embedding"]["from"]), config)
        layer = token_embedding(model, data)
        load_vectors(layer, data, run, trained_weights(run, KEY), instantiate)

    def find(self, config: dict[str, Any], model: Callable[[], nn.Module]) -> InitialWeights | None:
        """Return the weights that `init.from` or `init.weights` names.

        Raises ConfigError if both are set, or the model has no published weights; InputError for a
        run without a checkpoint.
        """
        init = config.get("init", {})
        run, weights = init.get("from"), init.get("weights")
        if run is not None and weights is not None:
            raise ConfigError([("init.weights", "init.from is set too: begin with one of them")])
        if run is not None:
            return weights_of_run(find_source("init.from", str(run), config))
        return published_weights(model(), str(weights)) if weights is not None else None


def first_inputs(split: DataSplit, count: int) -> Tensor:
    """Return about `count` training inputs (N, ...): the first batches of the first epoch."""
    batches = math.ceil(min(count, split.samples) / split.batch_size)
    return torch.cat([inputs for inputs, _ in islice(split.epoch(0), batches)])


def find_source(key: str, name: str, config: dict[str, Any]) -> RunFolder:
    """Return the run that the setting `key` names; a warning if its weights mean nothing."""
    run = find(name, Path(config["paths"]["output"]))
    if debug_mode(run.folder) == "smoke":
        log.warning(f"{key}={name}: {run.folder} was trained on fake data (debug=smoke)")
    return run


class FreshWeights:
    """Fresh weights by the configured initialization; no file is opened."""

    def initialize(self, config: dict[str, Any], model: nn.Module) -> None:
        """Draw fresh weights by the configured initialization."""
        initialize(config, model)

    def fit_to_data(self, model: nn.Module, data: Data) -> None:
        """Leave the weights as the model drew them."""

    def load_word_vectors(self, config: dict[str, Any], model: nn.Module, data: Data) -> None:
        """Leave the embedding as it is initialized."""

    def find(self, config: dict[str, Any], model: Callable[[], nn.Module]) -> InitialWeights | None:
        """Return None."""
        return None


class CheckpointWeights:
    """The weights of a checkpoint that is loaded later: initial ones do not matter."""

    def initialize(self, config: dict[str, Any], model: nn.Module) -> None:
        """Leave the weights as the model drew them."""

    def fit_to_data(self, model: nn.Module, data: Data) -> None:
        """Leave the weights as the model drew them."""

    def load_word_vectors(self, config: dict[str, Any], model: nn.Module, data: Data) -> None:
        """Leave the embedding as the model drew it."""

    def find(self, config: dict[str, Any], model: Callable[[], nn.Module]) -> InitialWeights | None:
        """Return None."""
        return None


def runs_of_weights(config: dict[str, Any]) -> dict[str, Path]:
    """Return the folders of the runs whose weights a new run begins with, by their keys."""
    if config["debug"] == "smoke":
        return {}
    names = {"init.from": config.get("init", {}).get("from")}
    embedding = word_vector_settings(config)
    if embedding is not None:
        names[KEY] = embedding["from"]
    root = Path(config["paths"]["output"])
    chosen = {key: str(name) for key, name in names.items() if name is not None}
    return {key: find(name, root).folder.absolute() for key, name in chosen.items()}


def configured_weights(config: dict[str, Any]) -> WeightSource:
    """Return the source of a new run's weights; `debug=smoke` opens no file for them."""
    return FreshWeights() if config["debug"] == "smoke" else ConfiguredWeights()


def initialize(config: dict[str, Any], model: nn.Module) -> None:
    """Draw fresh weights by the configured initialization, if there is one."""
    if "initialization" in config:
        instantiate(config["initialization"], "initialization", {}, config["plugins"])(model)


def word_vector_settings(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return `model.embedding` if it names a run to take word vectors from; None otherwise."""
    embedding = config["model"].get("embedding")
    if isinstance(embedding, dict) and embedding.get("from") is not None:
        return embedding
    return None
