"""Corpora as token numbers, which are kept on disk for the next run."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.cache import CACHE
from dltrain.data.text.corpus import Corpus
from dltrain.data.text.tokenizer import Tokenizer, TokenizerKind, encode_corpus
from dltrain.data.text.tokens import Ragged
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
VERSION = 1  # of the files in the cache
Arrays = tuple[NDArray[np.int32], NDArray[np.int64]]
"""The tokens of all texts of a corpus, and the places where each text begins."""


@dataclass(frozen=True)
class TokenizerSettings:
    """The settings by which a tokenizer is trained."""

    kind: TokenizerKind
    vocab_size: int
    lowercase: bool


@dataclass(frozen=True)
class Tokenized:
    """Corpora as tokens: those of each corpus, their tokenizer, and the digest of the content."""

    tokenizer: Tokenizer
    texts: list[Ragged]
    digest: str


def tokenize(
    corpora: Sequence[Corpus],
    train_on: Sequence[int],
    settings: TokenizerSettings,
    root: Path,
    trained: Tokenizer | None = None,
    noun: str = "text",
) -> Tokenized:
    """Turn corpora into tokens, or read the tokens that an earlier run made of the same content.

    Args:
        corpora: The texts.
        train_on: The numbers of the corpora that the tokenizer is trained on.
        settings: How it is trained.
        root: The data root, in which the tokens are kept, in a folder named by content and
            settings.
        trained: The tokenizer of a run, used instead of a new one.
        noun: The name of a text in the line that is logged.
    """
    hasher = hashlib.sha256()
    for corpus in corpora:
        corpus.update(hasher)
    content_digest = hasher.hexdigest()
    if trained is None:
        key = f"{settings.kind} {settings.vocab_size} {settings.lowercase} {list(train_on)}"
    else:
        key = trained.to_json()
    hasher.update(f"{VERSION} {key}".encode())
    folder = root / CACHE / f"tokens-{hasher.hexdigest()[:16]}"
    cached = read_cache(folder, len(corpora))
    if cached is not None:
        tokenizer, texts = cached
        return Tokenized(tokenizer, texts, content_digest)

    count = sum(map(len, corpora))
    nouns = noun if count == 1 else f"{noun}s"
    log.info(f"tokenizing {count:,} {nouns} (cached for later runs)")
    if trained is None:
        trained = train_tokenizer([corpora[i] for i in train_on], settings)
    arrays = [encode_corpus(trained, corpus) for corpus in corpora]
    write_cache(folder, trained, arrays)
    texts = [Ragged.from_arrays(flat, offsets) for flat, offsets in arrays]
    return Tokenized(trained, texts, content_digest)


def train_tokenizer(corpora: Sequence[Corpus], settings: TokenizerSettings) -> Tokenizer:
    """Train a tokenizer on all texts of the corpora."""
    texts = chain.from_iterable(corpus.texts() for corpus in corpora)
    return Tokenizer.train(settings.kind, settings.vocab_size, settings.lowercase, texts)


def read_cache(folder: Path, count: int) -> tuple[Tokenizer, list[Ragged]] | None:
    """Return the tokenizer and the corpora in a folder; None if it is absent or damaged."""
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_json(text)
        texts = [read_tokens(folder, number, tokenizer.vocab_size) for number in range(count)]
    except (OSError, ValueError, EOFError, MemoryError, TypeError, InputError):
        return None
    return tokenizer, texts


def read_tokens(folder: Path, number: int, vocab_size: int) -> Ragged:
    """Read the tokens of one corpus; ValueError if they are not as they were written."""
    flat = read_row(folder / f"tokens-{number}.npy", np.int32)
    offsets = read_row(folder / f"offsets-{number}.npy", np.int64)
    ends = offsets[[0, -1]].tolist() if len(offsets) else []
    if ends != [0, len(flat)] or (np.diff(offsets) < 0).any():
        raise ValueError("the offsets do not ascend from the first token to the last")
    if ((flat < 0) | (flat >= vocab_size)).any():
        raise ValueError("a token is not in the vocabulary")
    return Ragged.from_arrays(flat, offsets)


def read_row(path: Path, dtype: type[np.generic]) -> NDArray[Any]:
    """Read an array of one dimension; ValueError for another array."""
    array: NDArray[Any] = np.load(path)
    if array.dtype != dtype or array.ndim != 1:
        raise ValueError(f"{path} is not a row of {dtype.__name__}")
    return array


def write_cache(folder: Path, tokenizer: Tokenizer, arrays: Sequence[Arrays]) -> None:
    """Write a folder whole or not at all; if that fails, the next run makes the tokens again."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        (temporary / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        for i, (flat, offsets) in enumerate(arrays):
            np.save(temporary / f"tokens-{i}.npy", flat)
            np.save(temporary / f"offsets-{i}.npy", offsets)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as e:
        log.debug(f"{folder} cannot be written: {e}")
        shutil.rmtree(temporary, ignore_errors=True)
