"""Pretraining of RBMs: errors and free energies, filters and samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from belief_nets import coder, fitted, net, rbms_of, scored
from torch import Tensor, nn

from dltrain import rng
from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.types import Image


def test_the_reconstruction_error_is_squared_and_summed_over_an_input() -> None:
    """The input is the layer's own; the mean is over batches of unequal sizes."""
    task = net("dataset.eval_batch_size=100")
    for rbm in rbms_of(task):
        for parameter in rbm.parameters():
            nn.init.normal_(parameter)
    first, second = rbms_of(task)
    with torch.no_grad():
        visible = first(torch.cat([images for images, _ in task.data.val.epoch(0)]).flatten(1))
        error = (second.reconstruct(second(visible)) - visible).square().sum() / len(visible)
        energy = second.free_energy(visible).mean()
    scores = scored(task, 1, task.data.val.epoch(0))
    assert scores["reconstruction_error"] == pytest.approx(float(error), rel=1e-5)
    assert scores["free_energy"] == pytest.approx(float(energy), rel=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_free_energy_gap_is_0_on_the_training_data(layer: int) -> None:
    """And far from 0 for noise."""
    task = coder()
    fitted(task)
    same = scored(task, layer, task.data.train.epoch(7))
    assert same["free_energy_gap"] == pytest.approx(0, abs=1e-4)
    noise = torch.rand(200, 1, 8, 8, generator=rng.keyed(0))
    other = scored(task, layer, [(noise, None)])
    assert other["free_energy_gap"] == pytest.approx(
        other["free_energy"] - same["free_energy"], abs=1e-4
    )
    assert abs(other["free_energy_gap"]) > 0.01


GAUSSIAN = ("model.visible_units=gaussian", "dataset.scaling=standardize")


@pytest.mark.parametrize(
    "task", [net, lambda: net(*GAUSSIAN), coder], ids=["binary", "gaussian", "autoencoder"]
)
def test_pictures_are_images_of_the_data(task: Callable[[], Any]) -> None:
    made = task()
    for index, rbm in enumerate(rbms_of(made)):
        scores = scored(made, index, made.data.val.epoch(0))
        pictures = {
            name: value.pixels for name, value in scores.items() if isinstance(value, Image)
        }
        shapes = {name: tuple(pixels.shape) for name, pixels in pictures.items()}
        assert shapes == {"filters": (rbm.linear.out_features, 1, 8, 8), "dreams": (64, 1, 8, 8)}
        for name, pixels in pictures.items():
            assert 0 <= pixels.min() < pixels.max() <= 1, name


def test_a_filter_is_the_product_of_the_weights_below() -> None:
    """From its lowest weight in black to its highest in white."""
    task = net()
    first, second = (rbm.linear.weight.detach() for rbm in rbms_of(task))
    for index, weights in ((0, first), (1, second @ first)):
        filters = scored(task, index, task.data.val.epoch(0))["filters"].pixels.flatten(1)
        for found, row in zip(filters, weights, strict=True):
            torch.testing.assert_close(
                found, (row - row.min()) / (row.max() - row.min()), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize(
    ("options", "inverse"), [((), torch.logit), (GAUSSIAN, lambda x: (255 * x - 77.7) / 95.8)]
)
def test_samples_are_pixels(options: tuple[str, ...], inverse: Callable[[Tensor], Tensor]) -> None:
    """Without weights the bias alone is sampled, here a ramp; also under a second layer."""
    task, ramp = net(*options), torch.linspace(0.1, 0.9, 64)
    with torch.no_grad():
        for rbm in rbms_of(task):
            rbm.linear.weight.zero_()
        rbms_of(task)[0].visible_bias.copy_(inverse(ramp))
    for index in (0, 1):
        dreams = scored(task, index, task.data.val.epoch(0))["dreams"].pixels
        torch.testing.assert_close(
            dreams, ramp.view(1, 1, 8, 8).expand(64, 1, 8, 8), rtol=0, atol=1e-5
        )


def test_data_other_than_images_has_no_pictures() -> None:
    overrides = (
        "dataset=wine",
        "device=cpu",
        "model=deep_belief_net",
        "model.hidden_sizes=[4]",
        *GAUSSIAN[:1],
    )
    task = Experiment.to_train(compose(overrides).config).task
    found = scored(task, 0, task.data.val.epoch(0))  # type: ignore[attr-defined]
    assert {name: type(value) for name, value in found.items()} == dict.fromkeys(
        ("reconstruction_error", "free_energy", "free_energy_gap"), float
    )
