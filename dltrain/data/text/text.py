"""Texts to classify: read from their files, split into tokens, and turned into batches of about the same length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor

from dltrain.data.dataset import invalid_description
from dltrain.data.io.layout.describe import printable_names as shown_names
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.io.values import KnownTexts
from dltrain.data.split import Balance, drawn_share, held_out
from dltrain.data.text.corpus import JSON_LINES, TABLES, Corpus, read_text, records
from dltrain.data.text.fake_tokens import FakeTokens
from dltrain.data.text.tokenizer import Kind, Tokenizer
from dltrain.data.text.tokens import Batching, Keep, Ragged, TokenSplit, tokenized
from dltrain.data.text.unknown_tokens import UnknownTokens
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, Fraction, Ge, Gt, PositiveInt, ReadsFiles, Sample, Spec

STAND_IN = ("a", "b")  # classes where no file is named: for debug=smoke
MOST_STATED = 10_000  # tokens of a text where nothing limits them, until the data is read
Labelled = tuple[Corpus, Tensor]


class TextSource(Protocol):
    """Where texts come from: `class_names` cheaply, and by `read` the texts and class numbers (N,) of "train" and, if there
    are any, "val" and "test"; both may raise InputError. None of it is asked where there is no path: `named` is false. `text`
    is the name of the texts' column in tables of more of them."""

    named: bool
    text: str

    @property
    def samples(self) -> tuple[int, int]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def read(self) -> dict[str, Labelled]: ...


@dataclass(frozen=True)
class Loaded:
    """Everything that was read, in one row of sequences; which of them are of which split."""

    tokenizer: Tokenizer
    texts: Ragged
    targets: Tensor
    parts: dict[str, Tensor]
    digest: str
    made_test: bool  # of the training texts, for there were no others


