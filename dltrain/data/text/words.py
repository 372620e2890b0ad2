"""Running text for word vectors: one row of word numbers with the document of each, and what the words are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from torch import Tensor

from dltrain.data.dataset import invalid_description
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.split import drawn_share
from dltrain.data.text.corpus import Corpus, lines, read_text
from dltrain.data.text.similarity import analogies, similarities
from dltrain.data.text.text import Labelled
from dltrain.data.text.text_folder import describe_texts, texts_below
from dltrain.data.text.tokenizer import SPECIAL
from dltrain.data.text.tokens import tokenized
from dltrain.data.text.unknown_tokens import UnknownTokens
from dltrain.data.text.word_split import WordSplit, staying
from dltrain.errors import ConfigError, InputError
from dltrain.rng import keyed
from dltrain.types import PAD, Fraction, Gt, NonNegative, PositiveInt, ReadsFiles, Sample, Spec

MOST_WORDS = 2_000_000  # different ones that are counted
STATED, PER_TEXT = 1000, 250  # texts, and words in one, until they are read
FAKE_WORDS, FAKE_BLOCK = 200, 256
Vocabulary = tuple[list[str], list[int]]


class Texts(Protocol):
    """Where the text comes from: all that `read` gives counts, whatever the part or class. Without a path `named` is
    false; `samples` is about how many texts there are."""

    named: bool
    samples: tuple[int, int]

    def read(self) -> dict[str, Labelled]: ...


class WordFiles:
    """Documents from `path`, here or in the data root: the texts of a folder and of those in it, a
    file each, or the lines of a file.
    """

    def __init__(self, root: Path, path: str | None = None, encoding: str | None = None) -> None:
        check_encoding(encoding)
        self.encoding = encoding
        self.root, self.path, self.named, self.samples = (
            Path(root),
            path,
            path is not None,
            (STATED, 0),
        )

    def find_files(self) -> Path:
        """Return the file or folder; InputError where it is absent."""
        places = [Path(str(self.path)).expanduser(), self.root / str(self.path)]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise InputError(f"{self.path}: there is no such file or folder, nor in {self.root}")
        return found

    def read(self) -> dict[str, Labelled]:
        found = self.find_files()
        if found.is_dir():
            paths, others = texts_below(found)
            describe_texts(found, paths, others)
            texts = (read_text(path, self.encoding).encode() for path in paths)
        else:
            texts = (line.encode() for line in lines(found, self.encoding))
        corpus = Corpus.of(texts)
        if not len(corpus.blob):
            raise InputError(
                f"{found} has no text in it: expected text files, or a file with a document a line"
            )
        return {"train": (corpus, torch.zeros(len(corpus), dtype=torch.int64))}


@dataclass(frozen=True)
class Loaded:
    """The words that are known with how often each comes in the training text, and the text of each split by number."""

    words: list[str]
    counts: Tensor
    parts: dict[str, tuple[Tensor, Tensor]]
    digest: str


class Words:
    """The texts of `source`, whatever their class, to learn vectors of their words from: all of them, or with `parts=train`
    those that it has for training.

    Words that the training text has fewer than `min_count` times, and all but the `vocab_size` most frequent (the numbers
    below 4 stand for no word), are left out of the text, as if it had not had them. A word of the share f of the text stays
    in an epoch with probability sqrt(sample / f) + sample / f (the code of Mikolov et al. 2013, "Distributed
    Representations of Words and Phrases"; their equation 5 lacks the second term); a `sample` of 0 keeps all. A step is a
    block of `batch_size` consecutive words. Of the documents `val_fraction` and `test_fraction` are held out.

    `similarities` and `analogies` are questions to score vectors by, as far as their files lie in `root`/wordsim.
    """

    def __init__(
        self,
        root: Path,
        source: Texts,
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
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                "dataset.val_fraction and test_fraction together are all of the text: leave some to train on"
            )
        self.root, self.source, self.parts, self.vocab_size = Path(root), source, parts, vocab_size
        self.min_count, self.lowercase, self.sample, self.batch_size = (
            min_count,
            lowercase,
            sample,
            batch_size,
        )
        self.val_fraction, self.test_fraction, self.split_seed = (
            val_fraction,
            test_fraction,
            split_seed,
        )
        self.epochs = epochs
        self.seed = seed
        self.encoding = encoding
        self.restored: Vocabulary | None = None
        self.unknown_tokens = UnknownTokens()  # of the texts that were given to encode_text

    @property
    def spec(self) -> Spec:
        """No text is read for it: the vocabulary counts with the size that it may have, and samples are words."""
        words = self._texts() * PER_TEXT
        test = round(words * self.test_fraction)
        return Spec((self.batch_size,), (), words - test, test, vocab_size=self.vocab_size)

    def _texts(self) -> int:
        """About how many there are."""
        return sum(self.source.samples) if self.parts == "all" else self.source.samples[0]

    def find_files(self) -> None:
        if not self.source.named:
            raise ConfigError(
                [
                    (
                        "dataset.source.path=null",
                        "name the text to learn from: dataset.source.path=DIR or FILE.txt",
                    )
                ]
            )
        if isinstance(self.source, ReadsFiles):
            self.source.find_files()

    @cached_property
    def loaded(self) -> Loaded:
        self.find_files()
        corpora = [
            corpus
            for part, (corpus, _) in self.source.read().items()
            if self.parts in ("all", part)
        ]
        everything = list(range(len(corpora)))
        tokenizer, found, digest = tokenized(
            corpora, everything, "word", MOST_WORDS, self.lowercase, self.root
        )
        texts = [
            ragged.flat[s : s + n]
            for ragged in found
            for s, n in zip(ragged.starts.tolist(), ragged.lengths.tolist(), strict=True)
        ]
        order = torch.randperm(len(texts), generator=keyed(self.split_seed)).tolist()
        held = round(self.val_fraction * len(texts)), round(self.test_fraction * len(texts))
        rows = {
            "val": order[: held[0]],
            "test": order[held[0] : sum(held)],
            "train": order[sum(held) :],
        }
        flat = {part: joined([texts[i] for i in some]) for part, some in rows.items()}
        counts = torch.bincount(flat["train"][0], minlength=tokenizer.vocab_size)
        counts[: len(SPECIAL)] = 0
        names = [tokenizer.token(i) for i in range(tokenizer.vocab_size)]
        if self.restored:
            number = {word: i for i, word in enumerate(self.restored[0])}
            numbers = torch.tensor([number.get(name, PAD) for name in names])
            words, known = self.restored[0], torch.tensor(self.restored[1])
        else:
            chosen = counts.argsort(descending=True, stable=True)[: self.vocab_size - len(SPECIAL)]
            chosen = chosen[counts[chosen] >= self.min_count]
            if not len(chosen):
                raise InputError(
                    f"no word comes {self.min_count} times: there is too little text (dataset.min_count)"
                )
            numbers = torch.zeros(len(names), dtype=torch.int64)
            numbers[chosen] = torch.arange(len(SPECIAL), len(SPECIAL) + len(chosen))
            words = [*SPECIAL, *(names[i] for i in chosen.tolist())]
            known = torch.cat([torch.zeros(len(SPECIAL), dtype=torch.int64), counts[chosen]])
        return Loaded(
            words, known, {part: numbered(*one, numbers) for part, one in flat.items()}, digest
        )

    @property
    def words(self) -> list[str]:
        """The word of each number; those of the first four are no words."""
        return self.restored[0] if self.restored else self.loaded.words

    @property
    def counts(self) -> Tensor:
        """How often the training text has the word of each number."""
        return torch.tensor(self.restored[1]) if self.restored else self.loaded.counts

    @property
    def similarities(self) -> dict[str, list[tuple[str, str, float]]]:
        return similarities(self.root)

    @property
    def analogies(self) -> list[tuple[str, ...]]:
        return analogies(self.root)

    @property
    def train(self) -> WordSplit:
        return self.split("train")

    @property
    def val(self) -> WordSplit:
        return self.split("val")

    @property
    def test(self) -> WordSplit:
        return self.split("test")

    def split(self, name: str) -> WordSplit:
        words, documents = self.loaded.parts[name]
        return WordSplit(
            words, documents, staying(self.counts, self.sample), self.batch_size, self.seed
        )

    def test_rule(self) -> str:
        return drawn_share(self.test_fraction, "the documents", self.split_seed)

    @property
    def class_counts(self) -> tuple[int, ...]:
        return ()

    def fake(self) -> FakeWords:
        """Random text: of the words of a run where there is one."""
        return FakeWords(self.spec, self.batch_size, self.seed, self.restored)

    def to(self, device: torch.device) -> None: ...

    def size_in_bytes(self) -> int:
        """Of what is read; before that about."""
        if "loaded" not in self.__dict__:
            return 8 * PER_TEXT * self._texts()
        return sum(
            t.numel() * t.element_size() for pair in self.loaded.parts.values() for t in pair
        )

    def fingerprint(self) -> str:
        return hashlib.sha256(self.loaded.digest.encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        return {"words": self.words, "counts": self.counts.tolist()}

    def restore(self, description: dict[str, Any]) -> None:
        try:
            words, counts = list(description["words"]), list(description["counts"])
        except (KeyError, TypeError) as e:
            raise invalid_description(repr(e)) from e
        sound = len(SPECIAL) < len(words) == len(counts) <= self.vocab_size
        sound = (
            sound
            and all(isinstance(w, str) for w in words)
            and all(isinstance(n, int) and n >= 0 for n in counts)
        )
        if not sound or not sum(counts):
            raise invalid_description("its words or their counts are none")
        self.restored = words, counts

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Of each file the words, one an input."""
        for path in paths:
            try:
                found = lines(path, self.encoding)
            except InputError as e:
                yield Sample(str(path), None, str(e))
                continue
            for number, line in enumerate(found, 1):
                if line.strip():
                    yield (
                        Sample(line.strip(), self.encode_text(line))
                        if self.knows(line)
                        else Sample(
                            f"{path}:{number}",
                            None,
                            f"{line.strip()} is no word that the run knows",
                        )
                    )

    def knows(self, text: str) -> bool:
        return any(word in self.numbers for word in self.split_up(text))

    def encode_text(self, text: str) -> Tensor:
        """The numbers (T,) of the words that are known; InputError where none is."""
        found = [self.numbers[word] for word in self.split_up(text) if word in self.numbers]
        if not found:
            raise InputError(
                f"{text!r} is not one of the {len(self.numbers):,} words that the run knows"
            )
        self.unknown_tokens.add(
            None if word in self.numbers else word for word in self.split_up(text)
        )
        return torch.tensor(found)

    def split_up(self, text: str) -> list[str]:
        return (text.lower() if self.lowercase else text).split()

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words) if i >= len(SPECIAL)}


