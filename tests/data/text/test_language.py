"""Running text: blocks, streams, splits; every batch is a function of (seed, epoch, position)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.text.blocks import Blocks, EvaluationStreams, StreamedBlocks
from dltrain.data.text.language import LanguageModeling, pieces
from dltrain.data.text.prose import ProseFiles
from dltrain.errors import ConfigError, InputError

TEXT = "".join(f"line {i} of the text\n" for i in range(400))


def language(
    root: Path, path: str | None = None, val_path: str | None = None, **settings: Any
) -> LanguageModeling:
    return LanguageModeling(root, ProseFiles(root, path, val_path), **settings)


def written(path: Path, text: str | bytes = TEXT) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_targets_are_the_tokens_one_place_later() -> None:
    blocks = Blocks(torch.arange(100), 7, 4, 0)
    starts = []
    for tokens, following, begins in blocks.epoch(3):
        assert torch.equal(following, tokens + 1)
        assert torch.equal(tokens, tokens[:, :1] + torch.arange(7))
        assert begins.all()
        starts += tokens[:, 0].tolist()
    assert len(starts) == blocks.samples == 13
    assert starts != sorted(starts)
    assert {start % 7 for start in starts} == {starts[0] % 7}  # one cut of the text


def test_epochs_begin_at_other_places_and_are_functions_of_their_key() -> None:
    blocks = Blocks(torch.arange(1000), 16, 8, 0)
    cuts = {int(blocks.order(number).min()) for number in range(20)}
    assert len(cuts) > 5
    assert max(cuts) < 16
    assert torch.equal(blocks.order(4), blocks.order(4))
    assert not torch.equal(blocks.order(4), Blocks(torch.arange(1000), 16, 8, 1).order(4))
    for number in range(20):
        assert len(list(blocks.epoch(number))) == len(blocks)


def test_a_resumed_epoch_continues_where_it_was() -> None:
    text = torch.arange(1000)
    for blocks in (
        Blocks(text, 16, 8, 0),
        StreamedBlocks(text, 16, 8, 0),
        EvaluationStreams(text, 16, 8),
    ):
        whole, rest = list(blocks.epoch(2)), list(blocks.epoch(2, 3))
        for a, b in zip(whole[3:], rest, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_in_a_stream_each_row_continues_where_it_ended() -> None:
    blocks = StreamedBlocks(torch.arange(500), 10, 4, 0)
    batches = list(blocks.epoch(1))
    assert len(batches) == len(blocks) == 12
    assert [bool(begins.any()) for _, _, begins in batches] == [True, *[False] * 11]
    assert batches[0][2].all()
    for (_, before, _), (after, _, _) in pairwise(batches):
        assert torch.equal(after[:, 0], before[:, -1])
    read = torch.cat([tokens.flatten() for tokens, _, _ in batches])
    assert len(read.unique()) == len(read) == 480


def test_without_a_seed_the_text_is_read_once_in_order() -> None:
    blocks = Blocks(torch.arange(101), 10, 4, None)
    assert torch.cat([tokens.flatten() for tokens, _, _ in blocks.epoch(0)]).tolist() == list(
        range(100)
    )


def test_the_splits_follow_each_other_in_the_text(tmp_path: Path) -> None:
    data = language(
        tmp_path, written(tmp_path / "t.txt"), length=8, val_fraction=0.1, test_fraction=0.2
    )
    parts = {name: data.decode(tokens.tolist()) for name, tokens in data.stored.tokens.items()}
    assert parts["train"] + parts["val"] + parts["test"] == TEXT
    assert [round(len(parts[name]) / len(TEXT), 2) for name in ("train", "val", "test")] == [
        0.7,
        0.1,
        0.2,
    ]
    own = language(
        tmp_path,
        str(tmp_path / "t.txt"),
        val_path=written(tmp_path / "v.txt", "of the text " * 9),
        length=8,
    )
    assert own.decode(own.stored.tokens["val"].tolist()) == "of the text " * 9
    assert own.spec.vocab_size == own.tokenizer.vocab_size == len(set(TEXT)) + 4


def test_a_folder_of_texts_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for name in ("b", "a"):
        written(tmp_path / "books" / f"{name}.txt", name * 300)
    data = language(tmp_path, "books", length=8)
    assert data.decode(data.stored.tokens["train"].tolist()).startswith("a" * 300 + "\n" + "b")


def test_a_long_text_is_cut_into_pieces_at_line_ends() -> None:
    text = "a line of the text\n" * 12_000 + "x" * 250_000
    parts = list(pieces(text))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 100_000
    assert all(part.endswith("\n") for part in parts[:2])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "has no text in it"),
        (b" \n ", "has no text in it"),
        (b"good\nnot \xff good\n", r"t\.txt:2: the text is not UTF-8"),
        (b"too short", "the train text has 9 tokens: too few for a block of dataset.length=8"),
    ],
)
def test_an_unusable_text_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    data = language(tmp_path, written(tmp_path / "t.txt", content), length=8)
    with pytest.raises(InputError, match=expected):
        _ = data.spec, data.train


def test_contradictory_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave nothing to train on"):
        language(tmp_path, val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ValueError, match="4 of them are special"):
        language(tmp_path, vocab_size=4)
    with pytest.raises(ConfigError, match=r"dataset\.path=null"):
        _ = language(tmp_path).train
    with pytest.raises(InputError, match=r"none\.txt does not exist"):
        _ = language(tmp_path, "none.txt").train


def test_a_run_reads_text_by_its_own_vocabulary(tmp_path: Path) -> None:
    trained = language(
        tmp_path, written(tmp_path / "t.txt"), tokenizer="bpe", vocab_size=300, length=8
    )
    reader = language(tmp_path, tokenizer="bpe", vocab_size=300)
    reader.restore(json.loads(json.dumps(trained.description())))
    tokens = reader.encode_text("line 12 of the text")
    assert tokens.tolist() == trained.encode_text("line 12 of the text").tolist()
    assert reader.decode(tokens.tolist()) == "line 12 of the text"
    assert next(reader.encode([tmp_path / "t.txt"])).inputs is not None
    assert "none.txt does not exist" in next(reader.encode([tmp_path / "none.txt"])).problem
    with pytest.raises(InputError, match=r"300 tokens, dataset\.vocab_size is 280"):
        language(tmp_path, tokenizer="bpe", vocab_size=280).restore(trained.description())


@pytest.mark.parametrize("stream", [False, True])
def test_fake_text_has_blocks_of_the_same_length_and_numbers_below_the_vocabulary(
    stream: bool, tmp_path: Path
) -> None:
    data = language(tmp_path, vocab_size=50, length=24, stream=stream, batch_size=4)
    fake = data.fake()
    assert (fake.spec.vocab_size, fake.spec.input_shape, fake.spec.continues) == (50, (24,), stream)
    tokens, _, _ = next(fake.train.epoch(0))
    assert tokens.shape == (4, 24)
    assert int(tokens.max()) < 50
    assert fake.test.samples >= 4
