"""The Frechet distance: by hand, against another formula, and against torchmetrics."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from dltrain import metrics, rng


def rows(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=rng.keyed(seed), dtype=torch.float64)


def test_equal_sets_have_distance_0_and_a_shift_counts_squared() -> None:
    x = rows(200, 6) @ rows(6, 6, 1)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    shift = torch.tensor([1.0, -2.0, 0, 0, 3, 0.5])
    assert metrics.frechet_distance(x, x + shift) == pytest.approx(
        float(shift.square().sum()), rel=1e-6
    )


def test_the_distance_for_diagonal_covariances() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2, of corners of boxes, whose covariance is exactly diagonal."""
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    one, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.5])
    mean = torch.tensor([0.5, 0.0, -1.0])
    expected = float(
        mean.square().sum() + 8 / 7 * (one - other).square().sum()
    )  # of an unbiased variance
    assert metrics.frechet_distance(corners * one, corners * other + mean) == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize(
    ("one", "other", "size"), [(50, 80, 6), (5, 9, 20), (4, 200, 12), (30, 30, 1)]
)
def test_the_distance_is_symmetric_and_works_for_few_samples(
    one: int, other: int, size: int
) -> None:
    """Against tr (C1 C2)^(1/2) as the sum of the singular values of X1 X2^T, centered."""
    x, y = rows(one, size, 1), 2 * rows(other, size, 2) + 0.3
    centered = [(z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y)]
    shared = torch.linalg.svdvals(centered[0] @ centered[1].T).sum()
    expected = (
        (x.mean(0) - y.mean(0)).square().sum()
        + sum(z.square().sum() for z in centered)
        - 2 * shared
    )
    assert metrics.frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-5)
    assert metrics.frechet_distance(y, x) == pytest.approx(metrics.frechet_distance(x, y), rel=1e-5)


def test_constant_features_have_a_finite_distance() -> None:
    """A generator that has collapsed has no covariance."""
    x = rows(40, 3)
    expected = float(x.mean(0).square().sum() + x.var(0).sum())
    assert metrics.frechet_distance(x, torch.zeros(30, 3)) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(torch.zeros(30, 3), x) == pytest.approx(expected, rel=1e-6)


def test_the_distance_matches_torchmetrics() -> None:
    """Its FID of the same features, from a network of the test in place of Inception."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.Tanh())
    theirs = FrechetInceptionDistance(network, normalize=True, input_img_size=(3, 4, 4))
    images = {True: torch.rand(150, 3, 4, 4), False: torch.rand(150, 3, 4, 4).square()}
    for real, pixels in images.items():
        theirs.update(pixels, real=real)
    with torch.no_grad():
        ours = metrics.frechet_distance(network(images[True]), network(images[False]))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert ours > 0.01
