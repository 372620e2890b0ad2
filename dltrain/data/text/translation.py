"""Pairs of texts, one the translation of the other, in batches of about the same length."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from dltrain.data.dataset import Dataset, Part, require
from dltrain.data.held_out.rule import describe_random_split, held_out_mask
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.text.corpus import TextNames, lines
from dltrain.data.text.fake_tokens import FakeTokens
from dltrain.data.text.pairs import PairSource
from dltrain.data.text.text import (
    RAGGED_BYTES,
    TOKEN_BYTES,
    consecutive_rows,
    hold_out,
)
from dltrain.data.text.token_cache import Tokenized, TokenizerSettings, tokenize
from dltrain.data.text.tokenizer import (
    Tokenizer,
    TokenizerKind,
    UnknownTokens,
    sufficient_vocab_size,
    trained_tokenizer,
)
from dltrain.data.text.tokens import NUM_ENDS, Batching, Ragged, TokenSplit, joined
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, Fraction, Ge, Gt, PositiveInt, ReadsFiles, Sample, Spec

Tokenizers = tuple[Tokenizer, Tokenizer]
"""The tokenizers of the source texts and of the target texts."""


@dataclass(frozen=True)
class TranslationContent:
    """All pairs as tokens."""

    tokenizers: Tokenizers
    sources: Ragged
    targets: Ragged
    rows: dict[str, Tensor]
    """The rows of each split."""

    digest: str
    made_test: bool
    """True if the test split was made of training pairs, because there is no test set."""

    sizes: dict[str, int]
    """The number of pairs of each set that was read, in their order."""

    def size_in_bytes(self) -> int:
        """Return the memory that the pairs occupy."""
        return self.sources.size_in_bytes() + self.targets.size_in_bytes()

    def fingerprint(self) -> str:
        """Return the digest of all texts."""
        return self.digest


class Translation(Dataset[TranslationContent, Tokenizers, TokenSplit]):
    """Source texts and their translations, each side with a tokenizer of its training texts.

    Batches are (source tokens (B, S), target tokens (B, T)), each padded with 0 to its longest
    text; a target stands between two tokens that mark its begin and its end. Tokens are read from a
    cache in the data root if an earlier run made them of the same texts.

    Args:
        root: The data root.
        pairs: Reads the texts.
        encoding: The encoding of files to predict from.
        tokenizer: The parts that texts are split into.
        vocab_size: The maximum number of source tokens, four special ones included.
        target_vocab_size: The maximum number of target tokens.
        lowercase: Whether upper and lower case are the same.
        max_length: The maximum number of tokens of a text, of a target with its two ends; what is
            behind them is cut off.
        batch_size: Pairs a batch.
        eval_batch_size: Pairs a batch of an evaluation.
        bucketing: Whether pairs of about the same length, that of the longer side, make a batch.
        tokens_per_batch: Tokens of the longer side a batch, padding included, instead of
            `batch_size` pairs.
        val_fraction: The share of the training pairs for validation, if there are no others.
        test_fraction: The share of the training pairs for testing, if there are no others.
        split_seed: The seed by which these pairs are drawn.
        epochs: The default of trainer.epochs.
        seed: The seed of the order of the training pairs.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        root: Path,
        pairs: PairSource,
        encoding: str | None = None,
        tokenizer: TokenizerKind = "bpe",
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
        super().__init__(batch_size, eval_batch_size, seed)
        check_encoding(encoding)
        self.root = Path(root)
        self.pairs = pairs
        self.encoding = encoding
        self.vocab_size = sufficient_vocab_size(tokenizer, vocab_size)
        self.target_vocab_size = sufficient_vocab_size(tokenizer, target_vocab_size)
        self.source_settings = TokenizerSettings(tokenizer, self.vocab_size, lowercase)
        self.target_settings = TokenizerSettings(tokenizer, self.target_vocab_size, lowercase)
        self.max_length = max_length
        self.bucketing, self.tokens_per_batch = bucketing, tokens_per_batch
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed = split_seed
        self.epochs = epochs
        self.unknown_tokens = UnknownTokens()  # of the texts that `encode_text` was called with

    @property
    def spec(self) -> Spec:
        """The shape of the data; the vocabularies have their maximum sizes, so nothing is read."""
        train_samples, test_samples = self.pairs.samples
        return Spec(
            input_shape=(self.max_length,),
            class_names=(),
            train_samples=train_samples,
            test_samples=test_samples,
            vocab_size=self.vocab_size,
            target_vocab_size=self.target_vocab_size,
            target_length=self.max_length,
            decode=self.decode,
            decode_target=self.decode_target,
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of source tokens."""
        return self.tokenizers[0].decode(tokens)

    def decode_target(self, tokens: Sequence[int]) -> str:
        """Return the text of target tokens."""
        return self.tokenizers[1].decode(tokens)

    @property
    def tokenizers(self) -> Tokenizers:
        """The tokenizers of the run, or of the training texts."""
        return self.learned or self.stored.tokenizers

    def find_files(self) -> None:
        """Raise ConfigError where no file is named and InputError where a named one is absent."""
        if not self.pairs.named:
            why = (
                "name the texts to train on: "
                "dataset.pairs.source=FILE and dataset.pairs.target=FILE"
            )
            raise ConfigError([("dataset.pairs.source=null", why)])
        if isinstance(self.pairs, ReadsFiles):
            self.pairs.find_files()

    def read(self) -> TranslationContent:
        """Read the pairs of every split and turn them into tokens."""
        self.find_files()
        sets = self.pairs.read()
        train = list(sets).index("train")
        trained_source, trained_target = self.learned or (None, None)

        def tokens(
            side: int, settings: TokenizerSettings, trained: Tokenizer | None, noun: str
        ) -> Tokenized:
            corpora = [pair[side] for pair in sets.values()]
            return tokenize(corpora, [train], settings, self.root, trained, noun)

        sources = tokens(0, self.source_settings, trained_source, "source text")
        targets = tokens(1, self.target_settings, trained_target, "target text")
        hasher = hashlib.sha256(f"{sources.digest} {targets.digest}".encode())
        sizes = {name: len(corpus) for name, (corpus, _) in sets.items()}
        rows = consecutive_rows(sizes)
        return TranslationContent(
            tokenizers=(sources.tokenizer, targets.tokenizer),
            sources=joined_heads(sources.texts, self.max_length),
            targets=joined_heads(targets.texts, self.max_length - NUM_ENDS).between_ends(),
            rows=self.assign_rows(rows),
            digest=hasher.hexdigest(),
            made_test="test" not in sets,
            sizes=sizes,
        )

    def assign_rows(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the rows of each split, from the rows of the sets that the pairs have."""
        for name, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            if name not in rows:
                no_classes = torch.zeros(len(rows["train"]), dtype=torch.int64)
                rows = hold_out(rows, name, held_out_mask(no_classes, fraction, self.split_seed))
        if not len(rows["train"]) and self.learned is None:
            raise InputError(
                "there is no pair to train on: all went into validation and test; "
                "lower dataset.val_fraction"
            )
        return rows

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> TokenSplit:
        """Return the batches of one split."""
        content = self.stored
        lengths = torch.maximum(content.sources.lengths, content.targets.lengths)
        tokens_per_batch = None if seed is None else self.tokens_per_batch
        batching = Batching(
            content.rows[part], lengths, batch_size, seed, self.bucketing, tokens_per_batch
        )
        return TokenSplit(
            content.sources.to(self.device), content.targets.to(self.device), batching
        )

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names a row by the file or the line of its text."""
        return TextNames(self.pairs, self.stored.sizes)

    def count_classes(self) -> tuple[int, ...]:
        """Return nothing: there are no classes."""
        return ()

    def test_rule(self) -> str:
        """Describe how the test split was chosen; "" for a test set of its own."""
        if not self.stored.made_test:
            return ""
        return describe_random_split(self.test_fraction, "the pairs", self.split_seed)

    def fake(self) -> FakeTokens:
        """Return random tokens of the same vocabularies.

        Only a run's vocabularies are known, so only its tokens are decoded to words.
        """
        spec = self.spec
        if self.learned is None:
            spec = replace(spec, decode=None, decode_target=None)
        return FakeTokens(spec, self.batch_size, self.seed)

    def expected_size_in_bytes(self) -> int:
        """Return the memory that texts of the maximum length would occupy."""
        text_bytes = TOKEN_BYTES * self.max_length + RAGGED_BYTES
        return sum(self.pairs.samples) * 2 * text_bytes

    def description(self) -> dict[str, Any]:
        """Return the tokenizers."""
        source, target = self.tokenizers
        return {"tokenizer": source.to_json(), "target_tokenizer": target.to_json()}

    def parse(self, description: dict[str, Any]) -> Tokenizers:
        """Return the tokenizers of a description."""
        source, target = description["tokenizer"], description["target_tokenizer"]
        require(isinstance(source, str), "tokenizer is not text")
        require(isinstance(target, str), "target_tokenizer is not text")
        return (
            trained_tokenizer(source, self.vocab_size),
            trained_tokenizer(target, self.target_vocab_size),
        )

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the text in every line of a file that is not empty."""
        for number, text in enumerate(lines(path, self.encoding), 1):
            if text.strip():
                yield Sample(f"{path}:{number}", self.encode_text(text))

    def encode_text(self, text: str) -> Tensor:
        """Return the source tokens (S,) of a text, and count its unknown tokens."""
        tokens, unknown = self.tokenizers[0].encode_one(text)
        self.unknown_tokens.add(unknown[: self.max_length])
        return torch.from_numpy(tokens[: self.max_length]).long()


def joined_heads(texts: Sequence[Ragged], max_length: int) -> Ragged:
    """Return all texts, one after the other, each cut to its first `max_length` tokens."""
    return joined([ragged.cut(max_length, "head") for ragged in texts])
