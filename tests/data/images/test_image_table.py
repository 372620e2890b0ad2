"""Images named in a table: the same as in folders, and every fault of a table by its line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from small_pictures import data as folder_data
from small_pictures import everything, lay

from dltrain.data.images.listed.image_table import ImageTable
from dltrain.errors import ConfigError, InputError

Row = tuple[str, ...]


def listed(folder: Path = Path("pets")) -> list[Row]:
    """Return a row of path and class for each picture below a folder."""
    paths = sorted(folder.rglob("*.png"))
    return [(path.relative_to(folder).as_posix(), path.parent.name) for path in paths]


def write(path: str, rows: Sequence[Row], header: Row = ("image", "label")) -> None:
    """Write a table in the format of the ending of its name."""
    if path.endswith(".parquet"):
        columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
        parquet.write_table(pa.table(columns), path)
    elif path.endswith(".jsonl"):
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        Path(path).write_text("\n".join(lines))
    else:
        with Path(path).open("w", newline="") as file:
            delimiter = "\t" if path.endswith(".tsv") else ","
            csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def table(path: str = "pets/labels.csv", **more: Any) -> ImageTable:
    return ImageTable(Path("data"), path, **more)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("memory", [True, False])
def test_a_table_is_the_folder_that_it_lists(ending: str, memory: bool) -> None:
    lay(Path("pets"), ("cat", "dog", "owl"))
    write(f"pets/labels.{ending}", listed())
    named = table(f"pets/labels.{ending}", memory=memory)
    folder = folder_data("pets", memory=memory)
    assert named.spec == folder.spec
    for part in ("train", "val", "test"):
        for own, other in zip(
            everything(getattr(named, part)), everything(getattr(folder, part)), strict=True
        ):
            assert torch.equal(own, other)
        assert list(named.sample_names(part)) == list(folder.sample_names(part))


def test_columns_of_splits_and_groups() -> None:
    lay(Path("pets"), count=12)
    rows = []
    for number, (path, name) in enumerate(listed()):
        part = ("Training", "training", "TEST", "valid")[number % 4]
        rows.append((path, name, part, f"patient {number % 6}"))
    write("pets/labels.csv", rows, ("image", "label", "subset", "patient"))
    named = table(split="subset")
    assert (named.train.samples, named.val.samples, named.test.samples) == (12, 6, 6)
    grouped = table(group="patient", test_fraction=0.3)
    patients = {f"pets/{path}": patient for path, _, _, patient in rows}
    by_part = {
        part: {patients[name] for name in grouped.sample_names(part)}
        for part in ("train", "val", "test")
    }
    assert sum(map(len, by_part.values())) == 6  # no patient is in two splits
    assert all(by_part.values())


def test_tables_of_other_splits_and_a_folder_of_images() -> None:
    lay(Path("pets"), count=8)
    rows = listed()
    write("train.csv", rows[::2])
    write("test.csv", rows[1::2])
    named = table("train.csv", test_path="test.csv", image_root="pets")
    assert (named.train.samples + named.val.samples, named.test.samples) == (8, 8)
    with pytest.raises(
        InputError, match=r"8 images that the table names are not there; dataset\.i"
    ):
        _ = table("train.csv").train.samples


FAULTS: dict[str, tuple[Callable[[list[Row]], list[Row]], str]] = {
    "a missing image": (
        lambda rows: [*rows, ("cat/gone.png", "cat")],
        r"labels\.csv:22: pets/cat/gone\.png",
    ),
    "an empty class": (
        lambda rows: [*rows[:3], (rows[3][0], " "), *rows[4:]],
        r"labels\.csv:5: the column 'label' is empty",
    ),
    "an empty path": (
        lambda rows: [("", "cat"), *rows],
        r"labels\.csv:2: the column 'image' is empty",
    ),
    "two classes of an image": (
        lambda rows: [*rows, (rows[0][0], "dog")],
        r"labels\.csv:22 and pets/labels\.csv:2 name the same image, .*different classes: dog and",
    ),
    "one class": (lambda rows: rows[:10], "has one class, cat"),
    "too many fields": (lambda rows: [*rows, ("a", "b", "c")], r"labels\.csv:22: 3 fields"),
    "no rows": (lambda rows: [], "the table has no rows"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_the_line(fault: str) -> None:
    lay(Path("pets"))
    change, message = FAULTS[fault]
    write("pets/labels.csv", change(listed()))
    with pytest.raises(InputError, match=message):
        _ = table().spec


def test_a_class_that_only_test_rows_have() -> None:
    lay(Path("pets"), ("cat", "dog", "owl"), count=4)
    rows = listed()
    write("pets/labels.csv", [row for row in rows if row[1] != "owl"])
    write("pets/test.csv", rows[-2:])
    with pytest.raises(InputError, match=r"test\.csv:2: no training image has the class 'owl'"):
        _ = table(test_path="pets/test.csv").spec


def test_settings_that_cannot_be() -> None:
    lay(Path("pets"))
    write("pets/labels.csv", [(path, f"{i / 7:.4f}") for i, (path, _) in enumerate(listed())])
    with pytest.raises(ConfigError, match="its values are numbers such as"):
        _ = table().spec
    with pytest.raises(InputError, match=r"labels\.csv:2: the field 'file' is missing"):
        _ = table(image="file").spec
    Path("pets/labels.txt").write_text("x")
    with pytest.raises(InputError, match=r"expected a csv, tsv, jsonl or parquet file"):
        _ = table("pets/labels.txt").spec
    with pytest.raises(ValueError, match="set one of both"):
        table(split="part", test_path="test.csv")
    write("pets/split.csv", [(*row, "somewhere") for row in listed()], ("image", "label", "part"))
    with pytest.raises(InputError, match=r"split\.csv:2: the column 'part' is 'somewhere'"):
        _ = table("pets/split.csv", split="part").spec


def test_images_in_a_parquet_column_are_shards() -> None:
    lay(Path("pets"), count=2)
    contents = [Path("pets", path).read_bytes() for path, _ in listed()]
    columns = {"image": contents, "label": [name for _, name in listed()]}
    parquet.write_table(pa.table(columns), "pets/labels.parquet")
    with pytest.raises(
        InputError, match=r"such files are shards, dataset=shards dataset\.path=pets"
    ):
        _ = table("pets/labels.parquet").spec


def test_an_image_that_is_named_twice_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    lay(Path("pets"))
    write("pets/labels.csv", [*listed(), listed()[0]])
    named = table()
    named.find_files()
    assert named.spec.train_samples + named.spec.test_samples == 20
    assert "labels.csv:22 (as pets/labels.csv:2)" in caplog.text


def test_numbers_are_classes_in_their_order() -> None:
    lay(Path("pets"), ("cat", "dog", "owl"), count=4)
    number = {"cat": "10", "dog": "9", "owl": "2.0"}
    write("pets/labels.csv", [(path, number[name]) for path, name in listed()])
    assert table().spec.class_names == ("2", "9", "10")


def test_a_run_scores_another_table_by_its_own_classes(dltrain: Callable[..., Any]) -> None:
    lay(Path("pets"), ("cat", "dog", "owl"))
    write("pets/labels.csv", listed())
    words = ("dataset=image_table", "dataset.path=pets/labels.csv", "model=mlp")
    outcome = dltrain(*words, "callbacks=quiet", "trainer.epochs=1", "--json")
    assert outcome.code == 0, outcome.err
    write("pets/other.csv", [row for row in listed() if row[1] != "cat"])
    scored = dltrain("evaluate", "last", "dataset.path=pets/other.csv", "--json")
    assert scored.code == 0, scored.err
    assert 0 <= scored.json["metrics"]["test/accuracy"] <= 1
    predicted = dltrain("predict", "last", "pets/owl/000.png", "--json")
    assert predicted.code == 0, predicted.err
