"""Rows with the same value of a column, such as a patient, stay on one side of every split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.tabular.bundled import Bundled
from dltrain.data.tabular.tabular import Tabular
from dltrain.errors import ConfigError, InputError

PATIENTS = 20
ROWS = 6  # of each patient


def patients(path: str = "table.csv", number: int = PATIENTS, first: int = 0, **at: str) -> str:
    """Rows of x,patient,y in mixed order; the line `at` has another patient: patients(at_9="")."""
    names = [f"p{first + i % number}" for i in range(ROWS * number)]
    for line, name in at.items():
        names[int(line.removeprefix("at_")) - 2] = name
    rows = [f"{i % 7},{name},{'yes' if i % 5 else 'no'}" for i, name in enumerate(names)]
    Path(path).write_text("\n".join(["x,patient,y", *rows]) + "\n")
    return path


def patients_of(data: Tabular, part: Any) -> set[str]:
    """The patients with a row in a split, by the lines of its rows."""
    names = list(data.sample_names(part))
    path = names[0].rpartition(":")[0]
    lines = Path(path).read_text().splitlines()
    return {lines[int(name.rpartition(":")[2]) - 1].split(",")[1] for name in names}


def test_a_patient_is_on_one_side_of_every_split_and_no_feature() -> None:
    data = Tabular(patients(), "y", group="patient", test_fraction=0.25, val_fraction=0.2)
    parts = [patients_of(data, part) for part in ("train", "val", "test")]
    assert list(map(len, parts)) == [12, 3, 5]
    assert len(set.union(*parts)) == PATIENTS
    assert data.spec.feature_names == ("x",)
    assert data.test_rule() == (
        "25 % of the rows of each class, chosen with dataset.split_seed=0 and dataset.group=patient"
    )
    [columns] = data.inspect()
    assert ("patient", "", "left out: dataset.group", "", "", "") in columns.rows


def test_the_column_is_a_feature_if_the_user_says_so() -> None:
    data = Tabular(patients(), "y", group="patient", categorical=("patient",))
    assert any(name.startswith("patient=") for name in data.spec.feature_names)
    assert patients_of(data, "train").isdisjoint(patients_of(data, "test"))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_each_patient_is_in_one_fold(kind: Any) -> None:
    path = patients()
    if kind == "regression":
        Path(path).write_text(Path(path).read_text().replace("yes", "2.5").replace("no", "1.5"))
    held: list[str] = []
    for fold in range(4):
        data = Tabular(path, "y", group="patient", folds=4, fold=fold, kind=kind)
        assert patients_of(data, "val").isdisjoint(patients_of(data, "train"))
        held += data.sample_names("val")
    assert len(set(held)) == len(held) == ROWS * 16


@pytest.mark.parametrize("ways", [("3", "3.0"), ("p3", " p3 "), ("2024-01-01", "2024-01-01 00:00")])
def test_values_that_are_written_in_two_ways_are_one_group(ways: tuple[str, str]) -> None:
    rows = [f"{i},{name},{i % 2}" for i in range(20) for name in (*ways, "p4", "p5")]
    Path("table.csv").write_text("\n".join(["x,patient,y", *rows]) + "\n")
    for seed in range(6):
        data = Tabular("table.csv", "y", group="patient", test_fraction=0.3, split_seed=seed)
        for part in ("val", "test"):
            found = patients_of(data, part)  # type: ignore[arg-type]
            assert found & set(ways) in (set(), set(ways))


def test_a_column_of_numbers_and_a_name_that_is_a_number() -> None:
    rows = [f"{i % 4},{i // 4},{i % 2}" for i in range(40)]
    Path("table.csv").write_text("\n".join(rows) + "\n")
    data = Tabular("table.csv", "2", header=False, group=1)  # type: ignore[arg-type]
    assert patients_of(data, "train").isdisjoint(patients_of(data, "test"))
    assert data.spec.feature_names == ("0",)


@pytest.mark.parametrize("empty", ["", "NA", " "])
def test_a_row_without_a_group_is_refused_with_its_line(empty: str) -> None:
    path = patients(at_9=empty, at_11=empty)
    with pytest.raises(
        InputError, match=r"table\.csv:9: column 'patient' is empty \(2 such rows\)"
    ):
        _ = Tabular(path, "y", group="patient").train


def test_rows_that_are_left_out_need_no_group() -> None:
    path = patients(at_9="")
    lines = Path(path).read_text().splitlines()
    lines[8] = ",,yes"
    Path(path).write_text("\n".join(lines) + "\n")
    data = Tabular(path, "y", group="patient", missing="drop")
    assert data.spec.train_samples + data.spec.test_samples == ROWS * PATIENTS - 1


@pytest.mark.parametrize(
    ("group", "words"),
    [("patinet", "did you mean 'patient'"), ("y", "the target cannot split the rows")],
)
def test_another_column_is_refused(group: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _ = Tabular(patients(), "y", group=group).train


def test_too_few_groups_are_refused_with_their_number() -> None:
    with pytest.raises(
        InputError, match="2 groups in 12 training samples cannot be divided into 5"
    ):
        _ = Tabular(patients(number=3), "y", group="patient", folds=5, fold=0).train
    with pytest.raises(InputError, match="only 1 group is left"):
        _ = Tabular(patients(number=2), "y", group="patient").train


def test_patients_of_a_test_table_that_were_trained_on_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    patients("test.csv", number=4, first=18)
    data = Tabular(patients(), "y", group="patient", test_path="test.csv")
    assert data.test.samples == 4 * ROWS
    assert (
        "dataset.group=patient: 2 groups of 4 in the test set have samples in the training set too "
        "(p18, p19), so test metrics are too good for new groups" in caplog.text
    )


def test_a_test_table_without_the_column_is_used_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    Path("test.csv").write_text("x,y\n1,yes\n2,no\n")
    data = Tabular(patients(), "y", group="patient", test_path="test.csv")
    assert data.test.samples == 2
    assert "groups" not in caplog.text


def test_a_bundled_table_can_be_grouped() -> None:
    data = Tabular(source=Bundled("diabetes"), target="target", group="age", predicts="numbers")
    assert "age" not in data.spec.feature_names
    assert len(torch.cat([data.stored.train, data.stored.val, data.stored.test]).unique()) == 442


def test_a_finished_run_has_the_same_split(dltrain) -> None:
    run = ("dataset=tabular", "dataset.target=y", "model=perceptron", "callbacks=quiet")
    settings = ("dataset.group=patient", "trainer.epochs=1", "device=cpu")
    outcome = dltrain(*run, f"dataset.path={patients()}", *settings)
    assert outcome.code == 0, outcome.err
    outcome = dltrain("evaluate", "last", "split=val", "--out", "val.csv", "--json")
    assert outcome.code == 0, outcome.err
    data = Tabular("table.csv", "y", group="patient")
    rows = Path("val.csv").read_text().splitlines()[1:]
    assert sorted(row.split(",")[0] for row in rows) == sorted(data.sample_names("val"))
    Path("new.csv").write_text("x,y\n1,yes\n2,no\n")
    outcome = dltrain("evaluate", "last", "dataset.path=new.csv")
    assert outcome.code == 0, outcome.err
