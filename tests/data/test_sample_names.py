"""Names of samples: file or line, in the order of the batches, whatever was done to the rows."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.dataset import PARTS
from dltrain.data.repeated import Repeated
from dltrain.data.tabular.tabular import Tabular
from dltrain.data.tabular.timeseries import TimeSeries
from dltrain.data.text.corpus import Corpus, TextNames
from dltrain.data.text.language import LanguageModeling
from dltrain.data.text.pairs import Multi30k, ParallelFiles, Reversal
from dltrain.data.text.prose import RandomLetters
from dltrain.data.text.sentiment import MR, SST
from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.data.text.translation import Translation

ROWS = 30


def line_at(place: str) -> str:
    """The line that a place such as table.csv:12 names; a packed file is unpacked."""
    path, _, number = place.rpartition(":")
    content = Path(path).read_bytes()
    if path.endswith(".gz"):
        content = gzip.decompress(content)
    encoding = "latin-1" if "rt-polarity" in path else "utf-8"
    return content.decode(encoding).replace("\r\n", "\n").split("\n")[int(number) - 1]


def targets(split: Any) -> torch.Tensor:
    """The targets of epoch 0, batch after batch."""
    return torch.cat([batch[1] for batch in split.epoch(0)])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with empty lines, and rows without a number or a target."""
    lines = ["x,y"]
    for row in range(ROWS):
        x = "" if row % 7 == 3 else row
        y = "" if row % 11 == 5 else row % 2
        lines += [f"{x},{y}", *[""] * (row % 3 == 0)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "settings", [{}, {"folds": 3, "fold": 1}, {"balance": "sampler"}, {"batch_size": "all"}]
)
def test_a_row_of_a_table_is_its_line(part: Any, settings: dict[str, Any], table: Path) -> None:
    data = Tabular(str(table), "y", missing="drop", **{"batch_size": 4, **settings})
    split = getattr(data, part)
    names = list(data.sample_names(part))
    assert len(names) == split.samples
    classes = [data.spec.class_names[k] for k in targets(split).tolist()]
    assert [line_at(name).split(",")[1] for name in names] == classes


def test_rows_of_a_test_table_are_its_lines(table: Path, tmp_path: Path) -> None:
    other = tmp_path / "test.csv"
    other.write_text("x,y\n1,0\n2,1\n\n3,0\n")
    data = Tabular(str(table), "y", test_path=str(other), missing="drop")
    assert list(data.sample_names("test")) == [f"{other}:{line}" for line in (2, 3, 5)]
    assert all(name.startswith(f"{table}:") for name in data.sample_names("train"))


@pytest.mark.parametrize("part", PARTS)
def test_a_window_is_the_line_of_the_value_after_it_also_if_rows_are_sorted(
    part: Any, tmp_path: Path
) -> None:
    path = tmp_path / "series.csv"
    days = [f"2024-01-{day:02}" for day in range(1, 31)]
    lines = [f"{day},{number}" for number, day in enumerate(days)]
    path.write_text("\n".join(["day,value", *reversed(lines)]) + "\n")
    data = TimeSeries(str(path), "value", window=2, val_fraction=0.3, test_fraction=0.3)
    split = getattr(data, part)
    names = list(data.sample_names(part))
    mean, std = data.scale
    following = (targets(split)[:, 0] * std + mean).round().int().tolist()
    assert [int(line_at(name).split(",")[1]) for name in names] == following
    assert len(set(names)) == split.samples > 0


def texts(tmp_path: Path, test: bool) -> LabeledTextFiles:
    """Texts in folders for training, and perhaps in a table for testing."""
    for k, name in enumerate(("a", "b")):
        (tmp_path / "texts" / name).mkdir(parents=True)
        for i in range(12):
            text = f"text {name} " + "word " * ((7 * i + k) % 5)
            (tmp_path / "texts" / name / f"{i}.txt").write_text(text)
    table = tmp_path / "test.csv"
    table.write_text('text,label\n"one\ntwo",a\nthree,b\n\nfour four four,a\n')
    return LabeledTextFiles(
        tmp_path, str(tmp_path / "texts"), test_path=str(table) if test else None
    )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("settings", [{}, {"balance": "sampler"}, {"tokens_per_batch": 32}])
