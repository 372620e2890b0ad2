"""Lint finds the faults that were planted in a data set, and nothing in clean ones."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Rows = list[dict[str, str]]
Row = tuple[str | float, ...]


@pytest.fixture
def found(dltrain: Callable[..., Any]) -> Callable[..., Rows]:
    """Return the places that lint names in a data set."""

    def run(*words: str) -> Rows:
        outcome = dltrain("check", "--data", "--json", *words)
        assert outcome.code == 0, outcome.err
        rows: Rows = outcome.json["data"]["lint"]
        return rows

    return run


def kinds(rows: Rows) -> set[str]:
    """Return the kinds of findings."""
    return {row["finding"] for row in rows}


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write a table of the columns a, b, c and the class or number y."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "y"])
        writer.writerows(rows)
    return path


def clean_rows(count: int = 400, seed: int = 0) -> list[Row]:
    """Return rows of noise with classes that depend on it."""
    numbers = np.random.default_rng(seed).normal(size=(count, 4))
    return [
        (round(a, 4), round(b, 4), "red" if c > 0 else "blue", "yes" if a + b + d > 0 else "no")
        for a, b, c, d in numbers.tolist()
    ]


TABLE = ("dataset=tabular", "dataset.target=y", "model=tabular_mlp")


@pytest.mark.parametrize("name", ["digits", "wine", "diabetes", "synthetic"])
def test_clean_sets_have_no_findings(name: str, found: Callable[..., Rows]) -> None:
    words = ["task=regression", "loss=mse"] if name == "diabetes" else []
    assert found(f"dataset={name}", *words) == []


def test_a_clean_table_has_no_findings(found: Callable[..., Rows]) -> None:
    path = write_table(Path("clean.csv"), clean_rows())
    assert found(*TABLE, f"dataset.path={path}") == []


def test_copies_and_conflicts_of_rows(found: Callable[..., Rows]) -> None:
    rows = clean_rows()
    test = clean_rows(100, seed=1)
    a, b, c, y = rows[7]
    other = {"yes": "no", "no": "yes"}[str(y)]
    train = write_table(Path("train.csv"), [*rows, (a, b, c, y), (*rows[9][:3], other_of(rows[9]))])
    held = write_table(Path("test.csv"), [*test, (a, b, c, other)])
    places = found(
        *TABLE, f"dataset.path={train}", f"dataset.test_path={held}", "dataset.val_fraction=0"
    )
    assert kinds(places) == {"in test and train", "copies in train", "conflicting targets"}
    by_kind = {kind: [row for row in places if row["finding"] == kind] for kind in kinds(places)}
    assert [(row["place"], row["other"]) for row in by_kind["in test and train"]] == [
        ("test.csv:102", "train.csv:9")
    ]
    assert [(row["place"], row["other"]) for row in by_kind["copies in train"]] == [
        ("train.csv:402", "train.csv:9"),
        ("train.csv:403", "train.csv:11"),
    ]
    assert {row["place"] for row in by_kind["conflicting targets"]} == {
        "test: test.csv:102",
        "train: train.csv:403",
    }


def other_of(row: Row) -> str:
    """Return the class that a row does not have."""
    return "no" if row[3] == "yes" else "yes"


def test_columns_that_say_nothing_or_too_much(found: Callable[..., Rows]) -> None:
    rows = [
        (i + 0.5 if y == "yes" else -i - 0.5, 3, c, y)
        for i, (_, _, c, y) in enumerate(clean_rows())
    ]
    path = write_table(Path("leak.csv"), rows)
    places = found(*TABLE, f"dataset.path={path}")
    assert ("constant column", "b") in {(row["finding"], row["place"]) for row in places}
    assert ("leaking column", "a") in {(row["finding"], row["place"]) for row in places}
    assert "c" not in {row["place"] for row in places}


def test_a_column_that_is_the_number_to_predict(found: Callable[..., Rows]) -> None:
    numbers = np.random.default_rng(0).normal(size=(400, 3)).round(4).tolist()
    rows = [(a, 2 * (a + b) + 1, "red" if c > 0 else "blue", a + b) for a, b, c in numbers]
    path = write_table(Path("leak.csv"), rows)
    words = (*TABLE, f"dataset.path={path}", "task=regression", "loss=mse")
    places = found(*words)
    assert [(row["finding"], row["place"]) for row in places] == [("leaking column", "b")]


def test_rows_that_differ_between_splits(found: Callable[..., Rows]) -> None:
    train = write_table(Path("train.csv"), clean_rows())
    moved = [(a + 2, b, c, "yes") for a, b, c, _ in clean_rows(200, seed=3)]  # type: ignore[operator]
    held = write_table(Path("test.csv"), [*moved, (9.0, 9.0, "red", "no")])
    places = found(*TABLE, f"dataset.path={train}", f"dataset.test_path={held}")
    assert ("drift in test", "a") in {(row["finding"], row["place"]) for row in places}
    assert "class drift in test" in kinds(places)
    assert ("drift in test", "b") not in {(row["finding"], row["place"]) for row in places}


def scene(seed: int) -> Image.Image:
    """Return a picture (48, 48) of smooth noise, as photographs are."""
    small = np.random.default_rng(seed).uniform(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC)


def lay_scenes(folder: Path, count: int = 12) -> Path:
    """Write pictures of two classes into folders for training and testing."""
    for part, start in (("train", 0), ("test", 1000)):
        for k, name in enumerate(("cat", "dog")):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count):
                scene(start + 100 * k + i).save(place / f"{i:03}.png")
    return folder


IMAGES = ("dataset=image_folder", "dataset.image_size=32", "dataset.val_fraction=0")


@pytest.mark.parametrize("memory", ["true", "false"])
def test_copies_of_images(memory: str, found: Callable[..., Rows]) -> None:
    folder = lay_scenes(Path("pets"))
    shutil.copy(folder / "train/cat/000.png", folder / "test/cat/copy.png")
    shutil.copy(folder / "train/cat/001.png", folder / "train/dog/copy.png")
    with Image.open(folder / "train/dog/002.png") as image:
        image.save(folder / "test/dog/again.jpg", quality=80)
        image.resize((64, 64), Image.Resampling.BICUBIC).save(folder / "test/dog/larger.png")
    words = (*IMAGES, f"dataset.path={folder}", f"dataset.memory={memory}")
    places = found(*words)
    pairs = {(row["finding"], Path(row["place"]).name, Path(row["other"]).name) for row in places}
    assert ("in test and train", "copy.png", "000.png") in pairs
    assert ("copies in train", "copy.png", "001.png") in pairs
    conflict = [row for row in places if row["finding"] == "conflicting targets"]
    assert [row["detail"] for row in conflict] == ["dog and cat"]
    near = {other for kind, other, _ in pairs if kind == "nearly equal"}
    assert near == {"again.jpg", "larger.png"}


def test_rare_classes(found: Callable[..., Rows]) -> None:
    for k, (name, count) in enumerate({"cat": 120, "dog": 5}.items()):
        place = Path("pets", name)
        place.mkdir(parents=True)
        for i in range(count):
            scene(200 * k + i).save(place / f"{i:03}.png")
    places = found("dataset=image_folder", "dataset.image_size=32", "dataset.path=pets")
    assert [(row["finding"], row["place"]) for row in places] == [("few samples", "dog")]


def test_images_of_one_color_are_not_nearly_equal(found: Callable[..., Rows]) -> None:
    for name in ("cat", "dog"):
        place = Path("plain", name)
        place.mkdir(parents=True)
        for i in range(15):
            color = (10 * i, 5 * i + (name == "dog"), 100)
            Image.new("RGB", (16, 16), color).save(place / f"{i}.png")
    places = found("dataset=image_folder", "dataset.path=plain")
    assert kinds(places) == set()


def words_of(seed: int) -> str:
    """Return a text of random words."""
    generator = np.random.default_rng(seed)
    return " ".join(generator.choice(["warm", "cold", "film", "plot", "long", "fine"], 12))


def texts() -> Iterator[tuple[str, str]]:
    """Yield texts and their classes."""
    for seed in range(120):
        yield words_of(seed), "good" if seed % 2 else "bad"


def test_copies_of_texts(found: Callable[..., Rows]) -> None:
    rows = [*texts(), (words_of(4), "good")]
    with Path("texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    words = ("dataset=text_files", "dataset.path=texts.csv", "model=fasttext")
    places = found(*words, "dataset.val_fraction=0", "dataset.test_fraction=0")
    assert kinds(places) == {"copies in train", "conflicting targets"}


def test_the_screen_has_a_line_for_each_finding(dltrain: Callable[..., Any]) -> None:
    rows = clean_rows()
    write_table(Path("rows.csv"), [*rows, *[rows[0]] * 30])
    outcome = dltrain("check", "--data", *TABLE, "dataset.path=rows.csv")
    assert outcome.code == 0
    assert "rows of test are in train too" in outcome.out
    assert "(10 of a finding; --json has all)" in outcome.out
