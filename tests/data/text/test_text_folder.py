"""Folders of texts: files with any ending, files that are left out, splits by their usual names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dltrain.data.text.language import LanguageModeling
from dltrain.data.text.prose import ProseFiles
from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.data.text.words import WordFiles
from dltrain.errors import InputError

WORDS = {"a": "good film", "b": "bad film", "c": "long book", "d": "short book"}


def lay(root: str, classes: str = "abcd", endings: str = ".txt", count: int = 12) -> Path:
    """Write `count` texts of each class, those of the k-th with the k-th of the `endings`."""
    each = endings.split(",")
    for k, name in enumerate(classes):
        (folder := Path(root, name)).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            text = f"{WORDS[name]} {i}"
            (folder / f"{i}{each[min(k, len(each) - 1)]}").write_text(text, encoding="utf-8")
    return Path(root)


def data(path: Path | str, **more: Any) -> Text:
    root = Path("data")
    return Text(root, LabeledTextFiles(root, str(path), **more))


def test_classes_whose_texts_have_other_endings_are_read(dltrain: Callable[..., Any]) -> None:
    """Four class folders, c with .TXT and d with .md files: all texts are read and logged."""
    lay("ending", endings=".txt,.txt,.TXT,.md")
    chosen = (
        "dataset=text_files",
        "dataset.path=ending",
        "model=fasttext",
        "model.buckets=64",
        "dataset.vocab_size=50",
    )
    outcome = dltrain(*chosen, "trainer.epochs=1", "callbacks=quiet", "--json")
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["class_names"] == ["a", "b", "c", "d"]
    assert (
        sum(manifest["effective"][f"{split}_samples"] for split in ("train", "val", "test")) == 48
    )
    assert outcome.out.count("ending: read as texts: 12 files (12 .md)") == 1
    checked = dltrain("check", "--data", *chosen, "--json")
    assert [row["class"] for row in checked.json["data"]["classes"]] == ["a", "b", "c", "d"]
    predicted = dltrain("predict", outcome.json["run"], "ending", "--json")
    assert predicted.json["predicted"] == 48


@pytest.mark.parametrize(
    "ending", [".TXT", ".Md", "", ".text", ".log", ".html", ".0123abcd", ".en", ".49960"]
)
def test_a_text_may_have_any_ending(ending: str) -> None:
    made = data(lay("texts", "ab", endings=ending))
    assert made.class_names == ("a", "b")
    assert sum(split.samples for split in (made.train, made.val, made.test)) == 24


def test_packed_and_nested_texts_are_read_and_hidden_files_are_not() -> None:
    path = lay("texts", "ab")
    (path / "a" / "more").mkdir()
    (path / "a" / "more" / "x.txt").write_text("nested")
    (path / "a" / "y.txt.gz").write_bytes(gzip.compress(b"packed"))
    for name in ("a/._0.txt", "a/.DS_Store", "__MACOSX/a/0.txt", ".git/config"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"\0\xff")
    made = data(path)
    assert sum(split.samples for split in (made.train, made.val, made.test)) == 26
    assert b"packed" in made.source.labeled_texts["train"][0]  # type: ignore[attr-defined]


def test_other_files_are_left_out_and_logged_or_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = lay("texts", "abc")
    for name in ("a/x.pdf", "a/y.PDF", "b/z.csv", "readme.md"):
        (path / name).write_bytes(b"\xff\0")
    _ = data(path).train
    assert (
        "texts: 3 files (1 .pdf, 1 .PDF, 1 .csv) left out: not texts, by their endings"
        in caplog.text
    )
    assert "1 file (readme.md) left out beside the folders" in caplog.text
    lay("docs", "abc", endings=".txt,.pdf,.txt")
    with pytest.raises(InputError, match=r"there is no text in b, but 12 files \(12 \.pdf\)"):
        _ = data("docs").train
    lay("empty", "ab")
    Path("empty/c").mkdir()
    with pytest.raises(InputError, match="there is no text in c"):
        _ = data("empty").train


def test_split_folders_and_unlabeled_texts_are_not_classes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In aclImdb unsup is left out and logged, Valid/ is read; a flat test folder is left out."""
    lay("aclImdb/train", "ab")
    lay("aclImdb/test", "ab", count=4)
    lay("aclImdb/Valid", "b", count=3)
    Path("aclImdb/train/unsup").mkdir()
    Path("aclImdb/train/unsup/0_0.txt").write_text("no class")
    Path("aclImdb/imdb.vocab").write_text("the")
    made = data("aclImdb")
    assert [split.samples for split in (made.train, made.val, made.test)] == [24, 3, 8]
    assert made.class_names == ("a", "b")
    assert "unsup left out" in caplog.text
    Path("aclImdb/Valid/a").mkdir()
    assert data("aclImdb").val.samples == 3
    assert "aclImdb/Valid: there is no text in a" in caplog.text
    assert "1 file (imdb.vocab) left out beside the folders" in caplog.text
    lay("flat", "ab")
    Path("flat/testing").mkdir()
    Path("flat/testing/1.txt").write_text("what?")
    assert data("flat").class_names == ("a", "b")
    assert data("flat", classes=["a", "testing"]).class_names == ("a", "testing")


