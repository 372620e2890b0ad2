"""Texts from files and from published sets; problems name the file and the line."""

from __future__ import annotations

import hashlib
import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.io.download import Published
from dltrain.data.text.fake_tokens import FakeTokens
from dltrain.data.text.sentiment import IMDB, MR, SST
from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.errors import ConfigError, InputError
from dltrain.types import PAD, UNKNOWN, Spec

GOOD, BAD = "a fine film , fine and warm", "a dull film"


def text_files(
    root: Path, path: str | None = None, test_path: str | None = None, **settings: Any
) -> Text:
    return Text(root, LabeledTextFiles(root, path, test_path=test_path), **settings)


def folders(root: Path, parts: tuple[str, ...] = ("",), count: int = 12) -> Path:
    """Texts of two classes, in a folder each."""
    for part in parts:
        for name, text in (("good", GOOD), ("bad", BAD)):
            folder = root / "texts" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.txt").write_text(f"{text} {'very ' * i}{i}")
    return root / "texts"


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
        )
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        lines = [f"text{delimiter}label", *(f'"{text}"{delimiter}{label}' for text, label in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


ROWS = [(f"{text} {i}", label) for i in range(10) for text, label in ((GOOD, "good"), (BAD, "bad"))]


# the user's own texts


@pytest.mark.parametrize("parts", [("",), ("train", "test"), ("train", "val", "test")], ids=str)
def test_a_folder_for_each_class(parts: tuple[str, ...], tmp_path: Path) -> None:
    data = text_files(
        tmp_path, str(folders(tmp_path, parts)), val_fraction=0.25, test_fraction=0.25
    )
    assert data.class_names == ("bad", "good")
    sizes = {1: (12, 4, 8), 2: (18, 6, 24), 3: (24, 24, 24)}[len(parts)]
    if len(parts) == 1:
        sizes = (24 - 6 - round(0.25 * 9) * 2, round(0.25 * 9) * 2, 6)
    assert (data.train.samples, data.val.samples, data.test.samples) == sizes
    for batch, targets in data.test.epoch(0):
        for row, target in zip(batch.tolist(), targets.tolist(), strict=True):
            assert ("dull" in data.decode(row)) == (target == 0)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_row_for_each_text(suffix: str, tmp_path: Path) -> None:
    path = table(tmp_path / f"texts{suffix}", ROWS)
    data = text_files(tmp_path, path.name, val_fraction=0.0)  # found in the data root
    assert data.class_names == ("bad", "good")
    assert (data.train.samples, data.test.samples) == (16, 4)
    inputs, targets = next(data.test.epoch(0))
    texts = [data.decode(row) for row in inputs.tolist()]
    assert [("dull" in text) for text in texts] == [target == 0 for target in targets.tolist()]


def test_the_vocabulary_comes_from_the_training_texts_alone(tmp_path: Path) -> None:
    train = table(tmp_path / "train.csv", ROWS)
    test = table(tmp_path / "test.csv", [("novelty", "good"), (BAD, "bad")])
    data = text_files(tmp_path, str(train), test_path=str(test))
    assert UNKNOWN in next(data.test.epoch(0))[0]
    assert "novelty" not in data.tokenizer.to_json()


BROKEN = {
    "no such file": (lambda p: p / "none.csv", "none.csv does not exist"),
    "another kind": (lambda p: written(p / "texts.doc", "text"), "expected a folder"),
    "no column": (
        lambda p: written(p / "t.csv", "words,label\nfine,good\n"),
        r"t\.csv:2: the field 'text' is missing; the fields are words, label",
    ),
    "too few fields": (
        lambda p: written(p / "t.csv", "text,label\nfine,good\nfine\n"),
        r"t\.csv:3: 1 field; the header",
    ),
    "no class": (
        lambda p: written(p / "t.csv", "text,label\nfine,good\nfine,\n"),
        r"t\.csv:3: the field 'label' is empty",
    ),
    "open quote": (
        lambda p: written(p / "t.csv", 'text,label\nfine,good\n"fi,x\n'),
        r"t\.csv:3: .*broken",
    ),
    "no json": (
        lambda p: written(p / "t.jsonl", '{"text": "a", "label": "b"}\n{"text"\n'),
        r"t\.jsonl:2: the line is not JSON",
    ),
    "no object": (lambda p: written(p / "t.jsonl", "[1]\n"), r"t\.jsonl:1: expected an object"),
    "not utf-8": (
        lambda p: written(p / "t.csv", b"text,label\nfine,good\nf\xffne,bad\n"),
        r"t\.csv:3: the text is not UTF-8",
    ),
    "no text": (lambda p: written(p / "t.csv", "text,label\n"), "has no text in it"),
    "one class": (
        lambda p: written(p / "t.csv", "text,label\nfine,good\n"),
        "all of one class, good",
    ),
    "empty folder": (lambda p: p, "has no text in it"),
}


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_line(name: str, tmp_path: Path) -> None:
    make, expected = BROKEN[name]
    data = text_files(tmp_path, str(make(tmp_path)))
    with pytest.raises(InputError, match=expected):
        _ = data.spec, data.train


def test_a_text_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = folders(tmp_path)
    (path / "good" / "5.txt").write_bytes(b"line one\nline \xe9 two\n")
    with pytest.raises(InputError, match=r"5\.txt:2: the text is not UTF-8"):
        _ = text_files(tmp_path, str(path)).train


def test_a_class_without_training_texts_is_named(tmp_path: Path) -> None:
    path = folders(tmp_path, ("train", "test"))
    (path / "test" / "odd").mkdir()
    (path / "test" / "odd" / "1.txt").write_text("odd")
    with pytest.raises(InputError, match="odd: no training text has this class"):
        _ = text_files(tmp_path, str(path)).train
    train = table(tmp_path / "a.csv", ROWS)
    test = table(tmp_path / "b.csv", [(GOOD, "good"), ("what", "odd")])
    with pytest.raises(InputError, match=r"b\.csv:3: no training text has the class 'odd'"):
        _ = text_files(tmp_path, str(train), test_path=str(test)).train


def test_without_a_path_the_missing_key_is_named(tmp_path: Path) -> None:
    data = text_files(tmp_path)
    assert data.spec.class_names == ("a", "b")
    with pytest.raises(ConfigError, match=r"dataset\.path=null"):
        _ = data.train


def test_a_very_long_text_and_an_empty_one_are_texts(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [*ROWS, ("word " * 100_000, "good"), ("", "bad")])
    data = text_files(tmp_path, str(path), max_length=50, val_fraction=0.0, test_fraction=0.0)
    assert max(batch.shape[1] for batch, _ in data.train.epoch(0)) == 50
    whole = text_files(tmp_path, str(path), max_length=None, val_fraction=0.0, test_fraction=0.0)
    assert max(batch.shape[1] for batch, _ in whole.train.epoch(0)) == 100_000
    assert all(bool((batch != PAD).any(1).all()) for batch, _ in whole.train.epoch(0))


def test_a_run_reads_texts_by_its_own_vocabulary(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", ROWS)
    trained = text_files(tmp_path, str(path))
    reader = text_files(tmp_path)
    reader.restore(json.loads(json.dumps(trained.description())))
    assert reader.encode_text(GOOD).tolist() == trained.encode_text(GOOD).tolist()
    assert reader.spec.class_names == ("bad", "good")
    rows = table(tmp_path / "rows.csv", [(GOOD, "x"), (BAD, "y")])
    samples = list(
        reader.encode(
            [rows, written(tmp_path / "one.txt", BAD), written(tmp_path / "bad.txt", b"\xff")]
        )
    )
    assert [sample.name for sample in samples[:3]] == [
        f"{rows}:2",
        f"{rows}:3",
        str(tmp_path / "one.txt"),
    ]
    assert samples[2].inputs is not None
    assert samples[2].inputs.tolist() == trained.encode_text(BAD).tolist()
    assert "not UTF-8" in samples[3].problem
    other = text_files(tmp_path, str(table(tmp_path / "other.csv", [(GOOD, "odd"), (BAD, "bad")])))
    other.restore(trained.description())
    with pytest.raises(InputError, match="the run knows no class odd"):
        _ = other.test


@pytest.mark.parametrize(
    "change",
    [{"class_names": ["a"]}, {"class_counts": [-1, 2]}, {"tokenizer": 3}, {"tokenizer": "{}"}],
)
def test_an_invalid_description_is_refused(change: dict, tmp_path: Path) -> None:
    description = text_files(tmp_path, str(table(tmp_path / "t.csv", ROWS))).description()
    with pytest.raises(InputError, match=r"manifest\.json"):
        text_files(tmp_path).restore(description | change)


def test_fake_texts_have_the_vocabulary_and_the_classes() -> None:
    fake = FakeTokens(Spec((40,), ("a", "b", "c"), 10, 10, vocab_size=12), 8, 0)
    lengths = set()
    for split in (fake.train, fake.val, fake.test):
        for batch, targets in split.epoch(0):
            assert int(batch.max()) < 12
            assert set(targets.tolist()) <= {0, 1, 2}
            lengths |= set((batch != PAD).sum(1).tolist())
    assert max(lengths) == 40
    assert len(lengths) > 5


# published sets


def reviews(root: Path) -> dict[str, bytes]:
    places = [
        f"aclImdb/{p}/{c}/{i}_7.txt"
        for p in ("train", "test")
        for c in ("neg", "pos")
        for i in range(6)
    ]
    return {
        place: f"{'dull' if '/neg/' in place else 'fine'}<br />film {place[-8]}".encode()
        for place in places
    }


def test_imdb_is_read_from_its_folder_or_from_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, text in reviews(tmp_path).items():
        (tmp_path / "folder" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / place).write_bytes(text)
    (tmp_path / "packed").mkdir()
    archive = tmp_path / "packed" / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for place, text in {
            **reviews(tmp_path),
            "aclImdb/train/unsup/0_0.txt": b"no class",
        }.items():
            info = tarfile.TarInfo(place)
            info.size = len(text)
            tar.addfile(info, BytesIO(text))
    content = archive.read_bytes()
    published = {archive.name: Published(len(content), hashlib.md5(content).hexdigest())}
    monkeypatch.setattr(IMDB, "archive", published)
    datasets = [
        Text(tmp_path / "cache", IMDB(tmp_path / name), val_fraction=0.0)
        for name in ("folder", "packed")
    ]
    batches = [next(data.test.epoch(0)) for data in datasets]
    assert torch.equal(batches[0][0], batches[1][0])
    assert batches[0][1].sort().values.tolist() == [0] * 6 + [1] * 6
    assert "br" not in json.loads(datasets[0].tokenizer.to_json())["model"]["vocab"]


def test_sst_and_mr_are_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sentiment" / "sst2"
    folder.mkdir(parents=True)
    files = {
        f"stsa.fine.{part}": b"4 a fine film\n0 dull\n2 a film\n"
        for part in ("train", "dev", "test")
    }
    files["stsa.fine.dev"] = b"1 dull\n"
    for name, content in files.items():
        (folder / name).write_bytes(content)
    right = {n: Published(len(c), hashlib.md5(c).hexdigest()) for n, c in files.items()}
    monkeypatch.setattr(SST, "files", {"fine": right})
    data = Text(tmp_path, SST(tmp_path, "fine"), tokenizer="whitespace")
    assert (data.train.samples, data.val.samples, data.test.samples) == (3, 1, 3)
    assert sorted(torch.cat([t for _, t in data.train.epoch(0)]).tolist()) == [0, 2, 4]
    content = {
        "rt-polarity.neg": "dull\nno caf\xe9\n".encode("latin-1"),
        "rt-polarity.pos": b"fine\nwarm\n",
    }
    for name, text in content.items():
        (tmp_path / "sentiment" / name).write_bytes(text)
    monkeypatch.setattr(
        MR, "files", {n: Published(len(c), hashlib.md5(c).hexdigest()) for n, c in content.items()}
    )
    texts, targets = MR(tmp_path).read()["train"]
    assert (list(texts.texts()), targets.tolist()) == (
        ["dull", "no café", "fine", "warm"],
        [0, 0, 1, 1],
    )
    files["stsa.fine.dev"] = b"7 dull\n"
    (folder / "stsa.fine.dev").write_bytes(files["stsa.fine.dev"])
    right["stsa.fine.dev"] = Published(7, hashlib.md5(b"7 dull\n").hexdigest())
    with pytest.raises(InputError, match=r"stsa\.fine\.dev:1: expected the number of a class"):
        SST(tmp_path, "fine").read()
