"""Calibration: its scores over batches, and a temperature that changes no prediction."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchmetrics.functional as tm
from torch import Tensor

from dltrain.tasks.calibration.scores import NUM_BINS, CalibrationScores
from dltrain.tasks.calibration.temperature import best_temperature, scaled


def confident(count: int, classes: int, factor: float) -> tuple[Tensor, Tensor]:
    """Return logits whose probabilities are right after a division by `factor`, and classes."""
    generator = torch.Generator().manual_seed(count)
    logits = 2 * torch.randn(count, classes, generator=generator)
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits * factor, targets


def scored(logits: Tensor, targets: Tensor, batch: int) -> CalibrationScores:
    scores = CalibrationScores()
    for part in zip(logits.split(batch), targets.split(batch), strict=True):
        scores.update(*part)
    return scores


@pytest.mark.parametrize("classes", [2, 10])
def test_scores_are_those_of_torchmetrics(classes: int) -> None:
    logits, targets = confident(1000, classes, 3.0)
    found = scored(logits, targets, 64).compute()
    probabilities = logits.softmax(dim=1)
    expected = tm.calibration_error(
        probabilities, targets, task="multiclass", n_bins=NUM_BINS, num_classes=classes
    )
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert found.ece > 0.05, "three times too confident"
    one_hot = F.one_hot(targets, classes)
    brier = (probabilities - one_hot).square().sum(dim=1).mean()
    assert found.brier == pytest.approx(float(brier), abs=1e-6)
    assert found.nll == pytest.approx(float(F.cross_entropy(logits, targets)), rel=1e-6)
    assert found.counts.sum() == 1000


def test_scores_do_not_depend_on_the_batches_or_on_who_adds_them() -> None:
    logits, targets = confident(500, 5, 2.0)
    whole = scored(logits, targets, 500).compute().figures
    assert scored(logits, targets, 7).compute().figures == whole
    first = scored(logits[:123], targets[:123], 50)
    first.merge(scored(logits[123:], targets[123:], 50).state_dict())
    assert first.compute().figures == whole


def test_the_diagram_has_a_point_for_each_bin_with_samples() -> None:
    """Confidence 0.75 is right half of the time: one bin, a quarter off."""
    logits = torch.tensor([[math.log(3.0), 0.0]]).expand(4, 2)
    found = scored(logits, torch.tensor([0, 0, 1, 1]), 4).compute()
    assert found.ece == pytest.approx(0.25)
    ((name, (xs, ys)),) = found.plot().lines.items()
    assert (xs, ys) == ([pytest.approx(0.75)], [0.5])
    assert name == "ECE 0.2500"


def test_certain_predictions_are_in_the_last_bin_and_what_is_not_finite_has_no_score() -> None:
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0]])
    certain = scored(logits, torch.tensor([0, 1]), 2).compute()
    assert certain.counts[-1] == 2
    assert certain.figures == {"ece": 0.5, "brier": 1.0, "nll": pytest.approx(100.0)}
    bad = scored(torch.tensor([[math.nan, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]), 2).compute()
    assert all(math.isnan(value) for value in bad.figures.values())


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_a_temperature_undoes_a_factor(factor: float) -> None:
    logits, targets = confident(20_000, 4, factor)
    temperature = best_temperature(logits, targets)
    assert temperature == pytest.approx(factor, rel=0.03)
    before = scored(logits, targets, 1000).compute()
    after = scored(scaled(logits, temperature), targets, 1000).compute()
    assert after.nll <= before.nll
    assert after.ece < 0.02


@pytest.mark.parametrize("temperature", [0.01, 0.7, 1.7, 100.0])
def test_a_temperature_changes_no_prediction(temperature: float) -> None:
    """Also of logits that differ by a rounding: after a plain division many would be equal."""
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(5000, 1, generator=generator) + 1
    steps = torch.randint(0, 3, (5000, 4), generator=generator)
    logits = base + steps * torch.finfo(torch.float32).eps
    plain = logits / temperature
    assert temperature < 1 or (plain.argmax(dim=1) != logits.argmax(dim=1)).any()
    assert torch.equal(scaled(logits, temperature).argmax(dim=1), logits.argmax(dim=1))


def test_perfect_and_broken_predictions_have_bounds() -> None:
    perfect = torch.eye(3) * 5
    assert best_temperature(perfect, torch.arange(3)) >= 0.01
    with pytest.raises(ValueError, match="not finite"):
        best_temperature(torch.full((2, 3), math.inf), torch.tensor([0, 1]))


CALIBRATED = ("dataset=digits", "model=mlp", "trainer.epochs=2", "callbacks=quiet")


def test_a_calibrated_run_predicts_the_same_classes(dltrain: Any) -> None:
    """And with a temperature in its checkpoint, which a later evaluation uses."""
    plain = dltrain(*CALIBRATED, "--json").json
    calibrated = dltrain(*CALIBRATED, "task.calibrate=temperature", "--json").json
    again = dltrain("evaluate", calibrated["run"], "--json").json["metrics"]
    assert calibrated["metrics"]["train/temperature"] != 1
    for name in ("test/accuracy", "test/nll"):
        assert again[name] == calibrated["metrics"][name]
    last = dltrain("evaluate", plain["run"], "checkpoint=last", "--json").json["metrics"]
    assert again["test/accuracy"] == last["test/accuracy"]
    assert again["test/nll"] != last["test/nll"]


def test_calibration_needs_validation_samples(dltrain: Any) -> None:
    outcome = dltrain(*CALIBRATED, "task.calibrate=temperature", "dataset.val_fraction=0")
    assert outcome.code == 2
    assert "the validation split has no samples" in outcome.err
