"""Running text for word vectors: the words of documents, and the vocabulary of these words."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from torch import Tensor

from dltrain.data.dataset import PARTS, Dataset, Part, require
from dltrain.data.held_out.rule import describe_random_split
from dltrain.data.io.places import existing_path
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.text.blocks import WordBlocks, keep_probabilities
from dltrain.data.text.corpus import Corpus, LabeledCorpus, lines, read_text
from dltrain.data.text.similarity import (
    BUILT_IN_ANALOGIES,
    WordPair,
    analogies,
    similarities,
)
from dltrain.data.text.text_folder import describe_texts, texts_below
from dltrain.data.text.token_cache import Tokenized, TokenizerSettings, tokenize
from dltrain.data.text.tokenizer import SPECIAL, UnknownTokens
from dltrain.errors import ConfigError, InputError
from dltrain.rng import keyed
from dltrain.types import PAD, Fraction, Gt, NonNegative, PositiveInt, ReadsFiles, Sample, Spec

MAX_COUNTED_WORDS = 2_000_000  # different ones
STATED_TEXTS = 1000  # until they are read
STATED_TEXT_WORDS = 250
WORD_BYTES = 8  # of a word and its document
FAKE_VOCAB_SIZE = 200
FAKE_COUNT = 5  # of each word
FAKE_BLOCK_WORDS = 256
FAKE_BLOCKS = 4
FAKE_DOCUMENT_WORDS = 100
Document = tuple[Tensor, Tensor]
"""Words (N,) int32, and the number of the document of each (N,) int32."""


class DocumentSource(Protocol):
    """A source of documents; if `named` is false no file is named and nothing is read."""

    named: bool
    samples: tuple[int, int]
    """The numbers of training and test documents, as far as they are known without reading."""

    @property
    def encoding(self) -> str | None:
        """The encoding of text files; None: UTF-8, or what a byte order mark says."""

    def read(self) -> dict[str, LabeledCorpus]:
        """Return the documents by split; their classes do not matter.

        Raises:
            InputError: A file cannot be read.
        """


class WordFiles:
    """Documents from a folder, a file each, at any depth, or from the lines of a file.

    Args:
        root: The data root, where files are looked for if they are not here.
        path: The folder or file.
        encoding: The encoding, such as latin-1; null: UTF-8, or what a byte order mark says.
    """

    def __init__(self, root: Path, path: str | None = None, encoding: str | None = None) -> None:
        check_encoding(encoding)
        self.root, self.path = Path(root), path
        self.encoding = encoding
        self.named = path is not None
        self.samples = (STATED_TEXTS, 0)

    def find_files(self) -> None:
        """Raise InputError where the file or folder is absent."""
        existing_path("dataset.path", str(self.path), self.root)

    def read(self) -> dict[str, LabeledCorpus]:
        """Return the documents, all of them for training."""
        place = existing_path("dataset.path", str(self.path), self.root)
        if place.is_dir():
            paths, others = texts_below(place)
            describe_texts(place, paths, others)
            texts = [read_text(path, self.encoding) for path in paths]
        else:
            texts = lines(place, self.encoding)
        corpus = Corpus.from_texts(text.encode() for text in texts)
        if not corpus.blob:
            raise InputError(
                f"{place} has no text in it: expected text files, or a file with a document a line"
            )
        return {"train": (corpus, torch.zeros(len(corpus), dtype=torch.int64))}


@dataclass(frozen=True)
class Vocabulary:
    """V words by their numbers, and the count of each in the training text (V,).

    The first numbers are those of the special tokens, which are no words.
    """

    words: list[str]
    counts: Tensor


@dataclass(frozen=True)
class WordContent:
    """The vocabulary, and the text of each split by the numbers of its words."""

    vocabulary: Vocabulary
    texts: dict[str, Document]
    digest: str

    def size_in_bytes(self) -> int:
        """Return the memory that all texts occupy."""
        return sum(words.nbytes + documents.nbytes for words, documents in self.texts.values())

    def fingerprint(self) -> str:
        """Return the digest of the text."""
        return self.digest


class WordData(Dataset[WordContent, Vocabulary, WordBlocks]):
    """Blocks of consecutive words of running text, for word vectors.

    Args:
        vocab_size: The maximum number of words, special ones included.
        lowercase: Whether upper and lower case are the same.
        sample: Words above this fraction of the text are left out at random; 0 keeps
            all. See `keep_probabilities`.
        batch_size: Words a block.
        encoding: The encoding of files to predict from.
        seed: The seed of the epochs.
    """

    def __init__(
        self,
        vocab_size: int,
        lowercase: bool,
        sample: float,
        batch_size: int,
        encoding: str | None,
        seed: int,
    ) -> None:
        super().__init__(batch_size, batch_size, seed)
        check_encoding(encoding)
        self.vocab_size, self.lowercase = vocab_size, lowercase
        self.sample, self.block_words = sample, batch_size
        self.encoding = encoding
        self.unknown_tokens = UnknownTokens()  # of the texts that `encode_text` was called with

    @property
    @abstractmethod
    def similarities(self) -> dict[str, list[WordPair]]:
        """Pairs of words with their similarity by human judgment, by the name of the set."""

    @property
    @abstractmethod
    def analogies(self) -> list[tuple[str, ...]]:
        """Questions a : b = c : d, four words each."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the run, or of the training text."""
        return self.stored.vocabulary if self.learned is None else self.learned

    @property
    def words(self) -> list[str]:
        """The word of each number; the first four are no words."""
        return self.vocabulary.words

    @property
    def counts(self) -> Tensor:
        """The number of times (V,) that the training text has the word of each number."""
        return self.vocabulary.counts

    def make_split(self, part: Part, batch_size: object, seed: int | None) -> WordBlocks:
        """Return the blocks of one split; an evaluation leaves out frequent words as well."""
        words, documents = self.stored.texts[part]
        keep = keep_probabilities(self.counts, self.sample)
        return WordBlocks(words, documents, keep, self.block_words, self.seed)

    def count_classes(self) -> tuple[int, ...]:
        """Return nothing: there are no classes."""
        return ()

    def description(self) -> dict[str, Any]:
        """Return the vocabulary."""
        return {"words": self.words, "counts": self.counts.tolist()}

    def parse(self, description: dict[str, Any]) -> Vocabulary:
        """Return the vocabulary of a description."""
        words, counts = list(description["words"]), list(description["counts"])
        require(len(SPECIAL) < len(words) <= self.vocab_size, "the number of words is invalid")
        require(len(counts) == len(words), "counts is not one number per word")
        require(all(isinstance(word, str) for word in words), "a word is not text")
        require(all(isinstance(n, int) and n >= 0 for n in counts), "a count is invalid")
        require(sum(counts) > 0, "all counts are 0")
        return Vocabulary(words, torch.tensor(counts))

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the words in every line of a file that is not empty, and why a line has none."""
        for number, line in enumerate(lines(path, self.encoding), 1):
            text = line.strip()
            if not text:
                continue
            try:
                yield Sample(text, self.encode_text(line))
            except InputError as e:
                yield Sample(f"{path}:{number}", None, str(e))

    def encode_text(self, text: str) -> Tensor:
        """Return the numbers (T,) of the known words of a text, and count its unknown words.

        Raises InputError if the run knows none of them.
        """
        words = self.split_words(text)
        known = [self.numbers[word] for word in words if word in self.numbers]
        if not known:
            raise InputError(
                f"{text.strip()!r} is not one of the {len(self.numbers):,} words of the run"
            )
        self.unknown_tokens.add(None if word in self.numbers else word for word in words)
        return torch.tensor(known)

    def split_words(self, text: str) -> list[str]:
        """Split a text at spaces."""
        return (text.lower() if self.lowercase else text).split()

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word."""
        return word_numbers(self.words)