class Text:
    """Texts of `source`, split by a tokenizer that the training texts alone have taught, and their classes.

    `tokenizer` says into what they are split: words and marks (word), what stands between spaces (whitespace), characters,
    groups of bytes (bpe), or bytes. `vocab_size` is how many different tokens a model knows at most, four special ones
    included; rarer ones are unknown. Of texts longer than `max_length` tokens (null: none is too long) the `keep` of head
    or tail stays.

    Batches are (tokens (B, T), classes (B,)), T the longest of the batch, the rest filled up with 0; with `bucketing` texts
    of about the same length go together, and `tokens_per_batch` sets how much a batch is instead of its `batch_size`.
    What was tokenized before is read from a cache in the data root, named by the content.

    Files to predict from are in the `encoding` (null: UTF-8, or what a byte order mark says).

    `val_fraction` of the training texts, the same of every class, are for validation where there are none of their own (or
    the `fold`-th of k equal parts), and `test_fraction` for testing. InputError with file and line for what is no text.
    """

    def __init__(
        self,
        root: Path,
        source: TextSource,
        tokenizer: Kind = "word",
        vocab_size: Annotated[int, Gt(4)] = 20_000,
        lowercase: bool = True,
        max_length: PositiveInt | None = 400,
        keep: Keep = "tail",
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 256,
        bucketing: bool = True,
        tokens_per_batch: PositiveInt | None = None,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.2,
        folds: Annotated[int, Ge(2)] | None = None,
        fold: Annotated[int, Ge(0)] = 0,
        split_seed: int = 0,
        epochs: PositiveInt = 5,
        balance: Balance = "none",
        encoding: str | None = None,
        seed: int = 0,
    ) -> None:
        check_encoding(encoding)
        if balance == "sampler" and tokens_per_batch is not None:
            raise ValueError(
                "balance=sampler draws texts of any length: dataset.batch_size, not tokens_per_batch, counts them"
            )
        if folds is not None and fold >= folds:
            raise ValueError(
                f"dataset.fold={fold} is not one of the {folds} folds: they count from 0"
            )
        self.root = Path(root)
        self.source = source
        self.encoding = encoding
        self.kind, self.vocab_size, self.lowercase = (
            tokenizer,
            least(tokenizer, vocab_size),
            lowercase,
        )
        self.max_length, self.keep = max_length, keep
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.bucketing, self.tokens_per_batch = bucketing, tokens_per_batch
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.folds, self.fold, self.split_seed = folds, fold, split_seed
        self.epochs, self.balance, self.seed, self.device = (
            epochs,
            balance,
            seed,
            torch.device("cpu"),
        )
        self.restored: tuple[Tokenizer, tuple[str, ...], tuple[int, ...]] | None = None
        self.trained_digest: object = None  # of the texts that a run was trained on, if it is known
        self.unknown_tokens = UnknownTokens()  # of the texts that were given to encode_text

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the run or the texts; InputError where there is but one class to tell apart."""
        if self.restored:
            return self.restored[1]
        names = self.source.class_names if self.source.named else STAND_IN
        if len(names) < 2:
            raise InputError(
                f"the texts are all of one class, {names[0] if names else 'none'}: there is nothing to learn"
            )
        return names

    @property
    def spec(self) -> Spec:
        """No text is read for it: the vocabulary counts with the size that it may have."""
        train, test = self.source.samples
        return Spec(
            input_shape=(self.max_length or MOST_STATED,),
            class_names=self.class_names,
            train_samples=train,
            test_samples=test,
            vocab_size=self.vocab_size,
            decode=self.decode,
        )

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.restored[0] if self.restored else self.loaded.tokenizer

    def find_files(self) -> None:
        if not self.source.named:
            raise ConfigError(
                [("dataset.path=null", "name the texts to train on: dataset.path=DIR or FILE.csv")]
            )
        if isinstance(self.source, ReadsFiles):
            self.source.find_files()

    @cached_property
    def loaded(self) -> Loaded:
        self.find_files()
        sets = self.source.read()
        corpora, targets = [s[0] for s in sets.values()], torch.cat([s[1] for s in sets.values()])
        train, known = [list(sets).index("train")], self.restored[0] if self.restored else None
        settings = (self.kind, self.vocab_size, self.lowercase, self.root)
        tokenizer, found, content = tokenized(corpora, train, *settings, known)
        digest = hashlib.sha256(content.encode() + targets.numpy().tobytes()).hexdigest()
        others = self.trained_digest not in (None, digest)
        if self.restored:
            targets = self.as_trained(targets)
        texts = joined([ragged.cut(self.max_length, self.keep) for ragged in found])
        ends = torch.tensor([0, *map(len, corpora)]).cumsum(0).tolist()
        rows = {name: torch.arange(*ends[i : i + 2]) for i, name in enumerate(sets)}
        parts = self.parts(rows, targets, others)
        return Loaded(tokenizer, texts, targets, parts, digest, "test" not in sets and not others)

    def parts(self, rows: dict[str, Tensor], targets: Tensor, others: bool) -> dict[str, Tensor]:
        """Return the rows of training, validation and test set, of those that the source has.

        Of `others` than a run's texts all are for testing, unless they have a test set.
        """
        train = rows["train"]
        if not len(train) and not self.restored:
            raise InputError(
                "there are no texts to train on, only texts of other splits: name the training folder train"
            )
        if "test" not in rows:
            held = held_out(targets[train], self.test_fraction, self.split_seed) | others
            rows, train = {**rows, "test": train[held]}, train[~held]
        if "val" not in rows:
            held = held_out(
                targets[train], self.val_fraction, self.split_seed, self.folds, self.fold
            )
            rows, train = {**rows, "val": train[held]}, train[~held]
        if not len(train) and not self.restored:
            raise InputError(
                "there are no training samples: all of them went into validation (dataset.val_fraction)"
            )
        return {**rows, "train": train}

    def as_trained(self, targets: Tensor) -> Tensor:
        """Return class numbers of this source in the numbering of the run's classes; InputError for
        one that the run has not.
        """
        assert self.restored
        here, trained = self.source.class_names, self.restored[1]
        known = KnownTexts(trained)
        if unknown := sorted(name for name in here if known.find(name) < 0):
            raise InputError(
                f"the run knows no class {shown_names(unknown)}; its classes are {shown_names(trained)}"
            )
        return torch.tensor([known.find(name) for name in here], dtype=torch.int64)[targets]

    def split(self, name: str, batch_size: BatchSize, seed: int | None) -> TokenSplit:
        loaded, tokens = self.loaded, self.tokens_per_batch if seed is not None else None
        classes = loaded.targets if self.balance == "sampler" and seed is not None else None
        batching = Batching(
            loaded.parts[name],
            loaded.texts.lengths,
            batch_size,
            seed,
            self.bucketing,
            tokens,
            classes,
        )
        return TokenSplit(loaded.texts.to(self.device), loaded.targets.to(self.device), batching)

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
        return self.restored[2] if self.restored else self.train.class_counts(len(self.class_names))

    def test_rule(self) -> str:
        if not self.loaded.made_test:
            return ""
        return drawn_share(self.test_fraction, "the texts of each class", self.split_seed)

    def fake(self) -> FakeTokens:
        """Random tokens of the same vocabulary, in the same classes; of a restored run they mean what they meant there."""
        return FakeTokens(
            self.spec if self.restored else replace(self.spec, decode=None),
            self.batch_size,
            self.seed,
        )

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        """Of what is read; before that of texts of the greatest length."""
        if "loaded" in self.__dict__:
            return self.loaded.texts.size_in_bytes() + self.loaded.targets.numel() * 8
        return sum(self.source.samples) * (4 * (self.max_length or MOST_STATED) + 24)

    def fingerprint(self) -> str:
        return self.loaded.digest

    def description(self) -> dict[str, Any]:
        names, counts = list(self.class_names), list(self.class_counts)
        known = {
            "class_names": names,
            "class_counts": counts,
            "tokenizer": self.tokenizer.to_json(),
        }
        return {**known, "digest": self.loaded.digest}

    def restore(self, description: dict[str, Any]) -> None:
        try:
            names, counts = tuple(description["class_names"]), tuple(description["class_counts"])
            text = description["tokenizer"]
            sound = (
                len(names) > 1
                and all(isinstance(name, str) for name in names)
                and isinstance(text, str)
            )
            sound = (
                sound
                and len(counts) == len(names)
                and all(isinstance(n, int) and n >= 0 for n in counts)
            )
        except (KeyError, TypeError) as e:
            raise invalid_description(repr(e)) from e
        if not sound:
            raise invalid_description("a class, a count or the tokenizer is none")
        self.restored = restored_tokenizer(text, self.vocab_size), names, counts
        self.trained_digest = description.get("digest")

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Of each file one text, but of a csv, tsv or jsonl file one in every row."""
        for path in paths:
            try:
                for name, text in self.texts_of(path):
                    yield Sample(name, self.encode_text(text))
            except InputError as e:
                yield Sample(str(path), None, str(e))

    def texts_of(self, path: Path) -> Iterator[tuple[str, str]]:
        """The texts in a file, and where each stands."""
        if path.suffix.lower() not in (*TABLES, *JSON_LINES):
            yield str(path), read_text(path, self.encoding)
            return
        for record in records(path, [self.source.text], self.encoding):
            yield f"{path}:{record.line}", record.fields[self.source.text]

    def encode_text(self, text: str) -> Tensor:
        tokens, unknown = self.tokenizer.encode_one(text)
        if self.max_length is not None:
            kept = slice(self.max_length) if self.keep == "head" else slice(-self.max_length, None)
            tokens, unknown = tokens[kept], unknown[kept]
        self.unknown_tokens.add(unknown)
        return torch.from_numpy(tokens).long()


def least(kind: Kind, vocab_size: int) -> int:
    """The size of a vocabulary: every byte has its token where they are what others are made of."""
    return max(vocab_size, 260) if kind == "bpe" else 260 if kind == "byte" else vocab_size


def restored_tokenizer(text: str, vocab_size: int) -> Tokenizer:
    """A run's tokenizer; InputError for one with more tokens than the run's network has vectors."""
    tokenizer = Tokenizer.from_json(text)
    if tokenizer.vocab_size > vocab_size:
        raise invalid_description(
            f"its tokenizer has {tokenizer.vocab_size:,} tokens, dataset.vocab_size is {vocab_size:,}"
        )
    return tokenizer


def joined(parts: Sequence[Ragged]) -> Ragged:
    """The sequences of all `parts`, one after the other."""
    ends = torch.tensor([0, *(len(part.flat) for part in parts)]).cumsum(0)
    starts = torch.cat([part.starts + end for part, end in zip(parts, ends[:-1], strict=True)])
    return Ragged(
        torch.cat([part.flat for part in parts]),
        starts,
        torch.cat([part.lengths for part in parts]),
    )
