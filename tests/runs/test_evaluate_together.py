"""`dltrain evaluate RUN RUN`: finished runs as one ensemble, and a calibration after training."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import dltrain as package
from dltrain.errors import UsageError
from dltrain.runs.ensembles.outputs import require_same_classes

SMALL = (
    *("dataset=digits", "dataset.batch_size=128", "model=mlp", "model.hidden_sizes=[8]"),
    *("trainer.epochs=1", "callbacks=quiet", "device.threads=1"),
)
SCORED = ("test/accuracy", "test/nll", "test/auroc")


def trained(dltrain: Any, *overrides: str) -> str:
    """Train a small run and return its folder."""
    outcome = dltrain(*SMALL, *overrides, "--json")
    assert outcome.code == 0, outcome.err
    return str(outcome.json["run"])


@pytest.fixture
def runs(dltrain: Any) -> list[str]:
    """Return runs of two seeds, the second with images that are standardized in another way."""
    return [trained(dltrain), trained(dltrain, "seed=1", "dataset.scaling=unit")]


def test_runs_are_combined_as_each_reads_the_samples(runs: list[str], dltrain: Any) -> None:
    alone = [dltrain("evaluate", run, "--json").json["metrics"] for run in runs]
    outcome = dltrain("evaluate", *runs, "--json")
    assert outcome.code == 0, outcome.err
    metrics = outcome.json["metrics"]
    for number, own in enumerate(alone, 1):
        assert metrics[f"test/member_{number}"] == pytest.approx(own["test/accuracy"])
    assert metrics["test/accuracy"] == pytest.approx(metrics["test/accuracy_of_mean"])
    assert metrics["test/nll"] < max(own["test/nll"] for own in alone)
    assert outcome.json["runs"] == runs
    names = [*(Path(run).name for run in runs), "mean of probabilities", "ensemble"]
    assert list(outcome.json["members"]) == names
    probabilities = [package.load(run)(images_of(run)) for run in runs]
    mean = (probabilities[0] + probabilities[1]) / 2
    rows = package.evaluate(runs, samples=True).samples
    labels = [row["prediction"] for row in rows[:20]]
    assert labels == [str(label) for label in mean.argmax(dim=1).tolist()]


def images_of(run: str) -> torch.Tensor:
    """Return the first test images of the data set, uint8."""
    from dltrain.data.images.digits import Digits

    return Digits().read()["test"][0][:20]


def test_a_run_with_itself_equals_the_run(runs: list[str], dltrain: Any) -> None:
    alone = dltrain("evaluate", runs[0], "--json").json["metrics"]
    for combine in ("mean", "vote"):
        twice = dltrain("evaluate", runs[0], runs[0], f"combine={combine}", "--json").json
        assert twice["metrics"]["test/accuracy"] == alone["test/accuracy"]
        assert twice["metrics"]["test/disagreement"] == twice["metrics"]["test/gain"] == 0
    assert twice["metrics"]["test/nll_of_mean"] == pytest.approx(alone["test/nll"], rel=1e-5)


def test_stacking_and_calibration_learn_from_the_validation_split(
    runs: list[str], dltrain: Any
) -> None:
    both = dltrain("evaluate", *runs, "combine=stacking", "calibrate=temperature", "--json")
    assert both.code == 0, both.err
    calibration = both.json["calibration"]
    for name in ("ece", "nll", "brier"):
        assert both.json["metrics"][f"test/{name}"] == pytest.approx(calibration["after"][name])
    on_val = dltrain("evaluate", *runs, "calibrate=temperature", "split=val", "--json")
    found = on_val.json["calibration"]
    assert found["after"]["nll"] <= found["before"]["nll"]
    assert "on which these scores are too good" in on_val.out


def test_a_temperature_changes_no_prediction_of_a_run(runs: list[str], dltrain: Any) -> None:
    alone = dltrain("evaluate", runs[0], "--json").json["metrics"]
    outcome = dltrain("evaluate", runs[0], "calibrate=temperature", "--json")
    calibration = outcome.json["calibration"]
    assert calibration["before"]["nll"] == pytest.approx(alone["test/nll"])
    assert calibration["temperature"] != 1
    for name in ("accuracy", "f1", "precision", "top5"):
        assert outcome.json["metrics"][f"test/{name}"] == alone[f"test/{name}"]
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["before", "after"] in lines
    python = package.evaluate(runs[0], calibrate="temperature")
    assert python.calibration == calibration
    assert "members" not in outcome.json


def test_rows_of_samples_are_those_of_the_ensemble(runs: list[str], dltrain: Any) -> None:
    outcome = dltrain("evaluate", *runs, "--out", "rows.csv", "--worst", "2", "--json")
    assert outcome.code == 0, outcome.err
    with Path("rows.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    hits = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
    assert hits == pytest.approx(outcome.json["metrics"]["test/accuracy"])
    losses = [float(row["loss"]) for row in rows]
    assert sum(losses) / len(losses) == pytest.approx(outcome.json["metrics"]["test/nll"], rel=1e-5)
    assert losses == sorted(losses, reverse=True)


def folders(root: Path, order: tuple[str, ...]) -> str:
    """Write images of some classes into folders, and return the data set's settings."""
    from PIL import Image

    for number, name in enumerate(order):
        for sample in range(12):
            path = root / name / f"{sample}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * number + sample).save(path)
    return f"dataset.path={root}"


def test_other_classes_are_refused(dltrain: Any, tmp_path: Path) -> None:
    folder = ("dataset=image_folder", "dataset.image_size=8", "dataset.test_fraction=0.2")
    one = trained(dltrain, *folder, folders(tmp_path / "one", ("cat", "dog")))
    other = trained(dltrain, *folder, folders(tmp_path / "other", ("cat", "eel")))
    outcome = dltrain("evaluate", one, other)
    assert outcome.code == 2
    assert "has other classes (cat, eel)" in outcome.err
    assert Path(one).name in outcome.err
    assert Path(other).name in outcome.err


def test_another_order_of_classes_is_refused() -> None:
    def run(name: str, *classes: str) -> Any:
        data = SimpleNamespace(spec=SimpleNamespace(class_names=classes))
        return SimpleNamespace(run=SimpleNamespace(folder=name), data=data)

    first = run("one", "cat", "dog")
    require_same_classes(first, run("other", "cat", "dog"))
    with pytest.raises(UsageError) as caught:
        require_same_classes(first, run("other", "dog", "cat"))
    assert str(caught.value) == (
        "other has the classes in another order (dog, cat) than one (cat, dog): they cannot be "
        "combined"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["{0}", "combine=mean"], "name several runs"),
        (["{0}", "{1}", "combine=median"], "expected one of mean, vote, stacking"),
        (["{0}", "calibrate=platt"], "expected one of temperature"),
        (["{0}", "{4}", "split=val"], "have different samples"),
        (["{0}", "{4}", "combine=stacking"], "split=val"),
        (["{0}", "{2}", "split=val"], "has no such samples"),
        (["{2}", "calibrate=temperature"], "no validation samples"),
        (["{0}", "{3}"], "only the probabilities of classifiers"),
    ],
)
def test_what_cannot_be_combined_is_refused(
    words: list[str], why: str, runs: list[str], dltrain: Any
) -> None:
    smaller = trained(dltrain, "dataset.val_fraction=0")
    moved = trained(dltrain, "dataset.split_seed=1")
    number = trained(dltrain, "dataset=diabetes", "task=regression", "loss=mse")
    outcome = dltrain("evaluate", *(word.format(*runs, smaller, number, moved) for word in words))
    assert outcome.code == 2, outcome.out
    assert why in outcome.err
