"""Pairs of texts, one the translation of the other: read from aligned files, split into tokens by a tokenizer each, and
turned into batches of about the same length."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor

from dltrain.data.dataset import invalid_description
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.split import drawn_share, held_out
from dltrain.data.text.corpus import Corpus, lines
from dltrain.data.text.fake_tokens import FakeTokens
from dltrain.data.text.text import joined, least, restored_tokenizer
from dltrain.data.text.tokenizer import Kind, Tokenizer
from dltrain.data.text.tokens import Batching, Ragged, TokenSplit, tokenized
from dltrain.data.text.unknown_tokens import UnknownTokens
from dltrain.errors import ConfigError, InputError
from dltrain.types import (
    BEGIN,
    END,
    BatchSize,
    Fraction,
    Ge,
    Gt,
    PositiveInt,
    ReadsFiles,
    Sample,
    Spec,
)

log = logging.getLogger("dltrain")
STATED = 1000  # pairs of the user's own files, until they are read
SIDES = ("source text", "target text")
ENDS = 2  # tokens that say where a target begins and ends
Aligned = tuple[Corpus, Corpus]


class Pairs(Protocol):
    """Where pairs come from: by `read` the source and target texts of "train" and, if there are any, "val" and "test", as
    many of the one as of the other; it may raise InputError. It is not asked where no file is `named`."""

    named: bool
    samples: tuple[int, int]

    def read(self) -> dict[str, Aligned]: ...


@dataclass(frozen=True)
class Loaded:
    """Everything that was read, in one row of sequences for each side; which of them are of which split."""

    tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    sources: Ragged
    targets: Ragged
    parts: dict[str, Tensor]
    digest: str
    made_test: bool  # of the training pairs, for there were no others


class Translation:
    """Source texts of `pairs` and what they are to be turned into, each side split by a tokenizer of its own that its
    training texts alone have taught: `tokenizer` and its sizes as of texts to classify (`dataset=text_files`).

    Batches are (source tokens (B, S), target tokens (B, T)), each padded to its longest with 0; a target stands between two
    tokens for its ends. Sources are cut behind `max_length` tokens, targets too, their ends included. With `bucketing`
    pairs of about the same length, that of the longer side, go together, and `tokens_per_batch` sets how much a batch is
    instead of its `batch_size`. What was tokenized before is read from a cache in the data root, named by the content.

    `val_fraction` of the training pairs are for validation and `test_fraction` for testing where there are none of their own.
    InputError with file and line for what is no text.
    """

    def __init__(
        self,
        root: Path,
        pairs: Pairs,
        encoding: str | None = None,
        tokenizer: Kind = "bpe",
        vocab_size: Annotated[int, Gt(4)] = 8000,
        target_vocab_size: Annotated[int, Gt(4)] = 8000,
        lowercase: bool = False,
        max_length: Annotated[int, Ge(3)] = 100,
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 256,
        bucketing: bool = True,
        tokens_per_batch: PositiveInt | None = None,
        val_fraction: Fraction = 0.05,
        test_fraction: Fraction = 0.05,
        split_seed: int = 0,
        epochs: PositiveInt = 10,
        seed: int = 0,
    ) -> None:
        check_encoding(encoding)
        self.root = Path(root)
        self.pairs = pairs
        self.encoding = encoding
        self.kind, self.lowercase = tokenizer, lowercase
        self.vocab_size, self.target_vocab_size = (
            least(tokenizer, vocab_size),
            least(tokenizer, target_vocab_size),
        )
        self.max_length, self.batch_size, self.eval_batch_size = (
            max_length,
            batch_size,
            eval_batch_size,
        )
        self.bucketing, self.tokens_per_batch = bucketing, tokens_per_batch
        self.val_fraction, self.test_fraction, self.split_seed = (
            val_fraction,
            test_fraction,
            split_seed,
        )
        self.epochs, self.seed, self.device = epochs, seed, torch.device("cpu")
        self.restored: tuple[Tokenizer, Tokenizer] | None = None
        self.unknown_tokens = UnknownTokens()  # of the texts that were given to encode_text

    @property
    def spec(self) -> Spec:
        """No text is read for it: the vocabularies count with the sizes that they may have."""
        train, test = self.pairs.samples
        return Spec(
            input_shape=(self.max_length,),
            class_names=(),
            train_samples=train,
            test_samples=test,
            vocab_size=self.vocab_size,
            target_vocab_size=self.target_vocab_size,
            target_length=self.max_length,
            decode=self.decode,
            decode_target=self.decode_target,
        )

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizers[0].decode(tokens)

    def decode_target(self, tokens: Sequence[int]) -> str:
        return self.tokenizers[1].decode(tokens)

    @property
    def tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """Of the source and of the target: the run's, or those of the texts."""
        return self.restored or (self.loaded.tokenizer, self.loaded.target_tokenizer)

    def find_files(self) -> None:
        if not self.pairs.named:
            why = "name the texts to train on: dataset.pairs.source=FILE and dataset.pairs.target=FILE"
            raise ConfigError([("dataset.pairs.source=null", why)])
        if isinstance(self.pairs, ReadsFiles):
            self.pairs.find_files()

    @cached_property
    def loaded(self) -> Loaded:
        self.find_files()
        sets = self.pairs.read()
        train, known = [list(sets).index("train")], self.restored or (None, None)
        sizes = (self.vocab_size, self.target_vocab_size)
        settings = self.lowercase, self.root
        sides = [
            tokenized(
                [s[side] for s in sets.values()],
                train,
                self.kind,
                sizes[side],
                *settings,
                own,
                SIDES[side],
            )
            for side, own in enumerate(known)
        ]
        (tokenizer, sources, digest), (target_tokenizer, targets, target_digest) = sides
        ends = torch.tensor([0, *map(len, sources)]).cumsum(0).tolist()
        return Loaded(
            tokenizer,
            target_tokenizer,
            joined([ragged.cut(self.max_length, "head") for ragged in sources]),
            wrapped(joined([ragged.cut(self.max_length - ENDS, "head") for ragged in targets])),
            self.parts({name: torch.arange(*ends[i : i + 2]) for i, name in enumerate(sets)}),
            hashlib.sha256(f"{digest} {target_digest}".encode()).hexdigest(),
            "test" not in sets,
        )

    def parts(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rows of training, validation and test set, of those that the pairs have."""
        train = rows["train"]
        for name, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            if name not in rows:
                held = held_out(
                    torch.zeros(len(train), dtype=torch.int64), fraction, self.split_seed
                )
                rows, train = {**rows, name: train[held]}, train[~held]
        if not len(train) and not self.restored:
            raise InputError(
                "there is no pair to train on: all went into validation and test (dataset.val_fraction)"
            )
        return {**rows, "train": train}

    def split(self, name: str, batch_size: BatchSize, seed: int | None) -> TokenSplit:
        loaded, tokens = self.loaded, self.tokens_per_batch if seed is not None else None
        lengths = torch.maximum(loaded.sources.lengths, loaded.targets.lengths)
        batching = Batching(loaded.parts[name], lengths, batch_size, seed, self.bucketing, tokens)
        return TokenSplit(loaded.sources.to(self.device), loaded.targets.to(self.device), batching)

    @cached_property
    def train(self) -> TokenSplit:
        return self.split("train", self.batch_size, self.seed)

    @cached_property
    def val(self) -> TokenSplit:
        return self.split("val", self.eval_batch_size, None)

    @cached_property
    def test(self) -> TokenSplit:
        return self.split("test", self.eval_batch_size, None)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """None: there are no classes."""
        return ()

    def test_rule(self) -> str:
        return (
            drawn_share(self.test_fraction, "the pairs", self.split_seed)
            if self.loaded.made_test
            else ""
        )

    def fake(self) -> FakeTokens:
        """Random tokens of the same vocabularies; of a run they are spelled as its tokenizers do."""
        spec = self.spec if self.restored else replace(self.spec, decode=None, decode_target=None)
        return FakeTokens(spec, self.batch_size, self.seed)

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        """Of what is read; before that of texts of the greatest length."""
        if "loaded" in self.__dict__:
            return self.loaded.sources.size_in_bytes() + self.loaded.targets.size_in_bytes()
        return sum(self.pairs.samples) * 2 * (4 * self.max_length + 16)

    def fingerprint(self) -> str:
        return self.loaded.digest

    def description(self) -> dict[str, Any]:
        source, target = self.tokenizers
        return {"tokenizer": source.to_json(), "target_tokenizer": target.to_json()}

    def restore(self, description: dict[str, Any]) -> None:
        try:
            texts = description["tokenizer"], description["target_tokenizer"]
        except (KeyError, TypeError) as e:
            raise invalid_description(repr(e)) from e
        if not all(isinstance(text, str) for text in texts):
            raise invalid_description("a tokenizer is none")
        sizes = (self.vocab_size, self.target_vocab_size)
        source, target = (
            restored_tokenizer(text, size) for text, size in zip(texts, sizes, strict=True)
        )
        self.restored = source, target

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Of each file a text in every line that is not empty."""
        for path in paths:
            try:
                for number, text in enumerate(lines(path, self.encoding), 1):
                    if text.strip():
                        yield Sample(f"{path}:{number}", self.encode_text(text))
            except InputError as e:
                yield Sample(str(path), None, str(e))

    def encode_text(self, text: str) -> Tensor:
        tokens, unknown = self.tokenizers[0].encode_one(text)
        self.unknown_tokens.add(unknown[: self.max_length])
        return torch.from_numpy(tokens[: self.max_length]).long()


class ParallelFiles:
    """Pairs from two aligned text files, `source` and `target`: line i of the one is translated in line i of the other. More
    such files are for validation and testing; names that end in .gz are unpacked, and a file is looked for here and in the
    data root. A pair with an empty side is left out, which is said. InputError, with file and line, for what is not UTF-8,
    for files of different numbers of lines, and where there is no pair."""

    def __init__(
        self,
        root: Path,
        source: str | None = None,
        target: str | None = None,
        val_source: str | None = None,
        val_target: str | None = None,
        test_source: str | None = None,
        test_target: str | None = None,
        encoding: str | None = None,
    ) -> None:
        check_encoding(encoding)
        files = {
            "train": (source, target),
            "val": (val_source, val_target),
            "test": (test_source, test_target),
        }
        for part, names in files.items():
            if (names[0] is None) != (names[1] is None):
                prefix = "" if part == "train" else f"{part}_"
                raise ValueError(
                    f"of {prefix}source and {prefix}target there is but one: name the other file too"
                )
        self.root = Path(root)
        self.named = source is not None
        self.encoding = encoding
        self.files = {part: (str(a), str(b)) for part, (a, b) in files.items() if a is not None}

    @property
    def samples(self) -> tuple[int, int]:
        """How many pairs there are, as far as that is known."""
        if "found" not in self.__dict__:
            return STATED, STATED
        return len(self.found["train"][0]), len(
            self.found["test"][0]
        ) if "test" in self.found else 0

    def read(self) -> dict[str, Aligned]:
        return self.found

    @cached_property
    def found(self) -> dict[str, Aligned]:
        return {
            part: aligned(self.place(a), self.place(b), self.encoding)
            for part, (a, b) in self.files.items()
        }

    def find_files(self) -> None:
        """Raise InputError where a named file is absent."""
        for pair in self.files.values():
            for name in pair:
                self.place(name)

    def place(self, name: str) -> Path:
        """The file, here or in the data root."""
        here, there = Path(name).expanduser(), self.root / name
        if not here.is_file() and not there.is_file():
            raise InputError(f"{here}: there is no such file, nor in {self.root}")
        return here if here.is_file() else there


def aligned(source: Path, target: Path, encoding: str | None = None) -> Aligned:
    """Return the pairs of two files without those that have an empty side."""
    sides = lines(source, encoding), lines(target, encoding)
    if len(sides[0]) != len(sides[1]):
        counts = " and ".join(
            f"{path} has {len(side):,}" for path, side in zip((source, target), sides, strict=True)
        )
        raise InputError(f"the lines of one file translate those of the other, but {counts}")
    kept = [(a, b) for a, b in zip(*sides, strict=True) if a.strip() and b.strip()]
    if not kept:
        raise InputError(f"{source} and {target} have no pair of lines: expected a text a line")
    if left := len(sides[0]) - len(kept):
        empty = [
            f"{p}:{i}"
            for p, side in zip((source, target), sides, strict=True)
            for i, t in enumerate(side, 1)
            if not t.strip()
        ]
        log.warning(
            f"{left:,} pair{'s' * (left > 1)} left out for an empty line, such as {empty[0]}"
        )
    first, second = (Corpus.of(text.encode() for text in side) for side in zip(*kept, strict=True))
    return first, second


def wrapped(ragged: Ragged) -> Ragged:
    """Each sequence between the tokens for its two ends."""
    lengths = ragged.lengths + ENDS
    starts = lengths.cumsum(0) - lengths
    flat = torch.empty(int(lengths.sum()), dtype=ragged.flat.dtype)
    flat[starts], flat[starts + lengths - 1] = BEGIN, END
    inner = torch.arange(int(ragged.lengths.sum()))
    before = (
        ragged.lengths.cumsum(0) - ragged.lengths
    )  # where each would begin, one right behind the other
    flat[inner + torch.repeat_interleave(starts + 1 - before, ragged.lengths)] = ragged.flat[
        inner + torch.repeat_interleave(ragged.starts - before, ragged.lengths)
    ]
    return Ragged(flat, starts, lengths)
