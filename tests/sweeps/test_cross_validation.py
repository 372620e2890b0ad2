"""Cross-validation as one command: a sweep over the folds."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import Outcome

import dltrain as package
from dltrain.errors import UsageError
from dltrain.sweeps.jobs import job
from dltrain.sweeps.journal import read_journal

Command = Callable[..., Outcome]
TINY = ("model=perceptron", "callbacks=quiet", "trainer.epochs=1", "launcher=inline")


@pytest.fixture(autouse=True)
def quick(quick_disk: None) -> None:
    """Wait for no disk."""


def test_folds_without_a_fold_train_all_of_them(dltrain: Command) -> None:
    outcome = dltrain(*TINY, "dataset.folds=3", "--json")
    assert outcome.code == 0, outcome.err
    rows = outcome.json["jobs"]
    assert [row["overrides"][-1] for row in rows] == [f"dataset.fold={fold}" for fold in range(3)]
    values = [row["best"]["value"] for row in rows]
    assert len(set(values)) == 3
    assert f"{sum(values) / 3:.4f}" in outcome.out
    header = read_journal(Path(outcome.json["sweep"]))[0]
    assert header["swept"] == ["dataset.fold"]
    again = dltrain("resume", outcome.json["sweep"], "--json")
    assert again.json["jobs"] == rows


def test_every_sample_is_predicted_by_the_run_that_did_not_see_it(dltrain: Command) -> None:
    outcome = dltrain(*TINY, "dataset.folds=3", "--json")
    (written,) = outcome.json["out_of_fold"]
    path = Path(outcome.json["sweep"]) / "out_of_fold.csv"
    assert written["file"] == str(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["input"] for row in rows}) == written["metrics"]["samples"] == 1438
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    hits = sum(row["label"] == row["prediction"] for row in rows)
    assert written["metrics"]["accuracy"] == hits / len(rows)
    by_fold = [
        [row["label"] == row["prediction"] for row in rows if row["fold"] == str(fold)]
        for fold in range(3)
    ]
    for row, results in zip(outcome.json["jobs"], by_fold, strict=True):
        assert row["best"]["value"] == pytest.approx(sum(results) / len(results))
    before = path.stat().st_mtime_ns
    assert dltrain("resume", outcome.json["sweep"]).code == 0
    assert path.stat().st_mtime_ns == before


def test_a_fold_that_failed_costs_the_file_and_a_resume_makes_it(
    dltrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = job.start

    def fragile(composed: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        if composed.config["dataset"]["fold"] == 1:
            raise MemoryError("out of memory")
        return start(composed, *rest, **more)

    monkeypatch.setattr(job, "start", fragile)
    outcome = dltrain("-m", *TINY, "dataset.folds=2", "optimizer.lr=0.1,0.2", "--json")
    assert outcome.code == 1
    assert outcome.json["out_of_fold"] == []
    assert "no out-of-fold predictions of lr=0.1: 1 of 2 folds did not finish" in outcome.out
    monkeypatch.setattr(job, "start", start)
    again = dltrain("resume", outcome.json["sweep"], "--json")
    assert again.code == 0, again.err
    files = [Path(one["file"]).name for one in again.json["out_of_fold"]]
    assert files == ["out_of_fold_0.csv", "out_of_fold_2.csv"]


def test_a_task_without_predictions_of_samples_says_so(dltrain: Command) -> None:
    words = ("model=gan", "model.generator_sizes=[8]", "model.discriminator_sizes=[8]")
    outcome = dltrain(*words, *TINY[1:], "dataset.folds=2", "dataset.batch_size=200", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["out_of_fold"] == []
    assert "no out-of-fold predictions: " in outcome.out


def test_a_fold_is_a_single_run(dltrain: Command, tmp_path: Path) -> None:
    outcome = dltrain(*TINY[:-1], "dataset.folds=3", "dataset.fold=1", "--json")
    assert outcome.code == 0
    assert "jobs" not in outcome.json


def test_folds_of_each_combination(dltrain: Command) -> None:
    outcome = dltrain("-m", *TINY, "dataset.folds=2", "optimizer.lr=0.1,0.01", "--json")
    assert [row["overrides"][-2:] for row in outcome.json["jobs"]] == [
        [f"optimizer.lr={lr}", f"dataset.fold={fold}"] for lr in (0.1, 0.01) for fold in (0, 1)
    ]


def test_folds_are_compared_by_the_samples_that_were_held_out(dltrain: Command) -> None:
    outcome = dltrain("-m", *TINY, "dataset.folds=3", "optimizer.lr=0.1,1e-4", "--json")
    lines = outcome.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith("folds"))
    assert "best val/accuracy" in lines[start + 1]
    assert re.search(r"lr=0.1 .*difference .* in best val/accuracy .*\(3 paired folds", outcome.out)


def test_typed_folds_are_those_that_are_trained(dltrain: Command) -> None:
    outcome = dltrain("-m", *TINY, "dataset.folds=5", "dataset.fold=1,3", "--json")
    assert [row["overrides"][-1] for row in outcome.json["jobs"]] == [
        "dataset.fold=1",
        "dataset.fold=3",
    ]


@pytest.mark.parametrize("folds", ["2,3", "choice(2,3)", "range(2,4)"])
def test_several_numbers_of_folds_are_refused(folds: str, dltrain: Command) -> None:
    outcome = dltrain("-m", *TINY, f"dataset.folds={folds}")
    assert outcome.code == 2
    assert "a sweep over all folds has one number of folds" in outcome.err


def test_check_shows_the_first_fold(dltrain: Command) -> None:
    outcome = dltrain("check", "model=perceptron", "dataset.folds=3", "--data")
    assert outcome.code == 0, outcome.err
    assert "dataset.folds=3 trains 3 runs; this is the check of dataset.fold=0" in outcome.out


def test_from_python(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"dltrain\.sweep"):
        package.train(*TINY[:-1], "dataset.folds=3")
    sweep = package.sweep(*TINY, "dataset.folds=3")
    assert [row["status"] for row in sweep.rows] == ["completed"] * 3
    assert all(math.isfinite(row["best"]["value"]) for row in sweep.rows)
    assert capfd.readouterr().out == ""
