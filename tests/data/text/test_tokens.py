"""Tokens: texts are split and put together again, batched by length, and kept for the next run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dltrain.data.text.corpus import Corpus
from dltrain.data.text.token_cache import Tokenized, TokenizerSettings, tokenize
from dltrain.data.text.tokenizer import SPECIAL, Tokenizer, TokenizerKind
from dltrain.data.text.tokens import Batching, Ragged
from dltrain.errors import InputError
from dltrain.types import PAD, UNKNOWN

KINDS: list[TokenizerKind] = ["word", "whitespace", "character", "bpe", "byte"]


# tokenizers


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_decoded_to_their_text_also_after_saving(kind: TokenizerKind) -> None:
    text = "a fine film , and a café"
    tokenizer = Tokenizer.train(kind, 300, False, [text] * 3)
    tokens = next(tokenizer.encode([text])).tolist()
    again = Tokenizer.from_json(tokenizer.to_json())
    assert tokenizer.decode(tokens) == text
    assert again.decode(next(again.encode([text])).tolist()) == text
    assert [tokenizer.token(i) for i in range(4)] == list(SPECIAL)
    assert min(tokens) >= len(SPECIAL)


def test_characters_that_no_training_text_has_are_unknown_except_as_bytes() -> None:
    for kind in KINDS:
        tokenizer = Tokenizer.train(kind, 300, True, ["plain words"])
        tokens = next(tokenizer.encode(["ж"])).tolist()
        assert (tokens == [UNKNOWN]) == (kind not in ("bpe", "byte"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_has_at_least_one_token(kind: TokenizerKind, text: str) -> None:
    assert len(next(Tokenizer.train(kind, 300, True, ["some words here"]).encode([text]))) >= 1


def test_a_text_that_names_a_special_token_does_not_become_it() -> None:
    for kind in ("word", "whitespace", "bpe"):
        tokenizer = Tokenizer.train(kind, 300, True, ["<pad> <eos> some words"])
        tokens = next(tokenizer.encode(["<pad> words <eos> <bos>"])).tolist()
        assert not {0, 2, 3} & set(tokens)


def test_only_the_most_frequent_words_are_known() -> None:
    tokenizer = Tokenizer.train("word", 6, True, ["b b b a a c"])
    assert tokenizer.vocab_size == 6
    assert next(tokenizer.encode(["a b c"])).tolist() == [5, 4, UNKNOWN]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "nonsense", '{"model": {"type": "WordLevel", "vocab": {}}}']
)
def test_an_invalid_saved_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="tokenizer"):
        Tokenizer.from_json(text)


# ragged sequences and their batches


def ragged(*sequences: list[int]) -> Ragged:
    flat = np.array([token for sequence in sequences for token in sequence], dtype=np.int32)
    return Ragged.from_arrays(flat, np.cumsum([0, *map(len, sequences)]))


def test_a_batch_is_padded_to_its_longest_text() -> None:
    texts = ragged([1, 2, 3], [4], [5, 6])
    assert texts.gather(torch.tensor([2, 0])).tolist() == [[5, 6, PAD], [1, 2, 3]]
    assert texts.gather(torch.tensor([1])).tolist() == [[4]]


def test_a_batch_is_shaped_without_values_of_the_device() -> None:
    """Lengths stay on the CPU; the meta device has no value to read."""
    texts = ragged([1, 2, 3], [4], [5, 6]).to(torch.device("meta"))
    assert texts.gather(torch.tensor([2, 0])).shape == (2, 3)
    assert texts.gather(torch.tensor([1])).shape == (1, 1)


@pytest.mark.parametrize(
    ("keep", "expected"), [("head", [[1, 2], [4, 0], [5, 6]]), ("tail", [[2, 3], [4, 0], [5, 6]])]
)
def test_long_texts_lose_their_end_or_their_beginning(keep, expected: list[list[int]]) -> None:
    cut = ragged([1, 2, 3], [4], [5, 6]).cut(2, keep)
    assert cut.gather(torch.arange(3)).tolist() == expected
    assert len(cut.flat) == 5


def lengths_of(count: int = 1000) -> torch.Tensor:
    return torch.randint(1, 400, (count,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "settings", [{}, {"bucketing": False}, {"tokens_per_batch": 3000}], ids=str
)
def test_an_epoch_has_every_row_once_and_is_a_function_of_its_key(settings: dict) -> None:
    rows = torch.arange(3, 1000, 2)
    batching = Batching(rows, lengths_of(), 64, 5, **settings)
    epochs = [batching.epoch(number) for number in (0, 0, 1)]
    for batches in epochs:
        assert torch.cat(batches).sort().values.tolist() == rows.tolist()
        assert len(batches) == len(batching)
    assert torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[2]))
    other = Batching(rows, lengths_of(), 64, 6, **settings)
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(other.epoch(0)))


def padding_share(batches: list[torch.Tensor], lengths: torch.Tensor) -> float:
    """The share of a batch that is padding."""
    sizes = [len(rows) * int(lengths[rows].max()) for rows in batches]
    return 1 - sum(int(lengths[rows].sum()) for rows in batches) / sum(sizes)


def test_bucketing_leaves_little_padding_and_does_not_sort_the_epoch() -> None:
    lengths = lengths_of(6400)
    plain = Batching(torch.arange(6400), lengths, 64, 0, bucketing=False).epoch(0)
    buckets = Batching(torch.arange(6400), lengths, 64, 0).epoch(0)
    assert padding_share(plain, lengths) > 0.4
    assert padding_share(buckets, lengths) < 0.02
    longest = [int(lengths[rows].max()) for rows in buckets]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_tokens_per_batch_limits_the_tokens_of_a_batch() -> None:
    lengths = lengths_of()
    batching = Batching(torch.arange(1000), lengths, 64, 0, tokens_per_batch=2000)
    for number in range(3):
        batches = batching.epoch(number)
        assert len(batches) == len(batching)
        assert max(len(rows) * int(lengths[rows].max()) for rows in batches) <= 2000
    assert min(map(len, batches)) < 6 < 60 < max(map(len, batches))
    alone = Batching(
        torch.arange(4), torch.tensor([900, 900, 900, 900]), 64, 0, tokens_per_batch=100
    )
    assert list(map(len, alone.epoch(0))) == [1] * 4


def test_without_a_seed_texts_come_by_length_or_as_stored() -> None:
    lengths = torch.tensor([3, 1, 2, 1])
    assert torch.cat(Batching(torch.arange(4), lengths, 2, None).epoch(0)).tolist() == [1, 3, 2, 0]
    assert torch.cat(
        Batching(torch.arange(4), lengths, 2, None, bucketing=False).epoch(0)
    ).tolist() == [0, 1, 2, 3]


# the cache


def tokens_of(corpora: list[Corpus], root: Path, vocab_size: int = 50) -> Tokenized:
    return tokenize(corpora, [0], TokenizerSettings("word", vocab_size, True), root)


def test_the_cache_is_named_by_content_and_settings(tmp_path: Path) -> None:
    corpora = [Corpus.from_texts([b"one two", b"three"]), Corpus.from_texts([b"two four"])]
    first = tokens_of(corpora, tmp_path)
    folders = sorted((tmp_path / ".dltrain").iterdir())
    again = tokens_of(corpora, tmp_path)
    assert sorted((tmp_path / ".dltrain").iterdir()) == folders
    assert torch.equal(first.texts[1].flat, again.texts[1].flat)
    assert first.texts[1].flat.tolist()[1] == UNKNOWN  # nothing is learned from the other corpus
    tokens_of(corpora, tmp_path, vocab_size=51)
    tokens_of([corpora[0], Corpus.from_texts([b"two fou"])], tmp_path)
    assert len(list((tmp_path / ".dltrain").iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "tokenizer", "types", "beyond", "offsets"])
def test_a_damaged_cache_is_written_again(damage: str, tmp_path: Path) -> None:
    corpora = [Corpus.from_texts([b"one two", b"three"])]
    first = tokens_of(corpora, tmp_path)
    (folder,) = (tmp_path / ".dltrain").iterdir()
    tokens = folder / "tokens-0.npy"
    if damage == "cut":
        tokens.write_bytes(tokens.read_bytes()[:-3])
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text("{")
    elif damage == "types":
        np.save(tokens, np.load(tokens).astype(np.float64))
    elif damage == "beyond":
        np.save(tokens, np.load(tokens) + 1000)
    else:
        np.save(folder / "offsets-0.npy", np.array([0, 9, 3], dtype=np.int64))
    again = tokens_of(corpora, tmp_path)
    assert torch.equal(first.texts[0].flat, again.texts[0].flat)
    assert np.load(tokens).tolist() == first.texts[0].flat.tolist()


def test_texts_are_tokenized_without_a_writable_data_root(tmp_path: Path) -> None:
    (tmp_path / ".dltrain").write_text("a file")
    tokenized = tokens_of([Corpus.from_texts([b"one two"])], tmp_path)
    assert tokenized.tokenizer.decode(tokenized.texts[0].flat.tolist()) == "one two"
