"""The scores of a classifier against values computed by hand, and its worst mistakes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dltrain import metrics
from dltrain.tasks.classification import Classification


def test_scores_of_a_small_case_by_hand() -> None:
    """Targets 0 0 1 1, predictions 0 1 1 1.

    Precision (1 + 2/3) / 2, recall (1/2 + 1) / 2, F1 (2/3 + 4/5) / 2.
    """
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    scores = metrics.classification(logits, torch.tensor([0, 0, 1, 1]))
    assert float(scores["accuracy"]) == pytest.approx(0.75)
    assert float(scores["precision"]) == pytest.approx((1 + 2 / 3) / 2)
    assert float(scores["recall"]) == pytest.approx(0.75)
    assert float(scores["f1"]) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert float(scores["auroc"]) == pytest.approx(1.0)
    assert scores["confusion"].tolist() == [[1, 1], [0, 2]]
    assert "top5" not in scores


def test_top5_counts_the_true_class_among_the_five_highest() -> None:
    logits = torch.arange(10.0).repeat(2, 1)  # the five highest are 5..9
    scores = metrics.classification(logits, torch.tensor([5, 4]))
    assert float(scores["top5"]) == pytest.approx(0.5)
    assert float(scores["accuracy"]) == 0.0
    others = metrics.classification(logits, torch.tensor([8, 7]), top_k=2)
    assert {name: float(value) for name, value in others.items() if "top" in name} == {"top2": 0.5}


def test_the_k_of_top_k_is_a_setting(dltrain) -> None:
    """The metric is named by it, and a custom metric may not have that name."""
    outcome = dltrain("task.top_k=3", "debug=smoke", "callbacks=quiet", "--json")
    assert outcome.code == 0, outcome.err
    assert {"val/top3", "test/top3"} <= outcome.json["metrics"].keys()
    assert not any("top5" in name for name in outcome.json["metrics"])


def test_a_custom_metric_may_not_have_the_name_of_a_score() -> None:
    data: Any = SimpleNamespace(spec=SimpleNamespace(class_names=("a", "b"), boxes=0))
    nothing: Any = None
    with pytest.raises(ValueError, match=r"metrics\.top3: a built-in score has this name"):
        Classification(data, nothing, nothing, nothing, 1, top_k=3, metrics={"top3": nothing})


def test_a_class_without_samples_gives_finite_scores_and_no_warning() -> None:
    """It has no curve, and counts in no mean unless it was predicted."""
    scores = metrics.classification(torch.eye(3), torch.tensor([0, 1, 1]))
    assert all(
        torch.isfinite(value).all()
        for name, value in scores.items()
        if name not in ("per_class", "roc")
    )
    assert scores["per_class"][:, 4].tolist() == [1, 2, 0]
    assert scores["per_class"].isnan().tolist() == [
        [False] * 5,
        [False] * 5,
        [False, False, False, True, False],
    ]
    assert scores["roc"].isnan().any(dim=1).tolist() == [False, False, True]
    perfect = metrics.classification(torch.eye(4)[:2], torch.tensor([0, 1]))
    assert [float(perfect[name]) for name in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]


def test_the_memory_of_mistakes_does_not_grow_with_the_batches() -> None:
    worst = metrics.WorstMistakes(count=3)
    for i in range(20):
        logits = torch.tensor([[float(i), 0.0]]).repeat(5, 1)
        worst.update(torch.full((5, 1), float(i)), logits, torch.ones(5, dtype=torch.int64))
    assert [len(column) for column in worst.kept] == [3, 3, 3, 3]
    assert worst.compute()[0].flatten().tolist() == [19.0, 19.0, 19.0]


def test_a_split_of_one_class_has_no_auc() -> None:
    scores = metrics.classification(torch.eye(2), torch.tensor([1, 1]))
    assert "auroc" not in scores
    assert float(scores["accuracy"]) == 0.5


@pytest.mark.parametrize(
    ("samples", "classes", "levels"), [(300, 10, None), (200, 3, 2), (400, 7, 1), (50, 2, None)]
)
def test_scores_match_torchmetrics(samples: int, classes: int, levels: int | None) -> None:
    """Also where few `levels` of the logits give many equal scores."""
    import torchmetrics.functional.classification as tm

    generator = torch.Generator().manual_seed(samples)
    targets = torch.randint(0, classes, (samples,), generator=generator)
    logits = torch.randn(samples, classes, generator=generator)
    logits[torch.arange(samples), targets] += 1
    logits = logits if levels is None else (logits * levels).round() / levels
    scores, p = metrics.classification(logits, targets), logits.softmax(dim=1)
    per_class = scores["per_class"].unbind(dim=1)
    for column, function in enumerate(
        (tm.multiclass_precision, tm.multiclass_recall, tm.multiclass_f1_score)
    ):
        name = ("precision", "recall", "f1")[column]
        torch.testing.assert_close(scores[name], function(p, targets, classes))
        torch.testing.assert_close(per_class[column], function(p, targets, classes, average="none"))
    torch.testing.assert_close(scores["auroc"], tm.multiclass_auroc(p, targets, classes))
    torch.testing.assert_close(
        per_class[3], tm.multiclass_auroc(p, targets, classes, average="none")
    )
    torch.testing.assert_close(
        scores["accuracy"], tm.multiclass_accuracy(p, targets, classes, average="micro")
    )
    assert torch.equal(scores["confusion"], tm.multiclass_confusion_matrix(p, targets, classes))
    assert torch.equal(per_class[4].long(), targets.bincount(minlength=classes))
    area = torch.trapezoid(scores["roc"], metrics.false_positive_rates())
    torch.testing.assert_close(area, per_class[3], atol=5e-3, rtol=0)  # sampled at 200 points


def test_a_roc_curve_by_hand() -> None:
    """Sorted by falling score: a hit, a hit and a miss with equal scores, a miss, a hit.

    Between the equal scores the curve is a line through (0.5, 2/3).
    """
    p = torch.tensor([0.9, 0.6, 0.6, 0.3, 0.1])
    curves, areas = metrics.roc_curves(
        torch.stack([1 - p, p], dim=1), torch.tensor([1, 1, 0, 0, 1])
    )
    at = metrics.false_positive_rates()
    expected = torch.where(at < 0.5, 1 / 3 + at * 2 / 3, 2 / 3)
    expected[-1] = 1.0  # the last positive comes after all negatives
    torch.testing.assert_close(curves[1], expected)
    assert float(areas[1]) == pytest.approx(0.5 * (1 / 3 + 2 / 3) / 2 + 0.5 * 2 / 3)


def test_the_worst_mistakes_have_the_highest_loss_over_all_batches() -> None:
    worst = metrics.WorstMistakes(count=2)
    first = torch.tensor([[5.0, 0.0], [0.0, 1.0], [9.0, 0.0]])
    worst.update(
        torch.tensor([[10.0], [11.0], [12.0]]), first, torch.tensor([0, 0, 1])
    )  # 11 and 12 are wrong
    worst.update(
        torch.tensor([[13.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([0])
    )  # 13 is wrong
    inputs, targets, guesses = worst.compute()
    assert inputs.flatten().tolist() == [12.0, 13.0]
    assert targets.tolist() == [1, 0]
    assert guesses.tolist() == [0, 1]
