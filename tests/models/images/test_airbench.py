"""The network with a whitening layer: its covariance, its first state, and when it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.models.images.airbench import (
    EIGENVALUE_FLOOR,
    Airbench,
    Whitening,
    passing_convolution,
    patch_covariance,
)
from dltrain.models.images.cnn import CNN

SMOOTH = ["dataset=synthetic", "model=airbench", "model.width_factor=0.1"]


def smooth_images(count: int = 64, channels: int = 3) -> Tensor:
    """Return images (N, C, 12, 12) whose neighboring pixels are alike."""
    noise = torch.randn(count, channels, 14, 14, generator=torch.Generator().manual_seed(0))
    return 3 * nn.functional.avg_pool2d(noise, 3, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_covariance_of_whitened_patches_is_the_identity(channels: int) -> None:
    """Up to the floor of the variances; the second half of the outputs mirrors the first."""
    images = smooth_images(channels=channels)
    layer = Whitening(channels)
    layer.initialize_from(images)
    size = 4 * channels
    outputs = layer(images).detach()
    assert torch.equal(outputs[:, :size], -outputs[:, size:])
    rows = outputs[:, :size].transpose(0, 1).flatten(1)
    covariance = rows @ rows.T / rows.shape[1]
    variances = torch.linalg.eigvalsh(patch_covariance(images)).flip(0)
    expected = torch.diag(variances / (variances + EIGENVALUE_FLOOR))
    torch.testing.assert_close(covariance, expected, atol=1e-3, rtol=0)
    assert float(variances[0]) > 5 * float(variances[-1]), "the patches were not white before"


def test_the_whitening_kernels_are_not_trained_but_saved() -> None:
    model = Airbench(3, (32, 32), 10)
    assert "whiten.weight" not in dict(model.named_parameters())
    assert {"whiten.weight", "groups.0.norm1.weight"} <= model.state_dict().keys()
    assert "groups.0.norm1.weight" not in dict(model.named_parameters())


def test_the_published_widths_have_the_published_size() -> None:
    """airbench94 has 1.97 million parameters, the frozen kernels not among them."""
    count = sum(p.numel() for p in Airbench(3, (32, 32), 10).parameters())
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert count == 24 + convolutions + 2 * (64 + 256 + 256) + 2560


def test_a_new_convolution_passes_its_inputs_on() -> None:
    images = torch.randn(2, 4, 6, 6)
    passed = passing_convolution(4, 7)(images)[:, :4]
    torch.testing.assert_close(passed, images)


def test_training_begins_with_kernels_of_the_training_images_and_a_check_reads_none() -> None:
    composed = compose(SMOOTH)
    trained = Experiment.to_train(composed.config).build()
    images = torch.cat([x for x, _ in trained.data.train.epoch(0)][:80])[:5000]
    expected = Whitening(trained.data.spec.input_shape[0])
    expected.initialize_from(images)
    torch.testing.assert_close(trained.model.whiten.weight, expected.weight, atol=1e-3, rtol=1e-3)
    checked = Experiment.on_fake_data(composed.config).build()
    blank = Whitening(trained.data.spec.input_shape[0])
    assert torch.equal(checked.model.whiten.weight, blank.weight)
    assert not checked.configured_data.is_read
    resumed = Experiment.to_resume(composed.config, None).build()
    assert torch.equal(resumed.model.whiten.weight, blank.weight), "they are in the checkpoint"


def test_pooling_first_gives_the_same_maps_where_no_norm_stands_between() -> None:
    """Max-pooling and ReLU commute; with batch norm the order of the layers changes."""
    torch.manual_seed(0)
    late = CNN(1, (8, 8), 3, channels=(4, (5, 6)), norm="none")
    torch.manual_seed(0)
    early = CNN(1, (8, 8), 3, channels=(4, (5, 6)), norm="none", pool_first=True)
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(early(images), late(images))
    kinds = [type(m) for m in CNN(1, (8, 8), 3, channels=((4, 5),), pool_first=True)]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [*block, nn.Flatten, nn.Linear]
