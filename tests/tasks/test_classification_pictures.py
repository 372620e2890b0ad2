"""Pictures of a classifier's evaluation: captions, ROC curves, tables with missing scores."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.tasks.classification import Classification
from dltrain.types import Spec


def evaluated(names: tuple[str, ...], logits: Tensor, targets: Tensor) -> dict[str, Any]:
    """Return the evaluation of one batch of logits (N, K)."""
    spec = Spec((1, 2, 2), names, 9, 9, mean=(0.0,), std=(1.0,))
    data: Any = SimpleNamespace(spec=spec)
    model = nn.Sequential(nn.Flatten())
    model.forward = lambda x: logits  # type: ignore[method-assign]
    nothing: Any = None
    task = Classification(data, model, nn.CrossEntropyLoss(), nothing, 1)
    with torch.no_grad():
        return task.evaluate([(torch.zeros(len(targets), 1, 2, 2), targets)])


def test_captions_name_the_class_and_a_wrong_prediction() -> None:
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    found = evaluated(
        ("4", "a class with a name of more than twenty-four letters"),
        logits,
        torch.tensor([0, 1, 1]),
    )
    assert found["samples"].captions == (
        "4",
        "a class wit…four letters → 4",
        "a class wit…four letters",
    )
    assert found["mistakes"].captions == ("a class wit…four letters → 4",)


def test_roc_curves_share_axes_and_name_their_areas() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    roc = evaluated(("a", "b"), logits, torch.tensor([0, 1, 0, 1]))["roc"]
    assert list(roc.lines) == ["a (AUC 0.750)", "b (AUC 0.750)", "mean of all classes (AUC 0.750)"]
    assert (roc.square, roc.range) == (True, (-0.02, 1.02))
    assert "0.500" in roc.diagonal


@pytest.mark.parametrize("classes", [1, 2, 12])
def test_data_of_one_class_has_no_roc_curve(classes: int) -> None:
    """And of many classes, a mean curve alone."""
    names = tuple(f"c{i}" for i in range(classes))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(24, classes, generator=generator)
    one = evaluated(names, logits, torch.zeros(24, dtype=torch.int64))
    assert one["roc"].lines == {}
    assert "one class" in one["roc"].title
    assert math.isnan(float(one["per_class"].values[0, 3]))
    if classes > 10:
        many = evaluated(names, logits, torch.arange(24) % classes)
        assert [name.partition(" (")[0] for name in many["roc"].lines][-1:] == [
            "mean of all classes"
        ]


def test_support_is_not_colored_as_a_score() -> None:
    found = evaluated(("a", "b"), torch.eye(2), torch.arange(2))
    assert found["per_class"].plain == ("support",)
    assert set(found["per_class"].plain) < set(found["per_class"].columns)
