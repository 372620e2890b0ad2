"""Messages about splits: the rule by which a test split was made, one that is empty, and classes
that it lacks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dltrain.data.detection.dataset import DetectionDataset
from dltrain.data.detection.yolo import YOLO
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.tabular.tabular import Tabular
from dltrain.data.tabular.timeseries import TimeSeries
from dltrain.data.text.language import LanguageModeling
from dltrain.data.text.pairs import ParallelFiles
from dltrain.data.text.prose import ProseFiles
from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.data.text.translation import Translation
from dltrain.data.text.words import WordFiles, Words
from dltrain.report.splits import empty_splits, sizes

pytest.importorskip("pyarrow")
HERE = Path()


def lines(name: str, rows: list[str]) -> str:
    Path(name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return name


def rows_of(count: int, classes: int = 2) -> list[str]:
    return [f"{i},word{i % 7} and {i},class{i % classes}" for i in range(count)]


def table(count: int, **settings: Any) -> Tabular:
    return Tabular(
        lines("table.csv", ["x,text,y", *rows_of(count)]), "y", ignore=("text",), **settings
    )


def texts(count: int, **settings: Any) -> Text:
    path = lines("texts.csv", ["x,text,label", *rows_of(count)])
    return Text(HERE, LabeledTextFiles(HERE, path), **settings)


def series(count: int, **settings: Any) -> TimeSeries:
    return TimeSeries(
        lines("series.csv", ["x", *(str(i % 9) for i in range(count))]), window=2, **settings
    )


def pairs(count: int, **settings: Any) -> Translation:
    sides = [lines(name, [f"word{i % 7} {i}" for i in range(count)]) for name in ("a.txt", "b.txt")]
    return Translation(HERE, ParallelFiles(HERE, *sides), tokenizer="word", **settings)


def prose(count: int, **settings: Any) -> LanguageModeling:
    path = lines("prose.txt", ["some words to write with"] * count)
    return LanguageModeling(HERE, ProseFiles(HERE, path), length=2, **settings)


def words(count: int, **settings: Any) -> Words:
    text = lines("words.txt", ["some words to learn from"] * count)
    return Words(HERE, WordFiles(HERE, text), min_count=1, sample=0, **settings)


def images(count: int, **settings: Any) -> ImageFolder:
    for i in range(count):
        place = Path(f"images/class{i % 2}/{i}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(place)
    return ImageFolder(HERE, "images", channels=1, **settings)


def boxes(count: int, **settings: Any) -> DetectionDataset:
    for folder in ("images/train", "labels/train"):
        Path("yolo", folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(f"yolo/images/train/{i}.png")
        Path(f"yolo/labels/train/{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    lines("yolo/classes.txt", ["thing"])
    return DetectionDataset(YOLO(HERE, "yolo", image_size=32), **settings)


FAMILIES: dict[str, tuple[Callable[..., Any], str]] = {
    "table": (table, "25 % of the rows of each class, chosen with dataset.split_seed=0"),
    "texts": (texts, "25 % of the texts of each class, chosen with dataset.split_seed=0"),
    "series": (series, "the last 25 % of the series, dataset.test_fraction"),
    "pairs": (pairs, "25 % of the pairs, chosen with dataset.split_seed=0"),
    "prose": (prose, "the last 25 % of the text, dataset.test_fraction"),
    "words": (words, "25 % of the documents, chosen with dataset.split_seed=0"),
    "images": (images, "25 % of the images of each class, chosen with dataset.split_seed=0"),
    "boxes": (boxes, "25 % of the images, chosen with dataset.split_seed=0"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rule_of_a_test_split_is_reported(family: str) -> None:
    make, rule = FAMILIES[family]
    data = make(80, test_fraction=0.25, val_fraction=0.25)
    assert sizes(data) == (
        f"{data.train.samples:,} training, {data.val.samples:,} validation and "
        f"{data.test.samples:,} test samples ({rule})"
    )
    assert data.test.samples
    assert empty_splits(data, {"test_fraction": 0.25, "val_fraction": 0.25}) == []


def test_a_test_set_of_the_data_has_no_rule() -> None:
    lines("test.csv", ["x,text,y", *rows_of(8)])
    assert sizes(table(40, test_path="test.csv")).endswith("and 8 test samples")
    images(40)
    for part in ("train", "test"):
        shutil.copytree("images", f"parted/{part}")
    assert sizes(ImageFolder(HERE, "parted", channels=1)).endswith("and 40 test samples")


@pytest.mark.parametrize("family", ["table", "texts", "series", "pairs", "words", "boxes"])
def test_an_empty_split_is_reported_only_if_it_was_wanted(family: str) -> None:
    """A message names the key where there are too few samples for a test or a validation split."""
    wanted = {"test_fraction": 0.1, "val_fraction": 0.1}
    messages = empty_splits(FAMILIES[family][0](4, **wanted), wanted)
    assert [message.split(" leaves no")[0] for message in messages] == [
        "dataset.val_fraction=0.1",
        "dataset.test_fraction=0.1",
    ]
    assert "no test samples" in messages[1]
    unwanted = {"test_fraction": 0.0, "val_fraction": 0.0}
    assert empty_splits(FAMILIES[family][0](4, **unwanted), unwanted) == []


@pytest.mark.parametrize("family", ["prose", "images"])
def test_too_small_data_is_refused(family: str) -> None:
    from dltrain.errors import InputError

    with pytest.raises(InputError):
        _ = FAMILIES[family][0](1, test_fraction=0.1, val_fraction=0.1).test.samples


def test_classes_without_a_test_sample_are_named() -> None:
    path = lines(
        "rare.csv", ["x,y", *(f"{i},{'rare' if i % 20 == 0 else 'ab'[i % 2]}" for i in range(40))]
    )
    messages = empty_splits(Tabular(path, "y", test_fraction=0.2), {"test_fraction": 0.2})
    assert len(messages) == 1
    assert messages[0].startswith(
        "1 of 3 classes have no test sample, so no test metric covers them: rare;"
    )


def test_the_opening_line_and_the_warning_of_a_run(dltrain) -> None:
    table(40)
    on_it = (
        "dataset=tabular",
        "dataset.path=table.csv",
        "dataset.target=y",
        "dataset.ignore=[text]",
    )
    quick = ("trainer.epochs=1", "callbacks=quiet")
    outcome = dltrain(*on_it, *quick)
    assert (
        "8 test samples (20 % of the rows of each class, chosen with dataset.split_seed=0)"
        in outcome.out
    )
    table(4)
    outcome = dltrain(*on_it, *quick)
    assert outcome.code == 0, outcome.err
    assert "and no test samples, batch" in outcome.out
    assert (
        "dataset.test_fraction=0.2 leaves no test samples, so there are no test metrics"
        in outcome.out + outcome.err
    )


def test_large_data_with_few_samples_per_class_is_not_called_small() -> None:
    """300 rows of 100 classes: a tenth of three samples rounds to 0."""
    path = lines("classes.csv", ["x,y", *(f"{i},c{i % 100}" for i in range(300))])
    (message,) = empty_splits(
        Tabular(path, "y", test_fraction=0.2, val_fraction=0.1), {"val_fraction": 0.1}
    )
    assert message.endswith(
        "the fraction is taken of each of 100 classes, which have 2.0 training samples on average"
    )


def test_check_says_that_a_split_is_empty(dltrain) -> None:
    table(4)
    on_it = (
        "dataset=tabular",
        "dataset.path=table.csv",
        "dataset.target=y",
        "dataset.ignore=[text]",
    )
    found = dltrain("check", "--data", *on_it, "--json").json["data"]["warnings"]
    empty = [warning.split(" leaves no")[0] for warning in found if " leaves no" in warning]
    assert empty == ["dataset.val_fraction=0.1", "dataset.test_fraction=0.2"]
