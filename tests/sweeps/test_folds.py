"""Cross-validation as one command: a sweep over the folds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from outcome import Outcome

import dltrain as package
from dltrain.errors import UsageError
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
    header = read_journal(Path(outcome.json["sweep"]))[0]
    assert header["swept"] == ["dataset.fold"]
    again = dltrain("resume", outcome.json["sweep"], "--json")
    assert again.json["jobs"] == rows


def test_a_fold_is_a_single_run(dltrain: Command, tmp_path: Path) -> None:
    outcome = dltrain(*TINY[:-1], "dataset.folds=3", "dataset.fold=1", "--json")
    assert outcome.code == 0
    assert "jobs" not in outcome.json


def test_folds_of_each_combination(dltrain: Command) -> None:
    outcome = dltrain("-m", *TINY, "dataset.folds=2", "optimizer.lr=0.1,0.01", "--json")
    assert [row["overrides"][-2:] for row in outcome.json["jobs"]] == [
        [f"optimizer.lr={lr}", f"dataset.fold={fold}"] for lr in (0.1, 0.01) for fold in (0, 1)
    ]


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
    assert "3 folds are dataset.fold=0 and so on; this is 0" in outcome.out


def test_from_python(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"dltrain\.sweep"):
        package.train(*TINY[:-1], "dataset.folds=3")
    sweep = package.sweep(*TINY, "dataset.folds=3")
    assert [row["status"] for row in sweep.rows] == ["completed"] * 3
    assert all(math.isfinite(row["best"]["value"]) for row in sweep.rows)
    assert capfd.readouterr().out == ""
