"""The scores of a classifier against figures worked out by hand, and the mistakes it was surest of."""

from __future__ import annotations

import pytest
import torch

from dltrain import metrics


def test_scores_of_a_small_case_worked_out_by_hand() -> None:
    """Truth 0 0 1 1, answers 0 1 1 1: precision (1 + 2/3) / 2, recall (1/2 + 1) / 2, F1 (2/3 + 4/5) / 2."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    scores = metrics.classification(logits, torch.tensor([0, 0, 1, 1]))
    assert float(scores["accuracy"]) == pytest.approx(0.75)
    assert float(scores["precision"]) == pytest.approx((1 + 2 / 3) / 2)
    assert float(scores["recall"]) == pytest.approx(0.75)
    assert float(scores["f1"]) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert float(scores["auroc"]) == pytest.approx(1.0)
    assert scores["confusion"].tolist() == [[1, 1], [0, 2]]
    assert "top5" not in scores


def test_top5_counts_the_truth_among_the_five_highest() -> None:
    logits = torch.arange(10.0).repeat(2, 1)  # the five highest are 5..9
    scores = metrics.classification(logits, torch.tensor([5, 4]))
    assert float(scores["top5"]) == pytest.approx(0.5)
    assert float(scores["accuracy"]) == 0.0


def test_a_class_without_samples_gives_finite_scores_and_no_warning() -> None:
    scores = metrics.classification(torch.eye(3), torch.tensor([0, 1, 1]))
    assert all(torch.isfinite(value).all() for value in scores.values())


def test_the_worst_mistakes_are_the_surest_wrong_answers_over_all_batches() -> None:
    worst = metrics.WorstMistakes(count=2)
    first = torch.tensor([[5.0, 0.0], [0.0, 1.0], [9.0, 0.0]])
    worst.update(torch.tensor([[10.0], [11.0], [12.0]]), first, torch.tensor([0, 0, 1]))  # 11 and 12 are wrong
    worst.update(torch.tensor([[13.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([0]))  # 13 is wrong
    inputs, targets, guesses = worst.compute()
    assert inputs.flatten().tolist() == [12.0, 13.0]
    assert targets.tolist() == [1, 0]
    assert guesses.tolist() == [0, 1]
