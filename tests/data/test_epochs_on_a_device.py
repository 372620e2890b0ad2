"""An epoch of images, tables and series reads no value from the device, augmentation included."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.config.compose import compose
from dltrain.data.split import Split
from dltrain.experiment.experiment import Experiment
from dltrain.types import Spec
from tests.waits import META, NoBlockingCopies

CONF = Path(__file__).parents[2] / "conf"
STEPS = sorted(path.stem for path in (CONF / "preprocessing").glob("*.yaml"))
REGULARIZERS = ("mixup", "cutmix")
EXPERIMENTS = {
    "cnn_mnist": (),
    "cnn_mnist, each class equally often": ("dataset.balance=sampler",),
    "mlp_diabetes": (),
    "lstm_timeseries": (),
    "rcnn_digits": (),
}
SIZE = 32


def built(*overrides: str) -> Experiment:
    composed = compose([*overrides, "device=cpu", "dataset.batch_size=8"])
    assert not composed.problems, composed.problems
    return Experiment.on_fake_data(composed.config)


def on_meta(split: Split) -> Split:
    """Return the split with its data on the meta device; its order stays in the host's memory."""
    if split.balanced:
        _ = split.host_targets  # read once, before the first epoch
    moved = copy.copy(split)
    for name in ("inputs", "targets", "scale", "shift"):
        setattr(moved, name, getattr(split, name).to(META))
    return moved


def batches_of(data: Any) -> int:
    """Go through two epochs of training and one of validation; return the number of batches."""
    count = 0
    for split, epochs in ((on_meta(data.train), 2), (on_meta(data.val), 1)):
        with NoBlockingCopies():
            for number in range(epochs):
                for inputs, targets in split.epoch(number):
                    assert inputs.device == targets.device == META
                    count += 1
    return count


@pytest.mark.parametrize("step", [*STEPS, *REGULARIZERS])
def test_a_transform_waits_for_nothing(step: str) -> None:
    group = "regularization" if step in REGULARIZERS else "preprocessing"
    assert batches_of(built("dataset=cifar10", f"{group}=[{step}]").selected_data) > 4


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_epoch_waits_for_nothing(experiment: str) -> None:
    name, *_ = experiment.split(",")
    assert batches_of(built(f"experiment={name}", *EXPERIMENTS[experiment]).selected_data) > 4


class Reads:
    """A transform that reads a value from the device."""

    normalized = False
    mixes_targets = False
    training_only = True

    def __call__(self, inputs: Any, targets: Any, generator: Any) -> tuple[Any, Any]:
        return inputs * float(inputs.max()), targets

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape


def test_a_transform_that_waits_is_found() -> None:
    """The instrument works."""
    spec = Spec(
        train_samples=16,
        test_samples=0,
        input_shape=(1, SIZE, SIZE),
        class_names=("a", "b"),
        mean=(0.0,),
        std=(1.0,),
    )
    images = torch.zeros(16, 1, SIZE, SIZE, dtype=torch.uint8)
    targets = torch.zeros(16, dtype=torch.int64)
    split = Split(images, targets, torch.arange(16), spec, 8, 0, [Reads()])
    with pytest.raises(RuntimeError, match="meta"):
        next(on_meta(split).epoch(0))