class FakeWords(Words):
    """What `check` and `debug=smoke` run on: a few documents of random words."""

    def __init__(self, spec: Spec, batch_size: int, seed: int, known: Vocabulary | None) -> None:
        super().__init__(
            Path(),
            WordFiles(Path()),
            spec.vocab_size,
            batch_size=min(batch_size, FAKE_BLOCK),
            seed=seed,
        )
        some = min(spec.vocab_size, FAKE_WORDS)
        self.restored = known or (
            [*SPECIAL, *(f"word{i}" for i in range(len(SPECIAL), some))],
            [0] * 4 + [5] * (some - 4),
        )
        text = torch.randint(
            len(SPECIAL), len(self.words), (4 * self.batch_size,), generator=keyed(seed)
        )
        documents = torch.arange(len(text)) // 100
        parts = dict.fromkeys(("train", "val", "test"), (text, documents))
        self.__dict__["loaded"] = Loaded(self.words, self.counts, parts, "fake")

    @property
    def similarities(self) -> dict[str, list[tuple[str, str, float]]]:
        return {}

    def fake(self) -> FakeWords:
        return self

    def fingerprint(self) -> str:
        return "fake"


def joined(texts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """All texts in one row, and the number of the text of each place."""
    lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
    flat = torch.cat(texts) if texts else torch.empty(0, dtype=torch.int32)
    return flat, torch.repeat_interleave(torch.arange(len(texts), dtype=torch.int32), lengths)


def numbered(flat: Tensor, documents: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The row in other numbers, without the places of words that have none."""
    words = numbers.to(torch.int32)[flat]
    there = words != PAD
    return words[there], documents[there]
