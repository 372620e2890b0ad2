"""Evaluations of regressions and of losses in bounded memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dltrain import losses, metrics
from dltrain.losses import MSE, BatchSums, LossSums, evaluation_sum, mean_over
from dltrain.tasks import forecasting, regression_scores
from dltrain.tasks.forecasting import NaiveErrors
from dltrain.tasks.regression_scores import RegressionScores

STD = torch.tensor([2.0, 5.0, 1.0], dtype=torch.float64)
MEAN = torch.tensor([1.0, -3.0, 0.0], dtype=torch.float64)


def samples(count: int) -> tuple[Tensor, Tensor]:
    """Return outputs and targets (N, 3); the targets of the last column are equal."""
    generator = torch.Generator().manual_seed(count)
    targets = 3 + torch.randn(count, 3, generator=generator)
    targets[:, 2] = 0.1
    return targets + 0.5 * torch.randn(count, 3, generator=generator), targets


def gathered(outputs: Tensor, targets: Tensor) -> RegressionScores:
    scores = RegressionScores(outputs.shape[1])
    for part in zip(outputs.split(64), targets.split(64), strict=True):
        scores.update(*part)
    return scores


def test_errors_of_few_samples_are_bit_identical_to_those_of_all() -> None:
    outputs, targets = samples(500)
    expected = metrics.regression(outputs * STD + MEAN, targets * STD + MEAN)
    found = gathered(outputs, targets).figures(STD, MEAN)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_errors_of_many_samples_follow_from_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = samples(5000)
    expected = metrics.regression(outputs * STD + MEAN, targets * STD + MEAN)
    monkeypatch.setattr(regression_scores, "MAX_KEPT_VALUES", 3 * 400)
    monkeypatch.setattr(losses, "MAX_BATCH_SUMS", 7)
    scores = gathered(outputs, targets)
    assert not scores.rows.is_complete
    assert scores.rows.bytes() <= scores.state_bytes(5000, 3) == 2 * 4 * 3 * 400
    found = scores.figures(STD, MEAN)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-6)
    predictions, truth = scores.kept(STD, MEAN)
    assert len(predictions) == len(truth) == scores.rows.num_kept


def test_the_naive_error_of_many_windows_follows_from_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = samples(3000)[0]
    exact = float((errors * STD).square().mean().sqrt())
    for limit in (10_000, 100):
        monkeypatch.setattr(forecasting, "max_kept_rows", lambda targets, limit=limit: limit)
        naive = NaiveErrors(3)
        for part in errors.split(64):
            naive.update(part)
        assert naive.rows.is_complete == (limit > 3000)
        assert naive.rmse(STD) == pytest.approx(exact, rel=1e-6)


def test_the_loss_of_many_batches_is_that_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rounding a sum is the same in any groups of batches."""
    outputs, targets = samples(1000)
    pairs = list(zip(outputs.split(10), targets.split(10), strict=True))
    expected = mean_over([evaluation_sum(MSE(), *pair) for pair in pairs])
    for most in (4096, 100, 7):
        monkeypatch.setattr(losses, "MAX_BATCH_SUMS", most)
        sums = LossSums()
        for pair in pairs:
            sums.add(MSE(), *pair)
        assert len(sums.sums.recent) == most
        assert sums.mean() == pytest.approx(expected, rel=1e-12)
        assert most < 4096 or sums.mean() == expected


def test_a_sum_of_large_tensors_keeps_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "MAX_BLOCK_VALUES", 100)
    sums = BatchSums()
    for number in range(7):
        sums.add(torch.full((40,), float(number)))
    assert sums.recent.shape == (2, 40)
    assert sums.total().tolist() == [21.0] * 40


def test_check_prints_the_memory_of_a_regression(dltrain) -> None:
    found = dltrain("check", "dataset=diabetes", "--json").json
    assert found["evaluation_state_bytes"] == 2 * 4 * found["evaluation_samples"]
