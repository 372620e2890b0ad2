"""Running text to continue, in blocks of consecutive tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.data.dataset import PARTS, Dataset, Part, require
from dltrain.data.fake import BATCHES, fake_batch_size
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.text.blocks import Blocks, EvaluationStreams, StreamedBlocks
from dltrain.data.text.corpus import Corpus, read_text
from dltrain.data.text.prose import ProseSource, RandomLetters
from dltrain.data.text.token_cache import TokenizerSettings, tokenize
from dltrain.data.text.tokenizer import (
    SPECIAL,
    Tokenizer,
    TokenizerKind,
    UnknownTokens,
    sufficient_vocab_size,
    trained_tokenizer,
)
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, Fraction, PositiveInt, ReadsFiles, Sample, Spec

PIECE_CHARS = 100_000  # that are tokenized at once
SMOKE_VOCAB_SIZE = 64  # for debug=smoke without a file
STATED_SAMPLES = 1000  # until the text is read
UNLIMITED_VOCAB_SIZE = 2**31 - 1
TOKEN_BYTES = 4
LanguageSplit = Blocks | StreamedBlocks | EvaluationStreams


@dataclass(frozen=True)
class LanguageContent:
    """The text of each split as tokens (N,)."""

    tokenizer: Tokenizer
    tokens: dict[Part, Tensor]
    digest: str
    made_test: bool
    """True if the test split is the end of the training text, because there is no test text."""

    def size_in_bytes(self) -> int:
        """Return the memory that the tokens occupy."""
        return sum(TOKEN_BYTES * len(tokens) for tokens in self.tokens.values())

    def fingerprint(self) -> str:
        """Return the digest of the text."""
        return self.digest


class LanguageModeling(Dataset[LanguageContent, Tokenizer, LanguageSplit]):
    """The running text of a `source`, to be continued token by token.

    A sample is a block of `length` tokens. Without `stream` each is read alone. With it a network
    that carries its state continues from one batch to the next, and its gradient ends where a batch
    begins: truncated back-propagation through time (Williams and Peng 1990).

    Args:
        root: The data root.
        source: Reads the text.
        encoding: The encoding of files to predict from; null: that of the source's files.
        tokenizer: The parts that the text is split into.
        vocab_size: The maximum number of tokens, four special ones included; null: all tokens that
            the training text has.
        lowercase: Whether upper and lower case are the same.
        length: Tokens of a sample.
        stream: Whether a batch continues where the one before it ended.
        batch_size: Samples a batch.
        eval_batch_size: Samples a batch of an evaluation.
        val_fraction: The share of the text, before that for testing, for validation, if the source
            has no validation text.
        test_fraction: The share at the end of the text for testing, if the source has no test text.
        epochs: The default of trainer.epochs.
        seed: The seed of the order of the samples.

    Raises:
        ValueError: Nothing is left to train on, or the vocabulary has no room for tokens.
        InputError: A text is too short for a block.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        root: Path,
        source: ProseSource,
        encoding: str | None = None,
        tokenizer: TokenizerKind = "character",
        vocab_size: PositiveInt | None = None,
        lowercase: bool = False,
        length: PositiveInt = 64,
        stream: bool = False,
        batch_size: PositiveInt = 64,
        eval_batch_size: PositiveInt = 64,
        val_fraction: Fraction = 0.05,
        test_fraction: Fraction = 0.05,
        epochs: PositiveInt = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed)
        check_encoding(encoding)
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                "dataset.val_fraction and dataset.test_fraction leave nothing to train on: "
                "lower them"
            )
        if vocab_size is not None and vocab_size <= len(SPECIAL):
            raise ValueError(
                f"dataset.vocab_size={vocab_size}: {len(SPECIAL)} of them are special; "
                "more are needed"
            )
        self.root = Path(root)
        self.source = source
        self.encoding = encoding or source.encoding
        self.kind, self.lowercase = tokenizer, lowercase
        # 0: as many as the text has; tokenizers of bytes have a size all the same.
        self.vocab_size = sufficient_vocab_size(tokenizer, vocab_size or 0)
        self.length, self.stream = length, stream
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.epochs = epochs
        self.unknown_tokens = UnknownTokens()  # of the texts that `encode_text` was called with
        self.decoder: Tokenizer | None = None  # if it is not the one that split the text

    @property
    def spec(self) -> Spec:
        """The shape of the data; the text is read for it if there is no `vocab_size`."""
        train_samples, test_samples = STATED_SAMPLES, STATED_SAMPLES
        if self.is_read:
            train_samples = self.train.samples + self.val.samples
            test_samples = self.test.samples
        return Spec(
            input_shape=(self.length,),
            class_names=(),
            train_samples=train_samples,
            test_samples=test_samples,
            vocab_size=self.vocab_size or self.actual_vocab_size,
            continues=self.stream,
            decode=self.decode,
        )

    @property
    def actual_vocab_size(self) -> int:
        """The size of the tokenizer's vocabulary."""
        if self.learned is None and not self.source.named:
            return SMOKE_VOCAB_SIZE
        return self.tokenizer.vocab_size

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token numbers."""
        decoder = self.decoder or self.tokenizer
        return decoder.decode(tokens)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run, or of the training text."""
        return self.learned or self.stored.tokenizer

    def find_files(self) -> None:
        """Raise ConfigError where no file is named and InputError where a named one is absent."""
        if not self.source.named:
            raise ConfigError(
                [("dataset.path=null", "name the text to train on: dataset.path=FILE.txt or DIR")]
            )
        if isinstance(self.source, ReadsFiles):
            self.source.find_files()

    def read(self) -> LanguageContent:
        """Read the text of every split and turn it into tokens."""
        self.find_files()
        source_texts = self.source.read()
        texts = self.divide(source_texts)
        corpora = [
            Corpus.from_texts(piece.encode(errors="replace") for piece in pieces(texts[part]))
            for part in PARTS
        ]
        vocab_size = self.vocab_size or UNLIMITED_VOCAB_SIZE
        settings = TokenizerSettings(self.kind, vocab_size, self.lowercase)
        tokenized = tokenize(corpora, [0], settings, self.root, self.learned)
        tokens: dict[Part, Tensor] = {
            part: ragged.flat for part, ragged in zip(PARTS, tokenized.texts, strict=True)
        }
        return LanguageContent(
            tokenized.tokenizer, tokens, tokenized.digest, made_test="test" not in source_texts
        )

    def divide(self, texts: dict[str, str]) -> dict[str, str]:
        """Return the text of every split.

        Without texts of their own the end of the training text is for testing, and the part before
        that for validation.
        """
        train = texts["train"]
        divided = dict(texts)
        for part, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            if part not in texts:
                end = len(train) - round(fraction * len(texts["train"]))
                divided[part] = train[end:]
                train = train[:end]
        return {**divided, "train": train}

    def test_rule(self) -> str:
        """Describe how the test split was chosen; "" for a test text of its own."""
        if not self.stored.made_test:
            return ""
        return f"the last {100 * self.test_fraction:g} % of the text, dataset.test_fraction"

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> LanguageSplit:
        """Return the blocks of one split; InputError for a text that is too short for a block."""
        assert isinstance(batch_size, int)  # the constructor takes no other
        tokens = self.stored.tokens[part].to(self.device)
        split: LanguageSplit
        if not self.stream:
            split = Blocks(tokens, self.length, batch_size, seed)
        elif seed is None:
            split = EvaluationStreams(tokens, self.length, batch_size)
        else:
            split = StreamedBlocks(tokens, self.length, batch_size, seed)
        if split.samples == 0 and (part == "train" or len(tokens)):
            places = "" if seed is None else " from any place on"
            raise InputError(
                f"the {part} text has {len(tokens):,} tokens: too few for a block of "
                f"dataset.length={self.length} and the token after it{places}"
            )
        return split

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names a block by the places of its tokens in the text."""
        return lambda place: f"{part}/tokens {place}-{place + self.length - 1}"

    def count_classes(self) -> tuple[int, ...]:
        """Return nothing: there are no classes."""
        return ()

    def fake(self) -> LanguageModeling:
        """Return random letters in blocks of the same length, with the same size of vocabulary."""
        size = fake_batch_size(self.batch_size)
        fake = LanguageModeling(
            self.root,
            RandomLetters((BATCHES * size + 1) * self.length + 1),
            tokenizer="whitespace",
            vocab_size=self.spec.vocab_size,
            length=self.length,
            stream=self.stream,
            batch_size=size,
            eval_batch_size=size,
            seed=self.seed,
        )
        fake.to(self.device)
        fake.decoder = self.learned  # the tokens of a run's network mean the run's words
        return fake

    def expected_size_in_bytes(self) -> int:
        """Return the memory of the tokens, for which the text is read."""
        return self.stored.size_in_bytes() if self.source.named else 0

    def description(self) -> dict[str, Any]:
        """Return the tokenizer."""
        return {"tokenizer": self.tokenizer.to_json()}

    def parse(self, description: dict[str, Any]) -> Tokenizer:
        """Return the tokenizer of a description."""
        text = description["tokenizer"]
        require(isinstance(text, str), "tokenizer is not text")
        return trained_tokenizer(text, self.vocab_size or UNLIMITED_VOCAB_SIZE)

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the whole text of a file."""
        yield Sample(str(path), self.encode_text(read_text(path, self.encoding)))

    def encode_text(self, text: str) -> Tensor:
        """Return the token numbers (T,) of a text, and count its unknown tokens."""
        tokens, unknown = self.tokenizer.encode_one(text)
        self.unknown_tokens.add(unknown)
        return torch.from_numpy(tokens).long()


def pieces(text: str) -> Iterator[str]:
    """Yield `text` in pieces of at most `PIECE_CHARS` characters, cut at line ends if possible."""
    start = 0
    while start < len(text):
        end = start + PIECE_CHARS
        if end < len(text):
            line_end = text.rfind("\n", start, end) + 1
            end = line_end if line_end > start else end
        yield text[start:end]
        start = end
