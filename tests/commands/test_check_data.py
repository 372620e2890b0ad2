"""`dltrain check`: absent files are a problem, and --data reports the content of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_pictures import lay

ABSENT = {
    "image_folder": ("dataset.path=null", "dataset.path=gone"),
    "text_files": ("dataset.path=null", "dataset.path=gone"),
    "language_modeling": ("dataset.path=null", "dataset.path=gone"),
    "words": ("dataset.source.path=null", "dataset.source.path=gone"),
    "translation": ("dataset.pairs.source=null", "dataset.pairs.source=gone"),
}


@pytest.mark.parametrize("dataset", ABSENT)
def test_check_says_that_no_file_is_named_or_that_it_is_absent(
    dataset: str, dltrain: Callable[..., Any]
) -> None:
    """Exit 2 if no file is named, exit 3 if a named one is absent, as in training."""
    unset, gone = ABSENT[dataset]
    outcome = dltrain("check", f"dataset={dataset}")
    assert (outcome.code, unset in outcome.err) == (2, True), outcome.err
    more = ("dataset.pairs.target=gone",) if dataset == "translation" else ()
    outcome = dltrain("check", f"dataset={dataset}", gone, *more)
    assert (outcome.code, "gone" in outcome.err) == (3, True), outcome.err
    assert "no problems" not in outcome.out


def test_check_data_counts_the_samples_of_each_class_in_each_split(
    dltrain: Callable[..., Any],
) -> None:
    """On the screen and in --json; nothing is trained or written."""
    lay(Path("pets/train"), ("cat", "dog"), count=8)
    lay(Path("pets/val"), ("cat", "dog"), count=3)
    lay(Path("pets/test"), ("dog",), count=2)
    chosen = ("dataset=image_folder", "dataset.path=pets", "model=mlp")
    outcome = dltrain("check", "--data", *chosen, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["data"]["samples"] == [
        {"split": "train", "samples": 16},
        {"split": "val", "samples": 6},
        {"split": "test", "samples": 2},
    ]
    assert outcome.json["data"]["classes"] == [
        {"class": "cat", "train": 8, "val": 3, "test": 0},
        {"class": "dog", "train": 8, "val": 3, "test": 2},
    ]
    assert "the test split has no sample of cat" in outcome.out
    assert any(
        "the test split has no sample of cat" in line for line in outcome.json["data"]["warnings"]
    )
    assert "data" not in dltrain("check", *chosen, "--json").json
    assert not Path("outputs").exists()


def test_check_data_fails_where_training_fails(dltrain: Callable[..., Any]) -> None:
    """With the same exit code and message; without --data only headers are read."""
    lay(Path("pets"))
    for path in Path("pets/dog").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    chosen = ("dataset=image_folder", "dataset.path=pets", "model=mlp")
    assert dltrain("check", *chosen).code == 0
    checked, trained = dltrain("check", "--data", *chosen), dltrain("train", *chosen)
    assert (checked.code, trained.code) == (3, 3)
    assert checked.err == trained.err
    assert "no image is left of dog" in checked.err


def test_check_data_of_made_up_and_of_tabular_data(dltrain: Callable[..., Any]) -> None:
    """Any data set has counts; one that acts in an environment has no batches to read."""
    outcome = dltrain("check", "--data", "model=mlp", "dataset=digits", "--json")
    assert [row["samples"] for row in outcome.json["data"]["samples"]] == [1295, 143, 359]
    Path("t.csv").write_text(
        "a,b\n" + "".join(f"{i},{'xy'[i % 2]}\n" for i in range(40)), encoding="utf-8"
    )
    outcome = dltrain(
        "check",
        "--data",
        "dataset=tabular",
        "dataset.path=t.csv",
        "dataset.target=b",
        "model=mlp",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    assert [row["class"] for row in outcome.json["data"]["classes"]] == ["x", "y"]
    assert dltrain("check", "--data", "experiment=qlearning_cliffwalking").code == 0
    assert json.dumps(outcome.json["data"])


def test_data_is_a_flag_of_check_alone(dltrain: Callable[..., Any]) -> None:
    assert "check" in dltrain("train", "--data").err
