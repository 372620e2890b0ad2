"""`evaluate --out`: a row for each sample, with its file or line and its loss, for every family."""

from __future__ import annotations

import csv
import json
import math
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_data import OWN_DATA

BRIEF = ("trainer.epochs=1", "trainer.steps=3", "callbacks=quiet", "paths.data=data")
# Kinds without a loss of a single sample.
WITHOUT = ("words", "words fasttext", "image_folder dcgan")
SCORED = [name for name in OWN_DATA if name not in WITHOUT]
MORE = {"image_folder dbn": ("task.pretrain_epochs=0",)}
IN_BLOCKS = ("language_modeling", "language_modeling streamed")  # their samples are no files


def train(name: str, dltrain: Callable[..., Any], *more: str) -> None:
    """Train a run on the data of a kind, here."""
    own = OWN_DATA[name]
    own.write(Path())
    outcome = dltrain(f"dataset={own.dataset}", *own.overrides, *BRIEF, *more)
    assert outcome.code == 0, outcome.err


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of lines of JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def mean_loss(rows: list[dict[str, Any]]) -> float:
    """The mean of the column loss, weighted by the column weight where there is one."""
    weights = [row.get("weight", 1) for row in rows]
    total = sum(row["loss"] * weight for row, weight in zip(rows, weights, strict=True))
    return float(total / sum(weights))


def exists(place: str) -> bool:
    """Return whether a name is a file, a line of a file, or a member of a shard."""
    shard, _, member = place.rpartition("/")
    if shard.endswith(".tar"):
        with tarfile.open(Path("packed", shard)) as archive:
            return member in archive.getnames()
    path, _, line = place.rpartition(":")
    if line.isdecimal():
        return 1 <= int(line) <= len(Path(path).read_text().splitlines())
    return Path(place).is_file()


@pytest.mark.parametrize("name", SCORED)
def test_the_mean_of_the_rows_is_the_loss_that_is_reported(
    name: str, dltrain: Callable[..., Any]
) -> None:
    """Every sample is there once, by its file or line, and the greatest loss comes first."""
    train(name, dltrain, *MORE.get(name, ()))
    outcome = dltrain("evaluate", "last", "--out", "rows.jsonl", "--json")
    assert outcome.code == 0, outcome.err
    rows = rows_of(Path("rows.jsonl"))
    assert mean_loss(rows) == pytest.approx(outcome.json["metrics"]["test/loss"], rel=1e-4)
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert outcome.json["samples"] == len(rows)
    names = [row["input"] for row in rows]
    assert len(set(names)) == len(names)
    if name not in IN_BLOCKS:
        assert all(map(exists, names)), names[0]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("image_folder", lambda place: Path(place).parent.name),
        ("image_folder streamed", lambda place: Path(place).parent.name),
        ("shards", lambda place: place.rpartition("/")[2].split("_")[1]),
        ("text_files", lambda place: Path(place).parent.name),
        ("text_files jsonl", lambda place: json.loads(line_at(place))["label"]),
        ("tabular", lambda place: line_at(place).split(",")[3]),
    ],
)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_row_is_that_of_the_file_or_line_that_it_names(
    name: str, label: Callable[[str], str], split: str, dltrain: Callable[..., Any]
) -> None:
    """Also of the shuffled training split and of balanced draws, and as `predict` names them."""
    train(name, dltrain, "dataset.balance=sampler")
    outcome = dltrain("evaluate", "last", f"split={split}", "--out", "rows.csv", "--json")
    assert outcome.code == 0, outcome.err
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(label(row["input"]) == row["label"] for row in rows)
    right = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
    assert right == pytest.approx(outcome.json["metrics"][f"{split}/accuracy"])
    if split != "train":
        predicted = dltrain("predict", "last", f"split={split}", "--out", "p.jsonl")
        assert predicted.code == 0, predicted.err
        by_name = {row["input"]: row["class"] for row in rows_of(Path("p.jsonl"))}
        assert by_name == {row["input"]: row["prediction"] for row in rows}


def line_at(place: str) -> str:
    """The line of a file that a place such as flats.csv:12 names."""
    path, _, number = place.rpartition(":")
    return Path(path).read_text().splitlines()[int(number) - 1]


def test_a_forecast_names_the_line_of_the_value_after_its_window(
    dltrain: Callable[..., Any],
) -> None:
    train("timeseries", dltrain)
    assert dltrain("evaluate", "last", "--out", "rows.jsonl").code == 0
    rows = rows_of(Path("rows.jsonl"))
    for row in rows:
        assert float(line_at(row["input"]).split(",")[1]) == pytest.approx(row["label"], abs=1e-3)


def test_a_number_of_a_table_is_the_target_of_its_line(dltrain: Callable[..., Any]) -> None:
    train("tabular regression", dltrain)
    assert dltrain("evaluate", "last", "--out", "rows.jsonl").code == 0
    for row in rows_of(Path("rows.jsonl")):
        assert float(line_at(row["input"]).split(",")[2]) == pytest.approx(row["label"], rel=1e-5)
        assert row["prediction"] == pytest.approx(float(row["prediction"]))