def test_a_text_is_its_file(part: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    data = Text(tmp_path, texts(tmp_path, test=False), batch_size=3, **settings)
    names = list(data.sample_names(part))
    classes = [data.class_names[k] for k in targets(getattr(data, part)).tolist()]
    assert [Path(name).parent.name for name in names] == classes
    shown = [
        data.decode(row[row > 0].tolist())
        for inputs, _ in getattr(data, part).epoch(0)
        for row in inputs
    ]
    words = [Path(name).read_text().split() for name in names]
    assert [len(text.split()) for text in shown] == list(map(len, words)), "of the same length"


def test_texts_of_a_table_are_its_lines(tmp_path: Path) -> None:
    data = Text(tmp_path, texts(tmp_path, test=True), bucketing=False)
    table = tmp_path / "test.csv"
    assert list(data.sample_names("test")) == [f"{table}:{line}" for line in (2, 4, 6)]


@pytest.mark.parametrize("part", PARTS)
def test_a_pair_is_the_line_of_its_source(part: Any, tmp_path: Path) -> None:
    """Although pairs with an empty side are left out."""
    sources = ["" if i % 6 == 2 else f"{'w ' * (i % 4)}s{i}" for i in range(60)]
    written = ["" if i % 9 == 4 else f"t{i}" for i in range(60)]
    for name, lines in (("s", sources), ("t", written)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    pairs = ParallelFiles(tmp_path, str(tmp_path / "s"), str(tmp_path / "t"))
    data = Translation(
        tmp_path, pairs, tokenizer="whitespace", val_fraction=0.3, test_fraction=0.3, batch_size=4
    )
    shown = [
        data.decode(row[row > 0].tolist())
        for inputs, _ in getattr(data, part).epoch(0)
        for row in inputs
    ]
    assert [line_at(name).split() for name in data.sample_names(part)] == list(
        map(str.split, shown)
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_a_block_of_text_is_the_place_of_its_tokens(
    part: Any, stream: bool, tmp_path: Path
) -> None:
    data = LanguageModeling(
        tmp_path, RandomLetters(4000), length=8, stream=stream, batch_size=4, eval_batch_size=4
    )
    split = getattr(data, part)
    blocks = torch.cat([batch[0] for batch in split.epoch(0)])
    tokens = data.stored.tokens[part]
    names = list(data.sample_names(part))
    assert len(names) == len(blocks) == split.samples
    for name, block in zip(names, blocks, strict=True):
        first, last = map(int, name.removeprefix(f"{part}/tokens ").split("-"))
        assert tokens[first : last + 1].tolist() == block.tolist()


def test_data_that_is_made_has_set_and_number(tmp_path: Path) -> None:
    data = Translation(tmp_path, Reversal(train_samples=40, val_samples=8, test_samples=8))
    assert set(data.sample_names("test")) == {f"reversal/test/{i}" for i in range(8)}


def test_names_are_made_one_by_one(table: Path) -> None:
    data = Tabular(str(table), "y", missing="drop")
    names = data.sample_names("train")
    assert isinstance(names, Iterator)
    assert not data.is_read, "nothing is read before the first is asked for"


def test_a_repeated_batch_has_the_names_of_its_samples(table: Path) -> None:
    data = Tabular(str(table), "y", missing="drop", batch_size=4)
    repeated = Repeated(data)
    names = list(repeated.sample_names("test"))
    assert names == list(data.sample_names("train"))[:4]
    classes = [data.spec.class_names[k] for k in targets(repeated.test).tolist()]
    assert [line_at(name).split(",")[1] for name in names] == classes


class Numbered:
    """A source that has no names."""


def test_each_set_is_counted_from_zero() -> None:
    names = TextNames(Numbered(), {"train": 3, "val": 0, "test": 2})
    assert [names(row) for row in (0, 2, 3, 4)] == [
        "numbered/train/0",
        "numbered/train/2",
        "numbered/test/0",
        "numbered/test/1",
    ]
    with pytest.raises(IndexError):
        names(5)


@pytest.mark.parametrize("source", [SST, MR, Multi30k])
def test_published_texts_are_their_lines(source: Any, real_data: Path) -> None:
    one = source(real_data)
    for part, (corpus, _) in one.read().items():
        names = one.text_names(part)
        assert isinstance(corpus, Corpus)
        assert len(names) == len(corpus)
        rows = range(0, len(names), 501)
        for row, text in zip(rows, corpus.texts(rows), strict=True):
            assert text in line_at(names[row])
