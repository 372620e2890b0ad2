"""`predict --keep`: the columns of a table stay beside its predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_data import OWN_DATA

from dltrain.cli import main

BRIEF = ("trainer.epochs=1", "trainer.steps=2", "callbacks=quiet")
COLUMNS = ["id", "area", "city", "rent", "dear", "class", "class_2", "input", "top"]
ROWS = [
    ["007", "33", "Oslo", "400.50", "no", "A", "B", "here", "x"],
    ["008", "71", "Bonn", "700.5", "yes", "C", "D", "there", "y"],
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A classification, a regression, a text classification and a run of images."""
    made: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tabular", "tabular regression", "text_files jsonl", "image_folder"):
            home = tmp_path_factory.mktemp("home")
            patch.chdir(home)
            own = OWN_DATA[name]
            own.write(home)
            assert main([f"dataset={own.dataset}", *own.overrides, *BRIEF]) == 0
            made[name] = next((home / "outputs").glob("*/*"))
        yield made


def write_csv(name: str, columns: list[str] = COLUMNS, rows: list[list[str]] = ROWS) -> None:
    with Path(name).open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_parquet(name: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, list[Any]] = {"id": [7, 8], "area": [33, 71], "city": ["Oslo", "Bonn"]}
    parquet.write_table(pa.table({**columns, "rent": [400.5, 700.5]}), name)


def read(name: str) -> list[dict[str, Any]]:
    path = Path(name)
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("out", ["kept.csv", "kept.jsonl"])
def test_the_columns_of_a_csv_stay_as_they_are_written(
    out: str, runs: dict[str, Path], dltrain
) -> None:
    write_csv("new.csv")
    outcome = dltrain("predict", str(runs["tabular"]), "new.csv", "--keep", "--out", out)
    assert outcome.code == 0, outcome.err
    rows = read(out)
    for row, written in zip(rows, ROWS, strict=True):
        kept = dict(zip(COLUMNS, written, strict=True))
        for name in ("class", "class_2", "input", "top"):
            assert row[f"original_{name}"] == kept.pop(name)
        assert {name: row[name] for name in kept} == kept
        assert row["class"] in ("no", "yes")
    assert [row["input"] for row in rows] == ["new.csv:2", "new.csv:3"]


@pytest.mark.parametrize("out", ["kept.csv", "kept.jsonl"])
def test_the_columns_of_a_parquet_file_stay(out: str, runs: dict[str, Path], dltrain) -> None:
    write_parquet("new.parquet")
    run = str(runs["tabular"])
    outcome = dltrain("predict", run, "new.parquet", "--keep", "--out", out)
    assert outcome.code == 0, outcome.err
    kept = [[row[name] for name in ("id", "area", "city", "rent")] for row in read(out)]
    assert kept == [["7", "33", "Oslo", "400.5"], ["8", "71", "Bonn", "700.5"]]


def test_the_true_value_of_a_regression_stays_beside_the_predicted_one(
    runs: dict[str, Path], dltrain
) -> None:
    write_csv(
        "new.csv", ["area", "city", "rent", "dear", "top"], [["33", "Oslo", "400.5", "no", "t"]]
    )
    run = str(runs["tabular regression"])
    outcome = dltrain("predict", run, "new.csv", "--keep", "--json")
    assert outcome.code == 0, outcome.err
    (row,) = outcome.json["rows"]
    assert (row["original_rent"], row["original_top"]) == ("400.5", "t")
    assert isinstance(row["rent"], float)


def test_the_columns_of_texts_stay(runs: dict[str, Path], dltrain) -> None:
    Path("new.jsonl").write_text('{"text": "a fine film", "id": 3}\n')
    run = str(runs["text_files jsonl"])
    outcome = dltrain("predict", run, "new.jsonl", "--keep", "--out", "kept.csv")
    assert outcome.code == 0, outcome.err
    (row,) = read("kept.csv")
    assert (row["id"], row["text"], row["class"] in ("c0", "c1")) == ("3", "a fine film", True)


def test_without_the_flag_no_column_is_kept(runs: dict[str, Path], dltrain) -> None:
    write_csv("new.csv")
    assert dltrain("predict", str(runs["tabular"]), "new.csv", "--out", "plain.csv").code == 0
    columns = ["input", "class", "probability", "class_2", "probability_2"]
    assert list(read("plain.csv")[0]) == columns


def test_a_row_that_cannot_be_read_takes_no_other_rows_columns(
    runs: dict[str, Path], dltrain
) -> None:
    write_csv(
        "new.csv",
        ["id", "area", "city", "rent"],
        [["1", "big", "Oslo", "4"], ["2", "3", "Rome", "5"]],
    )
    run = str(runs["tabular"])
    outcome = dltrain("predict", run, "new.csv", "--keep", "--out", "kept.csv")
    assert outcome.code == 3
    assert [(row["id"], row["area"]) for row in read("kept.csv")] == [("2", "3")]


def test_files_of_other_columns_are_refused_in_one_csv(runs: dict[str, Path], dltrain) -> None:
    write_csv("one.csv", ["area", "city", "rent"], [["33", "Oslo", "400"]])
    write_csv("two.csv", ["area", "city", "rent", "note"], [["33", "Oslo", "400", "x"]])
    words = ("predict", str(runs["tabular"]), "one.csv", "two.csv", "--keep", "--out")
    outcome = dltrain(*words, "kept.csv")
    assert outcome.code == 3
    assert "two.csv:2 has the column 'note', which the rows before it lack" in outcome.err
    assert dltrain(*words, "kept.jsonl").code == 0
    assert [row.get("note") for row in read("kept.jsonl")] == [None, "x"]


def test_what_has_no_columns_to_keep_is_refused(runs: dict[str, Path], dltrain) -> None:
    outcome = dltrain("predict", str(runs["image_folder"]), "x.png", "--keep")
    assert (outcome.code, "--keep keeps the columns of a table" in outcome.err) == (2, True)
    outcome = dltrain("predict", str(runs["tabular"]), "split=test", "--keep")
    assert (outcome.code, "not of split=test: name the table" in outcome.err) == (2, True)
    outcome = dltrain("evaluate", str(runs["tabular"]), "--keep")
    assert (outcome.code, "--keep is a flag of `dltrain predict` only" in outcome.err) == (2, True)


def test_unseen_categories_are_counted_in_a_warning(runs: dict[str, Path], dltrain) -> None:
    write_csv("new.csv")
    outcome = dltrain("predict", str(runs["tabular"]), "new.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert "1 of 2 values in column 'city' (50%)" in outcome.out
    assert "'Bonn' (1)" in outcome.out


@pytest.mark.parametrize("name", ["few.csv", "few.parquet"])
def test_columns_that_a_file_lacks_are_one_message(
    runs: dict[str, Path], dltrain: Any, name: str
) -> None:
    if name.endswith(".csv"):
        write_csv(name, ["id", "rent"], [[str(i), "1"] for i in range(50)])
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"id": [1, 2], "rent": [1.0, 2.0]}), name)
    outcome = dltrain("predict", str(runs["tabular"]), name)
    assert outcome.code == 3
    assert f"{name}: the file lacks the columns 'area', 'city'; it has id, rent" in outcome.err
    assert outcome.err.count("lacks") == 1
