"""`dltrain evaluate`: scores by class, other splits, other data; and k-fold validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dltrain.report.drawing import DRAWINGS

SHAPE = (
    *(
        "dataset=synthetic",
        "dataset.source.channels=1",
        "dataset.source.height=8",
        "dataset.source.width=8",
    ),
    *(
        "dataset.source.num_classes=4",
        "dataset.source.train_samples=80",
        "dataset.source.test_samples=22",
    ),
)
RUN = (*SHAPE, "model=perceptron", "trainer.epochs=1", "callbacks=quiet")


def without(key: str) -> list[str]:
    """The overrides of the data, less one."""
    return [override for override in SHAPE if not override.startswith(key)]


def test_scores_by_class_are_printed_and_in_the_json(dltrain) -> None:
    assert dltrain(*RUN).code == 0
    outcome = dltrain("evaluate", "last", "--json")
    assert outcome.code == 0, outcome.err
    per_class, metrics = outcome.json["per_class"], outcome.json["metrics"]
    assert list(per_class) == ["class 0", "class 1", "class 2", "class 3"]
    assert [row["support"] for row in per_class.values()] == [6, 6, 5, 5]
    for name, column in (
        ("precision", "precision"),
        ("recall", "recall"),
        ("f1", "f1"),
        ("auroc", "roc_auc"),
    ):
        assert sum(row[column] for row in per_class.values()) / 4 == pytest.approx(
            metrics[f"test/{name}"]
        )
    right = sum(row["recall"] * row["support"] for row in per_class.values())
    assert right / 22 == pytest.approx(metrics["test/accuracy"])
    lines = [line for line in outcome.out.splitlines() if line.startswith("  class")]
    assert lines[0].split() == ["class", "precision", "recall", "f1", "roc", "auc", "support"]
    assert [line.split()[-1] for line in lines[1:]] == ["6", "6", "5", "5"]
    assert len({len(line) for line in lines}) == 1, "aligned"


def test_a_class_that_the_split_has_not_is_a_dash_and_null(dltrain) -> None:
    assert dltrain(*RUN).code == 0
    fewer = [*without("dataset.source.num_classes"), "dataset.source.num_classes=3"]
    outcome = dltrain("evaluate", "last", *fewer, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["per_class"]["class 3"]["roc_auc"] is None
    assert outcome.json["per_class"]["class 3"]["support"] == 0
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("  class 3"))
    assert line.split()[-2:] == ["-", "0"]


@pytest.mark.parametrize(("split", "samples"), [("train", 72), ("val", 8), ("test", 22)])
def test_every_split_is_scored_of_other_data_of_the_same_shape_too(
    split: str, samples: int, dltrain
) -> None:
    assert dltrain(*RUN).code == 0
    own = dltrain("evaluate", "last", f"split={split}", "--json").json
    other = dltrain(
        "evaluate", "last", f"split={split}", *SHAPE, "dataset.source.seed=5", "--json"
    ).json
    for outcome in (own, other):
        assert sum(row["support"] for row in outcome["per_class"].values()) == samples
        assert all(name.startswith(f"{split}/") for name in outcome["metrics"])
    assert own["metrics"] != other["metrics"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dataset=digits"], "10 classes; the run knows 4"),
        (
            [*without("dataset.source.height"), "dataset.source.height=9"],
            "(1, 9, 8); the run was trained on (1, 8, 8)",
        ),
        (
            [*without("dataset.source.channels"), "dataset.source.channels=3"],
            "(3, 8, 8); the run was trained on",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_reason(
    overrides: list[str], words: str, dltrain
) -> None:
    assert dltrain(*RUN).code == 0
    outcome = dltrain("evaluate", "last", *overrides)
    assert outcome.code == 3
    assert words in outcome.err


def test_evaluating_draws_no_picture(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing shows it: curves are drawn where they are looked at."""

    def refuse(*args: Any) -> None:
        raise AssertionError

    assert dltrain(*RUN).code == 0
    for kind in DRAWINGS:
        monkeypatch.setitem(DRAWINGS, kind, refuse)
    assert dltrain("evaluate", "last").code == 0


def test_k_folds_from_the_command_line(dltrain, tmp_path: Path) -> None:
    """Five runs each hold out another fifth; their mean is the cross-validated score."""
    job = ("dataset=digits", "model=perceptron", "callbacks=quiet", "trainer.steps=5")
    outcome = dltrain(
        "-m", "launcher=inline", *job, "dataset.folds=5", "dataset.fold=0,1,2,3,4", "--json"
    )
    assert outcome.code == 0, outcome.err
    jobs = outcome.json["jobs"]
    effective = [
        json.loads((Path(job["run"]) / "manifest.json").read_text())["effective"] for job in jobs
    ]
    assert sum(e["val_samples"] for e in effective) == 1438
    assert all(e["train_samples"] + e["val_samples"] == 1438 for e in effective)
    assert len({job["best"]["metrics"]["val/loss"] for job in jobs}) == 5


def test_a_fold_beyond_the_last_is_refused(dltrain) -> None:
    outcome = dltrain("dataset=digits", "dataset.folds=5", "dataset.fold=5")
    assert outcome.code == 2
    assert "is not one of the 5 folds, 0 to 4" in outcome.err