def test_val_path_and_test_path_may_be_folders() -> None:
    """They have the classes of the training texts."""
    made = data(
        lay("one", "ab"),
        val_path=str(lay("two", "a", count=2)),
        test_path=str(lay("three", "ab", count=3)),
    )
    assert [split.samples for split in (made.train, made.val, made.test)] == [24, 2, 6]
    with pytest.raises(InputError, match="no training text has the class 'c'"):
        _ = data("one", test_path=str(lay("four", "ac", count=1))).train


def test_a_test_set_alone_cannot_be_trained_on() -> None:
    lay("only/test", "ab")
    with pytest.raises(InputError, match="no texts to train on"):
        _ = data("only").train


def test_running_text_and_documents_of_a_folder_with_any_ending(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lay("books", "ab", endings=".md,")
    Path("books/cover.jpg").write_bytes(b"\xff\xd8\xff")
    assert len(WordFiles(Path("data"), "books").read()["train"][0]) == 24
    assert "books: 1 file (cover.jpg) left out" in caplog.text
    text = ProseFiles(Path("data"), "books").read()["train"]
    assert "good film 11" in text
    assert "bad film 11" in text


@pytest.mark.parametrize(
    "names",
    [
        ("wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"),
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("train/1.txt", "Validation/1.txt", "test/1.txt"),
        ("book.txt", "dev.txt", "test_set.txt"),
    ],
    ids=str,
)
def test_running_text_of_a_split_by_name_is_not_trained_on(
    names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Files and folders with the usual names of splits in a folder of running text."""
    for name, text in zip(names, ("learn this", "watch this", "score this"), strict=True):
        Path("prose", name).parent.mkdir(parents=True, exist_ok=True)
        Path("prose", name).write_text(text * 30, encoding="utf-8")
    Path("prose/predictions.txt").write_text("guess", encoding="utf-8")
    made = LanguageModeling(Path("data"), ProseFiles(Path("data"), "prose"), length=4)
    texts = made.source.read()
    assert {part: text[:5] for part, text in texts.items()} == {
        "train": "learn",
        "val": "watch",
        "test": "score",
    }
    assert "1 file (predictions.txt) left out" in caplog.text
    assert made.test.samples


def test_all_of_other_texts_are_for_testing(dltrain: Callable[..., Any]) -> None:
    """Other texts with a test set are tested on that; the run's own texts are split as before."""
    chosen = (
        "dataset=text_files",
        "dataset.path=texts",
        "model=fasttext",
        "model.buckets=64",
        "dataset.vocab_size=50",
        "callbacks=quiet",
    )
    lay("texts", "abc")
    run = dltrain(*chosen, "trainer.epochs=30", "optimizer.lr=0.05", "--json").json["run"]
    lay("more", "ab", endings=".md", count=5)
    lay("sorted/train", "ab")
    lay("sorted/test", "b", count=3)
    for path, rows in (("more", 10), ("sorted", 3), ("texts", 6)):
        outcome = dltrain("evaluate", run, f"dataset.path={path}", "--json")
        assert outcome.json["metrics"]["test/accuracy"] == 1.0
        assert sum(one["support"] for one in outcome.json["per_class"].values()) == rows
    lay("more", "d", count=2)
    outcome = dltrain("evaluate", run, "dataset.path=more")
    assert (outcome.code, "knows no class d" in outcome.err) == (3, True)