def test_published_data_has_set_and_number(dltrain: Callable[..., Any]) -> None:
    run = ("model=perceptron", "dataset=digits", "trainer.steps=3", "callbacks=quiet")
    assert dltrain(*run).code == 0
    for split, origin in (("test", "digits/test/"), ("val", "digits/train/")):
        assert dltrain("evaluate", "last", f"split={split}", "--out", "rows.jsonl").code == 0
        names = [row["input"] for row in rows_of(Path("rows.jsonl"))]
        assert all(name.startswith(origin) for name in names)
        assert len(set(names)) == len(names)


def test_the_worst_samples_are_printed(dltrain: Callable[..., Any]) -> None:
    train("image_folder", dltrain)
    everything = dltrain("evaluate", "last", "--out", "rows.jsonl", "--worst", "2", "--json")
    worst = rows_of(Path("rows.jsonl"))[:2]
    assert everything.json["worst"] == worst
    assert all(row["input"] in everything.out for row in worst)
    alone = dltrain("evaluate", "last", "--worst", "2", "--json")
    assert alone.json["worst"] == worst, "without a file too"
    assert "out" not in alone.json


def test_class_weights_are_a_column_and_count_in_the_mean(dltrain: Callable[..., Any]) -> None:
    train("tabular", dltrain, "loss.class_weights=[1,5]")
    outcome = dltrain("evaluate", "last", "--out", "rows.jsonl", "--json")
    rows = rows_of(Path("rows.jsonl"))
    assert {row["weight"] for row in rows} == {1, 5}
    assert mean_loss(rows) == pytest.approx(outcome.json["metrics"]["test/loss"], rel=1e-5)
    unweighted = sum(row["loss"] for row in rows) / len(rows)
    assert unweighted != pytest.approx(outcome.json["metrics"]["test/loss"], rel=1e-4)


def test_the_rows_are_means_over_views_too(dltrain: Callable[..., Any]) -> None:
    train("image_folder", dltrain)
    losses = {}
    for views in ("", "flip"):
        outcome = dltrain("evaluate", "last", f"tta={views}", "--out", "rows.jsonl", "--json")
        assert outcome.code == 0, outcome.err
        losses[views] = mean_loss(rows_of(Path("rows.jsonl")))
        assert losses[views] == pytest.approx(outcome.json["metrics"]["test/loss"], rel=1e-5)
    assert losses[""] != losses["flip"]


def test_a_parquet_file_has_the_same_rows(dltrain: Callable[..., Any]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    train("tabular", dltrain)
    assert dltrain("evaluate", "last", "--out", "rows.jsonl").code == 0
    assert dltrain("evaluate", "last", "--out", "rows.parquet").code == 0
    assert parquet.read_table("rows.parquet").to_pylist() == rows_of(Path("rows.jsonl"))


@pytest.mark.parametrize("name", ["words", "image_folder dcgan"])
def test_a_task_without_a_loss_of_a_sample_says_so(name: str, dltrain: Callable[..., Any]) -> None:
    train(name, dltrain)
    outcome = dltrain("evaluate", "last", "split=train", "--out", "rows.csv")
    assert outcome.code == 2
    assert "has no loss of a single sample" in outcome.err
    assert not Path("rows.csv").exists()


def test_a_stage_without_a_loss_of_a_sample_says_so(dltrain: Callable[..., Any]) -> None:
    """The run ends while its first RBM is trained."""
    train("image_folder dbn", dltrain)
    outcome = dltrain("evaluate", "last", "--worst", "3")
    assert outcome.code == 2
    assert "the stage rbm_1 has no loss of a single sample" in outcome.err


def test_the_lines_of_a_long_table_are_read_once(tmp_path: Path) -> None:
    """Names of 20,000 rows, of which each would take longer than the one before it."""
    from dltrain.data.tabular.tabular import Tabular

    path = tmp_path / "long.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(20_000)))
    data = Tabular(str(path), "y", test_fraction=0.5)
    start = time.process_time()
    names = list(data.sample_names("test"))
    assert time.process_time() - start < 5
    assert len(names) == 10_000
    assert names[-1] == f"{path}:{int(data.test.rows[-1]) + 2}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "rows.txt"), "expected a name that ends in .csv or .jsonl or .parquet"),
        (("--out", "nowhere/rows.csv"), "there is no folder nowhere"),
        (("--worst", "0"), "--worst 0: expected a whole number from 1"),
        (("--worst", "many"), "--worst many: expected a whole number from 1"),
    ],
)
def test_wrong_flags_are_refused(
    arguments: tuple[str, ...], message: str, dltrain: Callable[..., Any]
) -> None:
    train("tabular", dltrain)
    outcome = dltrain("evaluate", "last", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_loss_that_is_not_a_number_comes_first(tmp_path: Path) -> None:
    from dltrain.runs.sample_scores import worst, worst_first

    rows = [{"loss": loss} for loss in (1.0, math.nan, 3.0, 2.0)]
    with (tmp_path / "spool").open("w+b") as spool:
        ordered = list(worst_first(iter(rows), spool))
    assert ordered == [{"loss": None}, {"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}]
    assert [row["loss"] for row in worst(iter(rows), 3)][1:] == [3.0, 2.0]
