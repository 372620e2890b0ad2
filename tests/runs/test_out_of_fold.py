"""Out-of-fold predictions: one row for each sample, by the run that was not trained on it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_pictures import lay

from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory
from dltrain.data.tabular.tabular import Tabular
from dltrain.errors import InputError, UsageError
from dltrain.runs.folder import RunFolder
from dltrain.runs.out_of_fold import write_out_of_fold

FOLDS = 3
BRIEF = ("callbacks=quiet", "device=cpu", "trainer.epochs=1")
TABLE = ("dataset=tabular", "dataset.path=table.csv", "dataset.target=y", "model=perceptron")
Train = Callable[..., list[RunFolder]]


@pytest.fixture
def train(dltrain) -> Train:
    """Return a function that trains a run of each fold."""

    def train_folds(*settings: str, folds: tuple[int, ...] = tuple(range(FOLDS))) -> Any:
        runs = []
        for fold in folds:
            split = (f"dataset.folds={FOLDS}", f"dataset.fold={fold}")
            outcome = dltrain(*settings, *split, *BRIEF, "--json")
            assert outcome.code == 0, outcome.err
            runs.append(RunFolder(Path(outcome.json["run"])))
        return runs

    return train_folds


def read(path: Path = Path("oof.csv")) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def people(rows: int = 40, numbers: bool = False) -> None:
    """A table with a column of patients, whose target is a class or a number."""
    lines = ["x,patient,y"]
    for i in range(rows):
        target = str(1.5 * (i % 7) + 0.25) if numbers else ("yes" if i % 7 > 3 else "no")
        lines.append(f"{i % 7},p{i % 10},{target}")
    Path("table.csv").write_text("\n".join(lines) + "\n")


def test_digits_in_the_order_of_the_data_with_the_probability_of_each_class(
    train: Train, dltrain
) -> None:
    runs = train("dataset=digits", "model=perceptron", "trainer.steps=20")
    metrics = write_out_of_fold(runs[::-1], Path("oof.csv"))
    rows = read()
    assert [row["input"] for row in rows] == [f"digits/train/{i}" for i in range(1438)]
    data = [InMemory(Digits(), folds=FOLDS, fold=fold) for fold in range(FOLDS)]
    for fold, one in enumerate(data):
        held = [int(row["input"].split("/")[2]) for row in rows if row["fold"] == str(fold)]
        assert held == one.rows[1].tolist()
    labels = [int(row["label"]) for row in rows]
    assert labels == data[0].stored.targets("train").tolist()
    hits = [row["label"] == row["prediction"] for row in rows]
    assert metrics["accuracy"] == pytest.approx(sum(hits) / len(rows))
    assert metrics["samples"] == 1438
    for row in rows[::100]:
        probabilities = [float(row[f"probability_{digit}"]) for digit in range(10)]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert max(probabilities) == pytest.approx(float(row["probability"]), abs=1e-6)
        assert probabilities.index(max(probabilities)) == int(row["prediction"])
    figures = []
    for run, one in zip(runs, data, strict=True):
        outcome = dltrain("evaluate", str(run.folder), "split=val", "--json")
        figures.append((one.val.samples, outcome.json["metrics"]))
    for name in ("loss", "accuracy"):
        mean = sum(count * scores[f"val/{name}"] for count, scores in figures) / 1438
        assert metrics[name] == pytest.approx(mean, rel=1e-5)


def test_a_table_with_groups_in_the_order_of_its_lines(train: Train) -> None:
    people()
    runs = train(*TABLE, "dataset.group=patient")
    write_out_of_fold(runs, Path("oof.csv"))
    rows = read()
    lines = [int(row["input"].removeprefix("table.csv:")) for row in rows]
    assert lines == sorted(set(lines))
    data = Tabular("table.csv", "y", group="patient", folds=FOLDS, fold=0)
    assert len(lines) == data.train.samples + data.val.samples == 40 - data.test.samples
    patients = Path("table.csv").read_text().splitlines()
    folds_of: dict[str, set[str]] = {}
    for line, row in zip(lines, rows, strict=True):
        _, patient, target = patients[line - 1].split(",")
        assert row["label"] == target
        folds_of.setdefault(patient, set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in folds_of.values())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_numbers_have_errors_over_all_rows(train: Train, suffix: str) -> None:
    people(numbers=True)
    runs = train(*TABLE, "task=regression", "dataset.test_fraction=0")
    out = Path(f"oof{suffix}")
    metrics = write_out_of_fold(runs, out)
    assert out.stat().st_size
    assert metrics.keys() == {"samples", "loss", "rmse", "mae", "r2"}
    write_out_of_fold(runs, Path("oof.csv"))
    rows = read()
    assert len(rows) == 40
    assert column(rows, "label") == pytest.approx(
        [1.5 * (i % 7) + 0.25 for i in range(40)], abs=1e-5
    )
    errors = [a - b for a, b in zip(column(rows, "label"), column(rows, "prediction"), strict=True)]
    assert metrics["mae"] == pytest.approx(sum(map(abs, errors)) / 40)
    assert metrics["rmse"] == pytest.approx((sum(e * e for e in errors) / 40) ** 0.5)


def test_a_folder_of_images(train: Train) -> None:
    lay(Path("pets"), ("cat", "dog"), count=12)
    runs = train("dataset=image_folder", "dataset.path=pets", "model=perceptron")
    metrics = write_out_of_fold(runs, Path("oof.csv"))
    rows = read()
    names = [row["input"] for row in rows]
    assert names == sorted(set(names))
    assert metrics["samples"] == len(names) == 20
    assert all(Path(row["input"]).parent.name == row["label"] for row in rows)


def test_texts_whose_batches_are_ordered_by_length(train: Train) -> None:
    lines = [f"{'word ' * (i * 7 % 5 + 1)}{i},{'ab'[i % 2]}" for i in range(30)]
    Path("texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    model = ("model=fasttext", "model.embedding_dim=4", "dataset.test_fraction=0")
    runs = train("dataset=text_files", "dataset.path=texts.csv", *model)
    write_out_of_fold(runs, Path("oof.csv"))
    rows = read()
    assert [row["input"] for row in rows] == [f"texts.csv:{i + 2}" for i in range(30)]
    assert [row["label"] for row in rows] == ["ab"[i % 2] for i in range(30)]


def test_folds_in_the_order_of_time_leave_out_the_earliest_rows(train: Train) -> None:
    people()
    text = Path("table.csv").read_text().splitlines()
    timed = [f"{line},{day}" for day, line in enumerate(text[1:])]
    Path("table.csv").write_text("\n".join([text[0] + ",day", *timed]) + "\n")
    order = ("dataset.split=time", "dataset.time=day", "dataset.test_fraction=0.2")
    metrics = write_out_of_fold(train(*TABLE, *order), Path("oof.csv"))
    assert [int(row["input"].partition(":")[2]) - 2 for row in read()] == list(range(8, 32))
    assert metrics["samples"] == 24


def test_runs_that_are_not_those_of_all_folds_are_refused(train: Train, dltrain) -> None:
    people()
    runs = train(*TABLE)
    out = Path("oof.csv")
    with pytest.raises(UsageError, match=r"need a run of every fold: no run has fold 1$"):
        write_out_of_fold([runs[0], runs[2]], out)
    with pytest.raises(UsageError, match="are both of fold 1"):
        write_out_of_fold([*runs, runs[1]], out)
    other = train(*TABLE, "dataset.split_seed=1", "dataset.group=patient", folds=(2,))
    with pytest.raises(UsageError, match=r"have other data: dataset.group, dataset.split_seed$"):
        write_out_of_fold([*runs[:2], *other], out)
    outcome = dltrain(*TABLE, *BRIEF, "--json")
    with pytest.raises(UsageError, match=r"was not trained on a fold \(dataset.folds is null\)"):
        write_out_of_fold([RunFolder(Path(outcome.json["run"]))], out)
    assert not out.exists()


def test_data_that_has_changed_since_is_refused(train: Train) -> None:
    people()
    runs = train(*TABLE)
    people(rows=41)
    with pytest.raises((InputError, UsageError)):
        write_out_of_fold(runs, Path("oof.csv"))
    assert not Path("oof.csv").exists()


def test_a_task_without_scores_of_samples_is_refused(train: Train) -> None:
    runs = train("dataset=digits", "model=gan", "trainer.steps=1")
    with pytest.raises(UsageError, match="no loss of a single sample"):
        write_out_of_fold(runs, Path("oof.csv"))