class Words(WordData):
    """The texts of a `source`, whatever their class, to learn vectors of their words from.

    Words that are rare in the training text, and all but the most frequent, are left out of the
    text, as if it had not had them. The questions that vectors are scored by are read from
    `root`/wordsim, as far as their files are there.

    Args:
        root: The data root.
        source: Reads the documents.
        vocab_size: The maximum number of words, four special ones included.
        min_count: Words that the training text has less often are left out.
        lowercase: Whether upper and lower case are the same.
        sample: Words above this fraction of the text are left out at random; 0 keeps
            all. See `keep_probabilities`.
        batch_size: Consecutive words a block.
        val_fraction: The fraction of the documents for validation.
        test_fraction: The fraction of the documents for testing.
        split_seed: The seed by which these documents are drawn.
        parts: Which documents are read: all, or those for training alone (train).
        encoding: The encoding of files to predict from; null: that of the source's files.
        epochs: The default of trainer.epochs.
        seed: The seed of the epochs.

    Raises:
        ValueError: Nothing is left to train on.
        InputError: No word is frequent enough.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        root: Path,
        source: DocumentSource,
        vocab_size: Annotated[int, Gt(4)] = 50_000,
        min_count: PositiveInt = 5,
        lowercase: bool = True,
        sample: NonNegative = 1e-3,
        batch_size: PositiveInt = 2048,
        val_fraction: Fraction = 0.01,
        test_fraction: Fraction = 0.01,
        split_seed: int = 0,
        parts: Literal["all", "train"] = "all",
        encoding: str | None = None,
        epochs: PositiveInt = 5,
        seed: int = 0,
    ) -> None:
        encoding = encoding or source.encoding
        super().__init__(vocab_size, lowercase, sample, batch_size, encoding, seed)
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                "dataset.val_fraction and test_fraction together are all of the text: "
                "leave some to train on"
            )
        self.root, self.source = Path(root), source
        self.min_count, self.parts = min_count, parts
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed = split_seed
        self.epochs = epochs

    @property
    def spec(self) -> Spec:
        """The shape of the data, with about the number of words as samples; no text is read."""
        num_words = self.stated_texts * STATED_TEXT_WORDS
        test_words = round(num_words * self.test_fraction)
        return Spec(
            input_shape=(self.block_words,),
            class_names=(),
            train_samples=num_words - test_words,
            test_samples=test_words,
            vocab_size=self.vocab_size,
        )

    @property
    def stated_texts(self) -> int:
        """About the number of texts."""
        train, test = self.source.samples
        return train + test if self.parts == "all" else train

    def find_files(self) -> None:
        """Raise ConfigError where no file is named and InputError where a named one is absent."""
        if not self.source.named:
            why = "name the text to learn from: dataset.source.path=DIR or FILE.txt"
            raise ConfigError([("dataset.source.path=null", why)])
        if isinstance(self.source, ReadsFiles):
            self.source.find_files()

    def read(self) -> WordContent:
        """Read the documents, divide them into splits, and number their words."""
        self.find_files()
        corpora = {part: corpus for part, (corpus, _) in self.source.read().items()}
        if self.parts == "train":
            corpora = {"train": corpora["train"]}
        settings = TokenizerSettings("word", MAX_COUNTED_WORDS, self.lowercase)
        train_on = range(len(corpora))
        tokenized = tokenize(list(corpora.values()), train_on, settings, self.root)
        tokenizer = tokenized.tokenizer
        tokens = self.divide(documents_of(tokenized))
        names = [tokenizer.token(i) for i in range(tokenizer.vocab_size)]
        if self.learned is None:
            train_tokens, _ = tokens["train"]
            counts = torch.bincount(train_tokens, minlength=tokenizer.vocab_size)
            vocabulary = self.frequent_words(names, counts)
        else:
            vocabulary = self.learned
        known = word_numbers(vocabulary.words)
        numbers = torch.tensor([known.get(name, PAD) for name in names])
        texts = {part: renumbered(document, numbers) for part, document in tokens.items()}
        digest = hashlib.sha256(tokenized.digest.encode()).hexdigest()
        return WordContent(vocabulary, texts, digest)

    def divide(self, documents: Sequence[Tensor]) -> dict[str, Document]:
        """Return the documents of each split, drawn by the split seed."""
        count = len(documents)
        order = torch.randperm(count, generator=keyed(self.split_seed)).tolist()
        num_val, num_test = round(self.val_fraction * count), round(self.test_fraction * count)
        rows = {
            "train": order[num_val + num_test :],
            "val": order[:num_val],
            "test": order[num_val : num_val + num_test],
        }
        return {part: joined([documents[i] for i in own]) for part, own in rows.items()}

    def frequent_words(self, names: Sequence[str], counts: Tensor) -> Vocabulary:
        """Return the words that are known, the most frequent first.

        Args:
            names: All words of the text, V' of them.
            counts: The number of times (V',) that the training text has each.
        """
        counts = counts.clone()
        counts[: len(SPECIAL)] = 0
        most_frequent = counts.argsort(descending=True, stable=True)
        chosen = most_frequent[: self.vocab_size - len(SPECIAL)]
        chosen = chosen[counts[chosen] >= self.min_count]
        if not len(chosen):
            raise InputError(
                f"no word comes {self.min_count} times: there is too little text; "
                "lower dataset.min_count"
            )
        words = [*SPECIAL, *(names[i] for i in chosen.tolist())]
        special_counts = torch.zeros(len(SPECIAL), dtype=torch.int64)
        return Vocabulary(words, torch.cat([special_counts, counts[chosen]]))

    @property
    def similarities(self) -> dict[str, list[WordPair]]:
        """The pairs of each set whose file is in the data root."""
        return similarities(self.root)

    @property
    def analogies(self) -> list[tuple[str, ...]]:
        """The questions of the file in the data root, or a few well-known ones."""
        return analogies(self.root)

    def test_rule(self) -> str:
        """Describe how the test split was chosen."""
        return describe_random_split(self.test_fraction, "the documents", self.split_seed)

    def fake(self) -> FakeWords:
        """Return random text, of the words of the run if there is one."""
        return FakeWords(self.spec, self.block_words, self.seed, self.learned)

    def expected_size_in_bytes(self) -> int:
        """Return about the memory that the text will occupy."""
        return WORD_BYTES * STATED_TEXT_WORDS * self.stated_texts


class FakeWords(WordData):
    """A few documents of random words, for `check` and `debug=smoke`."""

    def __init__(
        self, spec: Spec, batch_size: int, seed: int, known: Vocabulary | None = None
    ) -> None:
        super().__init__(
            vocab_size=spec.vocab_size,
            lowercase=True,
            sample=1e-3,
            batch_size=min(batch_size, FAKE_BLOCK_WORDS),
            encoding=None,
            seed=seed,
        )
        self.described = spec
        self.learned = known

    @property
    def spec(self) -> Spec:
        """The described shape, in small blocks."""
        return replace(self.described, input_shape=(self.block_words,))

    def read(self) -> WordContent:
        """Draw the text, which is that of every split."""
        vocabulary = self.learned or fake_vocabulary(self.vocab_size)
        size = (FAKE_BLOCKS * self.block_words,)
        first, last = len(SPECIAL), len(vocabulary.words)
        words = torch.randint(first, last, size, generator=keyed(self.seed))
        documents = torch.arange(len(words)) // FAKE_DOCUMENT_WORDS
        return WordContent(vocabulary, dict.fromkeys(PARTS, (words, documents)), "fake")

    @property
    def similarities(self) -> dict[str, list[WordPair]]:
        """Nothing: the words mean nothing."""
        return {}

    @property
    def analogies(self) -> list[tuple[str, ...]]:
        """A few questions, none of which the words answer."""
        return list(BUILT_IN_ANALOGIES)

    def fake(self) -> FakeWords:
        """Return this data: it is fake already."""
        return self

    def expected_size_in_bytes(self) -> int:
        """Return the size of the text, which is small enough to make it for it."""
        return self.stored.size_in_bytes()


def fake_vocabulary(vocab_size: int) -> Vocabulary:
    """Return a vocabulary of at most `FAKE_VOCAB_SIZE` made-up words."""
    size = min(vocab_size, FAKE_VOCAB_SIZE)
    words = [*SPECIAL, *(f"word{i}" for i in range(len(SPECIAL), size))]
    counts = torch.full((size,), FAKE_COUNT)
    counts[: len(SPECIAL)] = 0
    return Vocabulary(words, counts)


def word_numbers(words: Sequence[str]) -> dict[str, int]:
    """Return the number of each word, without the special tokens."""
    return {word: i for i, word in enumerate(words) if i >= len(SPECIAL)}


def documents_of(tokenized: Tokenized) -> list[Tensor]:
    """Return the tokens (T,) of every document of all corpora."""
    documents = []
    for ragged in tokenized.texts:
        for start, length in zip(ragged.starts.tolist(), ragged.lengths.tolist(), strict=True):
            documents.append(ragged.flat[start : start + length])
    return documents


def joined(documents: Sequence[Tensor]) -> Document:
    """Return the tokens of all documents in one row, and the number of the document of each."""
    lengths = torch.tensor([len(document) for document in documents], dtype=torch.int64)
    numbers = torch.arange(len(documents), dtype=torch.int32)
    tokens = torch.cat(list(documents)) if documents else torch.empty(0, dtype=torch.int32)
    return tokens, torch.repeat_interleave(numbers, lengths)


def renumbered(document: Document, numbers: Tensor) -> Document:
    """Return words instead of tokens, without those that are not in the vocabulary.

    Args:
        document: Tokens and their documents.
        numbers: The word (V',) of each token; `PAD` for a token that is no word.
    """
    tokens, documents = document
    words = numbers.to(torch.int32)[tokens]
    is_known = words != PAD
    return words[is_known], documents[is_known]
