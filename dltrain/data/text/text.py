"""Texts to classify, split into tokens, in batches of texts of about the same length."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dltrain.data.dataset import Dataset, Part, no_training_samples, require
from dltrain.data.held_out.advice import Sides
from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.rule import (
    check_fold,
    describe_random_split,
    held_out_mask,
    refuse_own_validation_set,
)
from dltrain.data.io.layout.describe import printable_names
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.io.values import KnownTexts
from dltrain.data.split import Balance
from dltrain.data.text.corpus import (
    JSON_LINES,
    TABLES,
    LabeledCorpus,
    TextNames,
    read_text,
    records,
)
from dltrain.data.text.fake_tokens import FakeTokens
from dltrain.data.text.token_cache import TokenizerSettings, tokenize
from dltrain.data.text.tokenizer import (
    Tokenizer,
    TokenizerKind,
    UnknownTokens,
    sufficient_vocab_size,
    trained_tokenizer,
)
from dltrain.data.text.tokens import Batching, Keep, Ragged, TokenSplit, joined
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, Fraction, Ge, Gt, PositiveInt, ReadsFiles, Sample, Spec

SMOKE_CLASSES = ("a", "b")  # for debug=smoke without a file
STATED_LENGTH = 10_000  # tokens of a text that nothing limits, until the data is read
CLASS_BYTES = 8  # of a class number
RAGGED_BYTES = 16  # of the begin and the length of a text
TOKEN_BYTES = 4


class TextSource(Protocol):
    """A source of texts with classes; if `named` is false no file is named and nothing is read."""

    named: bool
    text: str
    """The name of the texts' column in a table to predict from."""

    @property
    def encoding(self) -> str | None:
        """The encoding of text files; None: UTF-8, or what a byte order mark says."""

    @property
    def samples(self) -> tuple[int, int]:
        """The numbers of training and test texts, as far as they are known without reading."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes by their numbers."""

    def read(self) -> dict[str, LabeledCorpus]:
        """Return the texts of "train" and, if they have texts of their own, of "val" and "test".

        Raises:
            InputError: A file cannot be read.
        """


@runtime_checkable
class GroupsTexts(Protocol):
    """A source that knows which texts stay on one side of every split."""

    def group_advice(self, sides: Sides) -> list[str]:
        """Return lines on training texts that seem to belong together, on both `sides` (N,)."""

    def text_groups(self, part: str) -> Groups | None:
        """Return the groups of the texts that it read for "train", "val" or "test".

        None without groups.
        """


@dataclass(frozen=True)
class TextContent:
    """All texts as tokens, and their class numbers (N,)."""

    tokenizer: Tokenizer
    texts: Ragged
    targets: Tensor
    rows: dict[str, Tensor]
    """The rows of each split."""

    digest: str
    made_test: bool
    """True if the test split was made of training texts, because there is no test set."""

    sizes: dict[str, int]
    """The number of texts of each set that was read, in their order."""

    def size_in_bytes(self) -> int:
        """Return the memory that texts and classes occupy."""
        return self.texts.size_in_bytes() + self.targets.numel() * CLASS_BYTES

    def fingerprint(self) -> str:
        """Return the digest of texts and classes."""
        return self.digest


@dataclass(frozen=True)
class LearnedTexts:
    """The part of a run's description that texts are read by."""

    tokenizer: Tokenizer
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    digest: object
    """The digest of the texts that the run was trained on; None if it is unknown."""


