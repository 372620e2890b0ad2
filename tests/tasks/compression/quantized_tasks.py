"""Small tasks of quantization, built from configurations, for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain import rng
from dltrain.config.compose import compose
from dltrain.engine import Engine
from dltrain.experiment.experiment import Experiment

TINY_DATA = (
    "dataset=synthetic",
    "dataset.source.height=8",
    "dataset.source.width=8",
    "dataset.batch_size=8",
    "dataset.source.train_samples=64",
    "dataset.source.test_samples=32",
)
CNN = ("model=cnn", "model.channels=[4,8]")
SHORT = ("trainer.epochs=1", "task.calibration_batches=3", "device.threads=1")
TEXT = (
    "dataset=shakespeare",
    "dataset.length=16",
    "dataset.batch_size=4",
    "debug=smoke",
    "task=language_model_quantization",
    "task.sample_tokens=0",
)
CLASSIFIERS = {
    "static cnn": (*CNN, "task.method=static"),
    "qat cnn": (*CNN, "task.method=qat", "regularization=[ema]"),
    "dynamic lstm": ("model=lstm", "task.method=dynamic", "regularization=[ema]"),
    "dynamic gru": ("model=gru", "task.method=dynamic"),
    "int4 transformer": ("model=transformer", "model.dim=32", "task.method=int4"),
    "static mlp": ("model=mlp", "task.method=static", "task.observer=percentile"),
    "static resnet": ("model=resnet_small", "task.method=static", "task.observer=minmax"),
}


def classifier(*overrides: str) -> Any:
    """Return a task of quantization on tiny images."""
    return built("task=quantization", *TINY_DATA, *SHORT, *overrides)


def built(*overrides: str) -> Any:
    """Return the task of a configuration."""
    composed = compose([*overrides])
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config).task


def trained(task: Any) -> Engine:
    """Train all stages of a task; the generators start at the same place."""
    rng.seed_all(1)
    engine = Engine()
    engine.fit(task)
    task.eval()
    return engine


def inputs_of(task: Any) -> Tensor:
    """Return a batch of test inputs."""
    batch = next(task.data.test.epoch(0))
    return batch[0]


def answers(task: Any, inputs: Tensor) -> Tensor:
    """Return the logits of the network of a task."""
    with torch.no_grad():
        outputs = task.model(inputs)
    return outputs[0] if isinstance(outputs, tuple) else outputs
