"""Texts of one author or page stay on one side of every split, in folders and in tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.errors import ConfigError, InputError

AUTHORS = 12


def grouped(root: Path, group: str | None, path: str = "texts", **settings: Any) -> Text:
    paths = {key: settings.pop(key) for key in ("val_path", "test_path") if key in settings}
    source = LabeledTextFiles(root, str(root / path), group=group, **paths)
    return Text(root, source, **settings)


def rows_of(number: int = AUTHORS, first: int = 0) -> list[dict[str, str]]:
    """Three texts of every author."""
    return [
        {"text": f"word {i} of a text", "label": "ab"[i % 2], "author": f"w{first + i % number}"}
        for i in range(3 * number)
    ]


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


def folder(root: Path, number: int = AUTHORS) -> None:
    """Texts in files such as texts/a/w7_1.txt."""
    for label in ("a", "b"):
        (root / "texts" / label).mkdir(parents=True)
        for author in range(number):
            for i in range(3):
                path = root / "texts" / label / f"w{author}_{i}.txt"
                path.write_text(f"word {i} of {label}")


def authors_of(data: Text, part: Any) -> set[str]:
    """The authors with a text in a split, by the names of the files or the lines of the table."""
    authors = set()
    for name in data.sample_names(part):
        if name.endswith(".txt"):
            authors.add(Path(name).stem.partition("_")[0])
            continue
        path, _, line = name.rpartition(":")
        text = Path(path).read_text().splitlines()[int(line) - 1]
        authors.add("w" + text.rpartition("w")[2].strip('"}'))
    return authors


@pytest.mark.parametrize(
    ("kind", "group"), [("csv", "author"), ("jsonl", "author"), ("folder", "prefix")]
)
def test_an_author_is_on_one_side_of_every_split(kind: str, group: str, tmp_path: Path) -> None:
    name = "texts"
    if kind == "folder":
        folder(tmp_path)
    else:
        name = table(tmp_path / f"texts.{kind}", rows_of()).name
    settings = {"test_fraction": 0.25, "val_fraction": 0.25}
    data = grouped(tmp_path, group, name, **settings)
    parts = [authors_of(data, part) for part in ("train", "val", "test")]
    assert sorted(map(len, parts)) == [2, 3, 7]
    assert len(set.union(*parts)) == AUTHORS
    plain = grouped(tmp_path, None, name, **settings)
    assert authors_of(plain, "train") & authors_of(plain, "test")


def test_each_author_is_in_one_fold(tmp_path: Path) -> None:
    table(tmp_path / "texts.csv", rows_of())
    held: list[str] = []
    for fold in range(3):
        data = grouped(tmp_path, "author", "texts.csv", folds=3, fold=fold, test_fraction=0.0)
        assert authors_of(data, "val").isdisjoint(authors_of(data, "train"))
        held += data.sample_names("val")
    assert len(set(held)) == len(held) == 3 * AUTHORS


def test_authors_of_a_test_file_that_were_trained_on_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(tmp_path / "texts.csv", rows_of())
    test = table(tmp_path / "test.csv", rows_of(4, first=10))
    data = grouped(tmp_path, "author", "texts.csv", test_path=str(test))
    assert data.test.samples == 12
    assert (
        "dataset.group=author: 2 groups of 4 in the test set have samples in the training set too "
        "(w10, w11), so test metrics are too good for new groups" in caplog.text
    )


def test_a_test_file_without_the_column_is_used_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(tmp_path / "texts.csv", rows_of())
    test = table(tmp_path / "test.csv", [{"text": "a word", "label": "a"}])
    assert grouped(tmp_path, "author", "texts.csv", test_path=str(test)).test.samples == 1
    assert "the test set" not in caplog.text


def test_texts_without_a_group_are_refused_by_name(tmp_path: Path) -> None:
    rows = rows_of()
    rows[3]["author"] = ""
    table(tmp_path / "texts.csv", rows)
    with pytest.raises(InputError, match=r"texts\.csv:5: the field 'author' is empty"):
        _ = grouped(tmp_path, "author", "texts.csv").train
    with pytest.raises(InputError, match=r"texts\.csv:2: the field 'writer' is missing"):
        _ = grouped(tmp_path, "writer", "texts.csv").train
    folder(tmp_path)
    (tmp_path / "texts/a/extra.txt").write_text("one more")
    with pytest.raises(InputError, match=r"texts/a/extra\.txt: dataset.group=prefix finds no"):
        _ = grouped(tmp_path, "prefix").train
    with pytest.raises(ConfigError, match="has 0 groups in parentheses"):
        _ = grouped(tmp_path, "[0-9]").train


def test_published_texts_have_no_groups(dltrain) -> None:
    outcome = dltrain("check", "dataset=mr", "dataset.group=author")
    assert outcome.code == 2
    assert "dataset.group" in outcome.err


def test_folds_of_texts_with_a_validation_file_are_refused(tmp_path: Path) -> None:
    """They would all be validated on the same texts."""
    table(tmp_path / "texts.csv", rows_of())
    val = str(table(tmp_path / "val.csv", rows_of(4)))
    with pytest.raises(InputError, match=r"dataset.folds=3 .* comes with a validation set"):
        _ = grouped(tmp_path, None, "texts.csv", val_path=val, folds=3, fold=0).train
    assert grouped(tmp_path, None, "texts.csv", val_path=val).val.samples == 12