class Text(Dataset[TextContent, LearnedTexts, TokenSplit]):
    """The texts of a `source` and their classes; the tokenizer is trained on the training texts.

    Batches are (tokens (B, T), classes (B,)), padded with 0 to the longest text of the batch.
    Tokens are read from a cache in the data root if an earlier run made them of the same texts.

    Args:
        root: The data root.
        source: Reads the texts.
        tokenizer: The parts that texts are split into.
        vocab_size: The maximum number of tokens that a model knows, four special ones included;
            rarer ones are unknown.
        lowercase: Whether upper and lower case are the same.
        max_length: The maximum number of tokens of a text; null: unlimited.
        keep: The part of a longer text that is kept.
        batch_size: Texts a batch.
        eval_batch_size: Texts a batch of an evaluation.
        bucketing: Whether texts of about the same length make a batch.
        tokens_per_batch: Tokens a batch, padding included, instead of `batch_size` texts.
        val_fraction: The share of the training texts for validation, the same of every class, if
            the source has no validation texts.
        test_fraction: The share of all texts for testing if the source has no test texts.
        folds: Validate on one of so many equal parts, instead of `val_fraction`.
        fold: The number of that part, from 0.
        split_seed: The seed by which these texts are drawn.
        epochs: The default of trainer.epochs.
        balance: How rare classes are treated; see dltrain.data.split.
        encoding: The encoding of files to predict from; null: that of the source's files.
        seed: The seed of the order of the training texts.

    Raises:
        InputError: A file is not text, names a class that no training text has, or there is only
            one class; the message names file and line.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        root: Path,
        source: TextSource,
        tokenizer: TokenizerKind = "word",
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
        fold: Annotated[int, Ge(0)] | None = None,
        split_seed: int = 0,
        epochs: PositiveInt = 5,
        balance: Balance = "none",
        encoding: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed)
        check_encoding(encoding)
        check_fold(folds, fold)
        if balance == "sampler" and tokens_per_batch is not None:
            raise ValueError(
                "balance=sampler draws texts of any length: "
                "dataset.batch_size, not tokens_per_batch, counts them"
            )
        self.root = Path(root)
        self.source = source
        self.encoding = encoding or source.encoding
        self.vocab_size = sufficient_vocab_size(tokenizer, vocab_size)
        self.tokenizer_settings = TokenizerSettings(tokenizer, self.vocab_size, lowercase)
        self.max_length, self.keep = max_length, keep
        self.bucketing, self.tokens_per_batch = bucketing, tokens_per_batch
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.folds, self.fold = folds, fold
        self.split_seed = split_seed
        self.epochs, self.balance = epochs, balance
        self.keeps_columns = False
        self.unknown_tokens = UnknownTokens()  # of the texts that `encode_text` was called with

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the run, or of the texts; InputError if there is only one class."""
        if self.learned is not None:
            return self.learned.class_names
        names = self.source.class_names if self.source.named else SMOKE_CLASSES
        if len(names) < 2:
            only = names[0] if names else "none"
            raise InputError(f"the texts are all of one class, {only}: there is nothing to learn")
        return names

    @property
    def spec(self) -> Spec:
        """The shape of the data; the vocabulary has its maximum size, so nothing is tokenized."""
        train_samples, test_samples = self.source.samples
        return Spec(
            input_shape=(self.max_length or STATED_LENGTH,),
            class_names=self.class_names,
            train_samples=train_samples,
            test_samples=test_samples,
            vocab_size=self.vocab_size,
            decode=self.decode,
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token numbers."""
        return self.tokenizer.decode(tokens)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run, or of the training texts."""
        return self.stored.tokenizer if self.learned is None else self.learned.tokenizer

    def find_files(self) -> None:
        """Raise ConfigError where no file is named and InputError where a named one is absent."""
        if not self.source.named:
            raise ConfigError(
                [("dataset.path=null", "name the texts to train on: dataset.path=DIR or FILE.csv")]
            )
        if isinstance(self.source, ReadsFiles):
            self.source.find_files()

    def read(self) -> TextContent:
        """Read the texts of every split and turn them into tokens."""
        self.find_files()
        sets = self.source.read()
        tokenized = tokenize(
            [corpus for corpus, _ in sets.values()],
            train_on=[list(sets).index("train")],
            settings=self.tokenizer_settings,
            root=self.root,
            trained=None if self.learned is None else self.learned.tokenizer,
        )
        targets = torch.cat([targets for _, targets in sets.values()])
        hasher = hashlib.sha256(tokenized.digest.encode() + targets.numpy().tobytes())
        digest = hasher.hexdigest()
        is_other_data = False
        if self.learned is not None:
            is_other_data = self.learned.digest not in (None, digest)
            targets = self.as_trained(targets, self.learned.class_names)
        texts = [ragged.cut(self.max_length, self.keep) for ragged in tokenized.texts]
        sizes = {name: len(corpus) for name, (corpus, _) in sets.items()}
        rows = consecutive_rows(sizes)
        return TextContent(
            tokenizer=tokenized.tokenizer,
            texts=joined(texts),
            targets=targets,
            rows=self.assign_rows(rows, targets, is_other_data),
            digest=digest,
            made_test="test" not in sets and not is_other_data,
            sizes=sizes,
        )

    def as_trained(self, targets: Tensor, trained: Sequence[str]) -> Tensor:
        """Return class numbers (N,) of the source as the numbers that the run gave these classes.

        Raises InputError for a class that the run does not know. Names are compared by their
        values, as labels in a table: 1 and 1.0 are the same class.
        """
        names = self.source.class_names
        known = KnownTexts(trained)
        numbers = [known.find(name) for name in names]
        unknown = [name for name, number in zip(names, numbers, strict=True) if number < 0]
        if unknown:
            raise InputError(
                f"the run knows no class {printable_names(sorted(unknown))}; "
                f"its classes are {printable_names(trained)}"
            )
        return torch.tensor(numbers, dtype=torch.int64)[targets]

    def assign_rows(
        self, rows: dict[str, Tensor], targets: Tensor, is_other_data: bool
    ) -> dict[str, Tensor]:
        """Return the rows of each split, from the rows of the sets that the source has.

        Texts other than those of the run (`is_other_data`) are all for testing, unless they have a
        test set.
        """
        if not len(rows["train"]) and self.learned is None:
            raise InputError(
                "there are no texts to train on, only texts of other splits: "
                "name the training folder train"
            )
        groups = None
        if not is_other_data:
            groups = self.training_groups(rows)
        if "test" not in rows:
            held = held_out_mask(
                targets[rows["train"]], self.test_fraction, self.split_seed, groups=groups
            )
            rows = hold_out(rows, "test", held | is_other_data)
            if groups is not None:
                groups = groups[~held]
        if "val" in rows:
            refuse_own_validation_set(self.folds)
        else:
            held = held_out_mask(
                targets[rows["train"]],
                self.val_fraction,
                self.split_seed,
                self.folds,
                self.fold,
                groups,
            )
            rows = hold_out(rows, "val", held)
        if not len(rows["train"]) and self.learned is None:
            raise no_training_samples()
        return rows

    def training_groups(self, sets: dict[str, Tensor]) -> Groups | None:
        """Return the groups of the training texts; None if the source knows none.

        A warning says which groups other `sets` have too.
        """
        if not isinstance(self.source, GroupsTexts):
            return None
        groups = self.source.text_groups("train")
        if groups is None:
            return None
        for name in sorted(sets.keys() - {"train"}):
            others = self.source.text_groups(name)
            if others is not None:
                groups.warn_of_shared(others, "training", name)
        return groups

    def split_advice(self) -> list[str]:
        """Return lines on texts that seem to belong together and are on both sides of the split."""
        if not isinstance(self.source, GroupsTexts) or self.learned is not None:
            return []
        count = self.stored.sizes["train"]
        is_training = torch.zeros(len(self.stored.targets), dtype=torch.bool)
        is_training[self.stored.rows["train"]] = True
        return self.source.group_advice(Sides(self.stored.targets[:count], is_training[:count]))

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> TokenSplit:
        """Return the batches of one split."""
        content = self.stored
        tokens_per_batch, classes = None, None
        if seed is not None:
            tokens_per_batch = self.tokens_per_batch
        if seed is not None and self.balance == "sampler":
            classes = content.targets
        batching = Batching(
            content.rows[part],
            content.texts.lengths,
            batch_size,
            seed,
            self.bucketing,
            tokens_per_batch,
            classes,
        )
        return TokenSplit(content.texts.to(self.device), content.targets.to(self.device), batching)

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names a row by the file or the line of its text."""
        return TextNames(self.source, self.stored.sizes)

    def count_classes(self) -> tuple[int, ...]:
        """Return the number of training texts of each class, of the run or of the texts."""
        if self.learned is not None:
            return self.learned.class_counts
        return self.train.class_counts(len(self.class_names))

    def test_rule(self) -> str:
        """Describe how the test split was chosen; "" for a test set of its own."""
        if not self.stored.made_test:
            return ""
        return describe_random_split(self.test_fraction, "the texts of each class", self.split_seed)

    def fake(self) -> FakeTokens:
        """Return random tokens of the same vocabulary, in the same classes.

        Only a run's vocabulary is known, so only its tokens are decoded to words.
        """
        spec = self.spec
        if self.learned is None:
            spec = replace(spec, decode=None)
        return FakeTokens(spec, self.batch_size, self.seed)

    def expected_size_in_bytes(self) -> int:
        """Return the memory that texts of the maximum length would occupy."""
        text_bytes = TOKEN_BYTES * (self.max_length or STATED_LENGTH) + RAGGED_BYTES + CLASS_BYTES
        return sum(self.source.samples) * text_bytes

    def description(self) -> dict[str, Any]:
        """Return the classes, the tokenizer, and the digest of the texts."""
        return {
            "class_names": list(self.class_names),
            "class_counts": list(self.class_counts),
            "tokenizer": self.tokenizer.to_json(),
            "digest": self.stored.digest,
        }

    def parse(self, description: dict[str, Any]) -> LearnedTexts:
        """Return the content of a description."""
        names = tuple(description["class_names"])
        counts = tuple(description["class_counts"])
        tokenizer = description["tokenizer"]
        require(len(names) > 1, "it has fewer than two classes")
        require(all(isinstance(name, str) for name in names), "a class name is not text")
        require(len(counts) == len(names), "class_counts is not one number per class")
        require(all(isinstance(n, int) and n >= 0 for n in counts), "a class count is invalid")
        require(isinstance(tokenizer, str), "tokenizer is not text")
        return LearnedTexts(
            trained_tokenizer(tokenizer, self.vocab_size), names, counts, description.get("digest")
        )

    def keep_columns(self) -> None:
        """Have `encode` put every column of a row into what is known about its sample."""
        self.keeps_columns = True

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the text in a file, or every text in a csv, tsv or jsonl file."""
        if path.suffix.lower() not in (*TABLES, *JSON_LINES):
            yield Sample(str(path), self.encode_text(read_text(path, self.encoding)))
            return
        column = self.source.text
        for record in records(path, [column], self.encoding):
            tokens = self.encode_text(record.fields[column])
            about = record.fields if self.keeps_columns else {}
            yield Sample(f"{path}:{record.line}", tokens, about=about)

    def encode_text(self, text: str) -> Tensor:
        """Return the token numbers (T,) of a text, and count its unknown tokens."""
        tokens, unknown = self.tokenizer.encode_one(text)
        if self.max_length is not None:
            kept = slice(self.max_length) if self.keep == "head" else slice(-self.max_length, None)
            tokens, unknown = tokens[kept], unknown[kept]
        self.unknown_tokens.add(unknown)
        return torch.from_numpy(tokens).long()


def consecutive_rows(sizes: dict[str, int]) -> dict[str, Tensor]:
    """Return the rows of each set where all sets lie one after the other."""
    rows = {}
    first = 0
    for name, size in sizes.items():
        rows[name] = torch.arange(first, first + size)
        first += size
    return rows


def hold_out(rows: dict[str, Tensor], split: str, held: Tensor) -> dict[str, Tensor]:
    """Return the rows with a new split, made of those training rows (N,) where `held` is true."""
    train = rows["train"]
    return {**rows, split: train[held], "train": train[~held]}
