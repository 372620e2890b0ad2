"""The parts of an experiment, each built from its configuration when it is first used."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from dltrain import rng
from dltrain.config.balance import balanced_loss
from dltrain.config.checking.nodes import OPTIMIZERS
from dltrain.config.settings import Trainer
from dltrain.config.suggestions.fitting import require_model_for_data
from dltrain.data.dataset import counted
from dltrain.data.repeated import Repeated
from dltrain.device import Device, most_flops
from dltrain.engine import Callback, Task
from dltrain.errors import ConfigError
from dltrain.experiment.adapting import adapt, require_known_tokens
from dltrain.experiment.data import (
    ConfiguredData,
    ContinuedData,
    DataSource,
    FakeData,
    RestoredData,
    batch_size,
    configured_data,
    require_model_for_categories,
    require_valid_preprocessing,
)
from dltrain.experiment.finished_runs import (
    FakeRuns,
    RunOpener,
    RunsSource,
    configured_runs,
    runs_when_needed,
)
from dltrain.experiment.freezing import freeze
from dltrain.experiment.instantiate import instantiate
from dltrain.experiment.optim_factory import OptimFactory
from dltrain.experiment.regularizers import regularizer_settings
from dltrain.experiment.watch import watched_direction, watched_metric
from dltrain.experiment.weight_source import (
    CheckpointWeights,
    FreshWeights,
    WeightSource,
    configured_weights,
    word_vector_settings,
)
from dltrain.types import Data, Standardizes
from dltrain.weights.freezing import Freezing
from dltrain.weights.initial import InitialWeights
from dltrain.weights.word_vectors import token_embedding

UNLIMITED_EPOCHS = sys.maxsize


class Experiment:
    """The parts of an experiment: all that its configuration describes except the run's folder.

    Creating one seeds the random number generators and sets up the device. Every other part is
    built when it is first used, after the parts that it needs: data, model, initial weights, loss,
    task.
    `debug=smoke` replaces the data with fake data and the initial weights with fresh ones;
    `debug=overfit` trains on one batch, without regularization.
    """

    def __init__(
        self,
        config: dict[str, Any],
        data: DataSource,
        weights: WeightSource,
        runs: RunsSource,
    ) -> None:
        self.config = config
        self.plugins: list[str] = config["plugins"]
        self.data_source: DataSource = data
        self.weight_source: WeightSource = weights
        self.runs_source: RunsSource = runs
        rng.seed_all(config["seed"])
        self.device: Device = instantiate(config["device"], "device", {}, self.plugins)
        self.device.set_up()

    @classmethod
    def to_train(cls, config: dict[str, Any]) -> Experiment:
        """Return the experiment of a new run."""
        runs = configured_runs(config)
        return cls(config, ConfiguredData(), configured_weights(config), runs)

    @classmethod
    def with_data_of(cls, other: Experiment, config: dict[str, Any]) -> Experiment:
        """Return the experiment of a new run on the data that `other` has loaded."""
        runs = configured_runs(config)
        experiment = cls(config, other.data_source, configured_weights(config), runs)
        experiment.configured_data = other.configured_data
        experiment.selected_data = other.selected_data
        return experiment

    @classmethod
    def on_fake_data(
        cls, config: dict[str, Any], description: dict[str, Any] | None = None
    ) -> Experiment:
        """Return an experiment that opens no file: fake data, fresh weights.

        `description` describes data whose spec is not known before it is read.
        """
        return cls(config, FakeData(description), FreshWeights(), FakeRuns)

    @classmethod
    def to_resume(cls, config: dict[str, Any], description: dict[str, Any] | None) -> Experiment:
        """Return the experiment of a run that continues training.

        `description` describes its data. A checkpoint is expected to be loaded into its task.
        """
        runs = configured_runs(config)
        return cls(config, ContinuedData(description), CheckpointWeights(), runs)

    @classmethod
    def to_restart(cls, config: dict[str, Any], description: dict[str, Any] | None) -> Experiment:
        """Return the experiment of a run that ended before its first checkpoint."""
        runs = configured_runs(config)
        return cls(config, ContinuedData(description), configured_weights(config), runs)

    @classmethod
    def to_evaluate(cls, config: dict[str, Any], description: dict[str, Any] | None) -> Experiment:
        """Return the experiment of a trained run whose data `description` describes.

        A checkpoint is expected to be loaded into its task.
        """
        runs = runs_when_needed(config)
        return cls(config, RestoredData(description), CheckpointWeights(), runs)

    @classmethod
    def to_predict(cls, config: dict[str, Any], description: dict[str, Any] | None) -> Experiment:
        """Return the experiment of a trained run, on fake data: its data may be gone.

        A checkpoint is expected to be loaded into its task. `configured_data` reads new inputs.
        """
        runs = runs_when_needed(config)
        return cls(config, FakeData(description), CheckpointWeights(), runs)

    def build(self) -> Experiment:
        """Build every part now, so that an error in any of them is raised here; return self."""
        _ = self.task
        return self

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer's settings.

        A smoke run has enough epochs to train the layers that are frozen at first, too.
        """
        trainer: Trainer = instantiate(self.config["trainer"], "trainer", {}, self.plugins)
        frozen_epochs = self.config["unfreeze_epoch"]
        if self.config["debug"] == "smoke" and trainer.epochs and frozen_epochs:
            return replace(trainer, epochs=max(trainer.epochs, frozen_epochs + 1))
        return trainer

    @property
    def note(self) -> str:
        """A warning for readers of the run's figures; empty for most runs."""
        if self.config["debug"] != "smoke":
            return ""
        text = "debug=smoke:"
        if self.trainer.stage_steps is not None:
            text += f" {counted(self.trainer.stage_steps, 'step', 'steps')} a stage"
        return f"{text} on fake data; the figures mean nothing"

    @cached_property
    def regularizers(self) -> dict[str, dict[str, Any]]:
        """The settings that regularizers fill, by part (`regularizer_settings`)."""
        nodes = {} if self.config["debug"] == "overfit" else self.config["regularization"]
        return regularizer_settings(nodes, self.plugins)

    @property
    def callbacks(self) -> dict[str, Callback]:
        """The callbacks of the regularizers, by name."""
        return self.regularizers["callbacks"]

    @cached_property
    def configured_data(self) -> Data:
        """The data set that the configuration names, prepared with what an earlier run learned."""
        data = configured_data(self.config, self.regularizers["dataset"])
        self.data_source.prepare(data)
        require_valid_preprocessing(data)
        data.to(self.device.data_device(data.size_in_bytes))
        return data

    @cached_property
    def selected_data(self) -> Data:
        """The configured data, or fake data in its place."""
        data = self.data_source.select(self.configured_data)
        if self.config["debug"] == "smoke" and data is self.configured_data:
            data = data.fake()
        if data is not self.configured_data:
            data.to(self.device.torch_device())
        return data

    @cached_property
    def data(self) -> Data:
        """The data that the task gets, standardized as the initial weights require."""
        data = self.selected_data
        if self.initial_weights is not None and isinstance(data, Standardizes):
            self.initial_weights.standardize(data)
        return Repeated(data) if self.config["debug"] == "overfit" else data

    def described(self) -> dict[str, Any]:
        """Return the description of the data, or of the data of the earlier run; may read it."""
        return self.data_source.described(self.configured_data)

    @cached_property
    def model(self) -> nn.Module:
        """The initialized model. Weights of a run or published ones are loaded into the task."""
        return self._fresh_model()

    def another_model(self, number: int) -> nn.Module:
        """Return another model, with initial weights of its own; see `NetworkFactory`."""
        with rng.preserved():
            torch.manual_seed(rng.number(self.config["seed"], number))
            model = self._fresh_model()
            self.weight_source.fit_to_data(model, self.data)
        freeze(self.config, model, self.trainer)
        return model

    def initialize_model(self, model: nn.Module) -> None:
        """Draw fresh weights for a model by the configured initialization."""
        self.weight_source.initialize(self.config, model)

    def _fresh_model(self) -> nn.Module:
        """Return a new model with initial weights, except those that are loaded into the task."""
        data = self.selected_data
        settings = self.regularizers["model"]
        require_model_for_data(self.config, data.spec, settings)
        require_model_for_categories(self.config, data)
        model: nn.Module = instantiate(
            self.config["model"], "model", data.spec.arguments(), self.plugins, settings
        )
        self.weight_source.initialize(self.config, model)
        embedding = word_vector_settings(self.config)
        if embedding is not None:
            token_embedding(model, data).weight.requires_grad_(not embedding.get("frozen"))
            self.weight_source.load_word_vectors(self.config, model, data)
        adapt(self.config, model, self.device)
        return model

    @cached_property
    def initial_weights(self) -> InitialWeights | None:
        """The weights of a run, or published ones, that the task starts with; None without any."""
        return self.weight_source.find(self.config, lambda: self.model)

    @cached_property
    def freezing(self) -> Freezing:
        """The layers of the model that are frozen."""
        return freeze(self.config, self.model, self.trainer)

    @cached_property
    def finished_runs(self) -> RunOpener:
        """The finished runs whose networks the task uses."""
        return self.runs_source(self)

    @cached_property
    def loss(self) -> nn.Module:
        """The loss."""
        data = self.data
        available = {
            **data.spec.arguments(),
            "class_counts": lambda: data.class_counts,  # which may read the data: only on demand
        }
        settings = self.regularizers["loss"]
        node = balanced_loss(self.config, bool(data.spec.class_names), settings)
        loss: nn.Module = instantiate(node, "loss", available, self.plugins, settings)
        return loss

    @cached_property
    def optim_factory(self) -> OptimFactory:
        """Makes an `Optim` for the modules that a task hands it."""
        return OptimFactory(self.config, self.trainer, self.device, self.regularizers["optim"])

    @cached_property
    def task(self) -> Task:
        """The task on the device, with its initial weights."""
        self.config = self.finished_runs.resolve(self.config)
        task = self._build_task()
        self.weight_source.fit_to_data(self.model, self.data)
        self.optim_factory.direction = watched_direction(task, self.config, self.trainer)
        if self.initial_weights is not None:
            require_known_tokens(self.config, self.initial_weights, self.data, self.described)
            self.initial_weights.load_into(task)
        self._require_divisible_batches()
        samples = batch_size(self.config, self.configured_data)
        self.device.choose_threads(most_flops(task, self.data.spec, samples))
        self.device.place(task)
        return task

    def _build_task(self) -> Task:
        """Return the task as its constructor leaves it."""
        node = {key: value for key, value in self.config["task"].items() if key != OPTIMIZERS}
        available: dict[str, Any] = {
            **self.data.spec.arguments(),
            "data": self.data,
            "model": self.model,
            "freezing": self.freezing,
            "loss": self.loss,
            "watch": watched_metric(self.config, self.trainer),
            "optim": self.optim_factory,
            "epochs": self.trainer.epochs or UNLIMITED_EPOCHS,
            "finished_runs": self.finished_runs,
            "network_factory": self,
        }
        if self.trainer.mode:
            available["mode"] = self.trainer.mode
        task: Task = instantiate(node, "task", available, self.plugins)
        return task

    def _require_divisible_batches(self) -> None:
        """Raise ConfigError if batches that carry a state to the next batch may be divided."""
        if self.trainer.on_oom == "halve" and self.data.spec.continues:
            why = (
                "dataset.stream=true carries a state from batch to batch, so a batch cannot be "
                "divided; set trainer.on_oom=stop, or a smaller dataset.batch_size"
            )
            raise ConfigError([("trainer.on_oom=halve", why)])
