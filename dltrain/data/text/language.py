"""Running text to be continued: cut into blocks, or read on in several places at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from dltrain.data.dataset import invalid_description
from dltrain.data.io.download import Published, fetch
from dltrain.data.io.layout.describe import describe_files as counted
from dltrain.data.io.layout.split_names import group_by_split as by_split
from dltrain.data.io.layout.split_names import split_names
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.text.corpus import Corpus, read_text
from dltrain.data.text.text import least, restored_tokenizer
from dltrain.data.text.text_folder import describe_texts, texts_below
from dltrain.data.text.tokenizer import SPECIAL, Kind, Tokenizer
from dltrain.data.text.tokens import tokenized
from dltrain.data.text.unknown_tokens import UnknownTokens
from dltrain.errors import ConfigError, InputError
from dltrain.rng import keyed
from dltrain.types import Fraction, PositiveInt, ReadsFiles, Sample, Spec

log = logging.getLogger("dltrain")
PIECE = 100_000  # characters that are tokenized at once
STAND_IN = 64  # tokens of a vocabulary where no text is named: for debug=smoke
FAKE_BATCHES = 4
EVALUATION_PLACES = 64  # in which a streamed text is read at once, whatever the batch size
PARTS = ("train", "val", "test")


class Prose(Protocol):
    """Where running text comes from. `named` is false where none is named, and then nothing is asked of it."""

    named: bool

    def read(self) -> dict[str, str]:
        """The text of "train" and, if there are any of their own, of "val" and "test"; InputError where it cannot be read."""


class FileProse:
    """The text of a file, or of all text files in a folder by name, here or in `root`: UTF-8 or in
    the `encoding`.

    Files and folders in a folder with the usual names of splits, such as wiki.valid.txt or test/,
    are for validation and testing.
    """

    def __init__(
        self,
        root: Path,
        path: str | None,
        val_path: str | None = None,
        test_path: str | None = None,
        encoding: str | None = None,
    ) -> None:
        check_encoding(encoding)
        self.root = root
        self.named = path is not None
        self.encoding = encoding
        self.paths = dict(zip(PARTS, (path, val_path, test_path), strict=True))

    def read(self) -> dict[str, str]:
        named = {part: self.place(name) for part, name in self.paths.items() if name is not None}
        texts = self.parts_of(named["train"])
        texts |= {
            part: self.text(path, self.files_of(path))
            for part, path in named.items()
            if part != "train"
        }
        return texts

    def parts_of(self, path: Path) -> dict[str, str]:
        """Return the text of each part that a folder has, or of a file that for training."""
        if not path.is_dir():
            return {"train": self.text(path, [path])}
        files = self.files_of(path)
        splits = split_files(path, files)
        unnamed = [file for file in files if file not in splits]
        parts = {part: [file for file in files if splits.get(file) == part] for part in PARTS}
        if parts["train"] and unnamed:
            log.warning(
                f"{path}: {counted([file.name for file in unnamed])} left out beside the files for training"
            )
        elif not parts["train"]:
            parts["train"] = unnamed
        if rest := [file.name for file in files if splits.get(file) == "rest"]:
            log.warning(
                f"{path}: {counted(rest)} left out: neither for training nor for testing, by the name"
            )
        if splits:
            log.info(
                f"{path}: {', '.join(f'{len(some)} for {part}' for part, some in parts.items() if some)}, by the name"
            )
        return {
            part: self.text(path, some) for part, some in parts.items() if some or part == "train"
        }

    def find_files(self) -> None:
        """Raise InputError where a named file or folder is absent."""
        for name in self.paths.values():
            if name is not None:
                self.place(name)

    def place(self, name: str) -> Path:
        """Return the file or folder, here or in the data root; InputError where there is none."""
        here, there = Path(name).expanduser(), self.root / name
        if not here.exists() and not there.exists():
            raise InputError(f"{here}: there is no such file or folder, nor in {self.root}")
        return here if here.exists() else there

    def files_of(self, path: Path) -> list[Path]:
        """Return the text files of a folder, after logging what is left out of it; or the file."""
        if not path.is_dir():
            return [path]
        files, others = texts_below(path)
        describe_texts(path, files, others)
        return files

    def text(self, path: Path, files: list[Path]) -> str:
        """Return the text of all `files` at `path`."""
        text = "\n".join(read_text(file, self.encoding) for file in files)
        if not text.strip():
            raise InputError(f"{path} has no text in it")
        return text


def split_files(folder: Path, files: list[Path]) -> dict[Path, str]:
    """Return the split of each of the `files` below a folder whose name, or the name of whose
    folder, means one.
    """
    names = {file: file.relative_to(folder).parts[0].removesuffix(file.suffix) for file in files}
    named = split_names(dict.fromkeys(names.values()))
    splits = {name: split for split, some in by_split(named).items() for name in some}
    return {file: splits[name] for file, name in names.items() if name in splits}


class Shakespeare:
    """A million characters of Shakespeare's plays (Karpathy 2015, "The Unreasonable Effectiveness of Recurrent Neural
    Networks"), from `root`/text/tinyshakespeare-input.txt or, as it is published, `root`/tinyshakespeare/input.txt."""

    named = True
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
    )
    files: ClassVar[dict[str, Published]] = {
        "input.txt": Published(1_115_394, "6fb458f1232090904fb40fe944165e91")
    }

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def read(self) -> dict[str, str]:
        path = self.root / "text" / "tinyshakespeare-input.txt"
        if not path.is_file():
            fetch(
                self.mirrors,
                self.files,
                self.root / "tinyshakespeare",
                instead=f"or, as {path.name}, into {path.parent}",
            )
            path = self.root / "tinyshakespeare" / "input.txt"
        return {"train": read_text(path)}


class Made:
    """Random words of one letter: for debug=smoke."""

    named = True

    def __init__(self, characters: int) -> None:
        self.characters = characters

    def read(self) -> dict[str, str]:
        letters = torch.randint(
            ord("a"), ord("z") + 1, (self.characters,), generator=keyed(0)
        ).tolist()
        return dict.fromkeys(PARTS, " ".join(map(chr, letters)))


@dataclass(frozen=True)
class Loaded:
    tokenizer: Tokenizer
    parts: dict[str, Tensor]
    digest: str
    made_test: bool  # of the training text's end, for there was no other


class Blocks:
    """Batches (tokens (B, T), the tokens that follow each (B, T), which rows begin anew (B,)) of one long text (N,).

    An epoch cuts the text into blocks of `length`, with a `seed` from a random place on, and takes them in random order.
    With `stream` a batch is read in B places at once, and the next one goes on where they ended.
    """

    def __init__(
        self, tokens: Tensor, length: int, batch_size: int, seed: int | None, stream: bool
    ) -> None:
        self.tokens, self.length, self.seed, self.stream = tokens, length, seed, stream
        self.room = len(tokens) - (
            length if seed is not None else 1
        )  # what a random beginning leaves
        self.blocks = max(0, self.room // length)
        self.batch_size = min(batch_size, self.blocks) if stream else batch_size
        self.samples = (
            self.blocks // max(1, self.batch_size) * self.batch_size if stream else self.blocks
        )

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size) if self.samples else 0

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        device, steps = self.tokens.device, torch.arange(self.length + 1, device=self.tokens.device)
        order = self.order(number).to(device)
        for position in range(start, len(self)):
            starts = order[position * self.batch_size : (position + 1) * self.batch_size]
            rows = self.tokens[starts.unsqueeze(1) + steps].long()
            fresh = torch.full((len(rows),), not self.stream or position == 0, device=device)
            yield rows[:, :-1], rows[:, 1:], fresh

    def order(self, number: int) -> Tensor:
        """Where each block of an epoch begins."""
        if self.seed is None:
            starts, shuffled = torch.arange(self.blocks) * self.length, None
        else:
            generator = keyed(self.seed, number)
            shift = torch.randint(self.length, (), generator=generator)
            starts = shift + torch.arange(self.blocks) * self.length
            shuffled = torch.randperm(self.blocks, generator=generator)
        if self.stream:
            return starts[: self.samples].view(self.batch_size, -1).T.flatten()
        return starts if shuffled is None else starts[shuffled]

    def state_dict(self) -> dict[str, Any]:
        return {}  # a batch is a function of (seed, epoch, position)

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Streams:
    """Evaluation batches of one long text (N,), as those of `Blocks`, for a network that carries
    its state.

    The text is read in `EVALUATION_PLACES` places at once, of which a batch has as many as fit into
    it: so the scores do not depend on the batch size. A place is read to its end before the next
    ones are begun, and no block is left out. A batch has the same places as the one before it, or
    the first of them.
    """

    def __init__(self, tokens: Tensor, length: int, batch_size: int) -> None:
        self.tokens = tokens
        self.length = length
        self.samples = max(0, (len(tokens) - 1) // length)
        self.places = min(EVALUATION_PLACES, self.samples)
        self.batch_size = max(1, min(batch_size, self.places))

    def __len__(self) -> int:
        return sum(1 for _ in self.numbers())

    def numbers(self) -> Iterator[tuple[int, Tensor]]:
        """Yield how far on a batch is from where its places begin, and the numbers of its blocks
        (B,).
        """
        if not self.samples:
            return
        shortest, longer = divmod(self.samples, self.places)
        places = torch.arange(self.places)
        begins = places * shortest + places.clamp(max=longer)
        sizes = shortest + (places < longer).long()
        for some, count in zip(
            begins.split(self.batch_size), sizes.split(self.batch_size), strict=True
        ):
            for position in range(int(count.max())):
                yield position, some[count > position] + position

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        device = self.tokens.device
        steps = torch.arange(self.length + 1, device=device)
        for position, numbers in islice(self.numbers(), start, None):
            starts = (numbers * self.length).to(device)
            rows = self.tokens[starts.unsqueeze(1) + steps].long()
            fresh = torch.full((len(rows),), position == 0, device=device)
            yield rows[:, :-1], rows[:, 1:], fresh

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class LanguageModeling:
    """Text to be continued, from the file or folder `path` (or from a `source`), a token after the other.

    `tokenizer` and `vocab_size` as for texts to classify; without a `vocab_size` there are as many tokens as the training
    text has. A sample is `length` tokens. Without `stream` it begins anywhere; with it a network that carries its state goes
    on from one batch to the next, and its gradient ends where a batch begins: truncated back-propagation through time
    (Williams and Peng 1990). The last `test_fraction` of the text is for testing and what is before that `val_fraction` for
    validation, unless `test_path` and `val_path` have texts for it. InputError for a text too short for a block.
    """

    def __init__(
        self,
        root: Path,
        path: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        encoding: str | None = None,
        tokenizer: Kind = "character",
        vocab_size: PositiveInt | None = None,
        lowercase: bool = False,
        length: PositiveInt = 64,
        stream: bool = False,
        batch_size: PositiveInt = 64,
        eval_batch_size: PositiveInt = 64,
        val_fraction: Fraction = 0.05,
        test_fraction: Fraction = 0.05,
        epochs: PositiveInt = 5,
        source: Prose | None = None,
        seed: int = 0,
    ) -> None:
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                "dataset.val_fraction and dataset.test_fraction leave nothing to train on: lower them"
            )
        if vocab_size is not None and vocab_size <= len(SPECIAL):
            raise ValueError(
                f"dataset.vocab_size={vocab_size}: {len(SPECIAL)} of them are special; more are needed"
            )
        self.root, self.encoding = Path(root), encoding
        self.source = source or FileProse(Path(root), path, val_path, test_path, encoding)
        self.kind, self.lowercase, self.length, self.stream = tokenizer, lowercase, length, stream
        self.vocab_size = (
            least(tokenizer, vocab_size) if vocab_size else least(tokenizer, 0) or None
        )
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.epochs, self.seed, self.device = epochs, seed, torch.device("cpu")
        self.restored: Tokenizer | None = None
        self.unknown_tokens = UnknownTokens()  # of the texts that were given to encode_text
        self.decoder: Tokenizer | None = None  # where it is not the one that the text was split by

    @property
    def spec(self) -> Spec:
        """Without a `vocab_size` the text is read for it."""
        read = "loaded" in self.__dict__
        return Spec(
            input_shape=(self.length,),
            class_names=(),
            train_samples=self.train.samples + self.val.samples if read else 1000,
            test_samples=self.test.samples if read else 1000,
            vocab_size=self.vocab_size or self.found_vocabulary,
            continues=self.stream,
            decode=self.decode,
        )

    @property
    def found_vocabulary(self) -> int:
        return self.tokenizer.vocab_size if self.restored or self.source.named else STAND_IN

    def decode(self, tokens: Sequence[int]) -> str:
        return (self.decoder or self.tokenizer).decode(tokens)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.restored or self.loaded.tokenizer

    def find_files(self) -> None:
        if not self.source.named:
            raise ConfigError(
                [("dataset.path=null", "name the text to train on: dataset.path=FILE.txt or DIR")]
            )
        if isinstance(self.source, ReadsFiles):
            self.source.find_files()

    @cached_property
    def loaded(self) -> Loaded:
        self.find_files()
        found = self.source.read()
        texts = self.parts(found)
        corpora = [
            Corpus.of(piece.encode(errors="replace") for piece in pieces(text))
            for text in texts.values()
        ]
        most = self.vocab_size or 2**31 - 1
        tokenizer, ragged, digest = tokenized(
            corpora, [0], self.kind, most, self.lowercase, self.root, self.restored
        )
        return Loaded(
            tokenizer,
            {part: one.flat for part, one in zip(texts, ragged, strict=True)},
            digest,
            "test" not in found,
        )

    def parts(self, texts: dict[str, str]) -> dict[str, str]:
        """The text for training, for validation and for testing."""
        train = texts["train"]
        for part, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            if part not in texts:
                held = round(fraction * len(texts["train"]))
                train, texts = (
                    train[: len(train) - held],
                    {**texts, part: train[len(train) - held :]},
                )
        return {"train": train, "val": texts["val"], "test": texts["test"]}

    def test_rule(self) -> str:
        if not self.loaded.made_test:
            return ""
        return f"the last {100 * self.test_fraction:g} % of the text, dataset.test_fraction"

    def split(self, part: str, batch_size: int, seed: int | None) -> Blocks | Streams:
        tokens = self.loaded.parts[part].to(self.device)
        blocks: Blocks | Streams
        if self.stream and seed is None:
            blocks = Streams(tokens, self.length, batch_size)
        else:
            blocks = Blocks(tokens, self.length, batch_size, seed, self.stream)
        if not blocks.samples and (part == "train" or len(tokens)):
            raise InputError(
                f"the {part} text has {len(tokens):,} tokens: too few for a block of dataset.length={self.length} "
                f"and the token after it{' from any place on' if seed is not None else ''}"
            )
        return blocks

    @cached_property
    def train(self) -> Blocks | Streams:
        return self.split("train", self.batch_size, self.seed)

    @cached_property
    def val(self) -> Blocks | Streams:
        return self.split("val", self.eval_batch_size, None)

    @cached_property
    def test(self) -> Blocks | Streams:
        return self.split("test", self.eval_batch_size, None)

    @property
    def class_counts(self) -> tuple[int, ...]:
        return ()

    def fake(self) -> LanguageModeling:
        """Random letters in blocks of the same length, numbered as if they were of the same vocabulary."""
        size = min(self.batch_size, 16)
        fake = LanguageModeling(
            self.root,
            tokenizer="whitespace",
            vocab_size=self.spec.vocab_size,
            length=self.length,
            stream=self.stream,
            batch_size=size,
            eval_batch_size=size,
            source=Made((FAKE_BATCHES * size + 1) * self.length + 1),
            seed=self.seed,
        )
        fake.to(self.device)
        fake.decoder = self.restored  # what a run's network says means what it meant there
        return fake

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        return (
            sum(4 * len(tokens) for tokens in self.loaded.parts.values())
            if self.source.named
            else 0
        )

    def fingerprint(self) -> str:
        return self.loaded.digest

    def description(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.to_json()}

    def restore(self, description: dict[str, Any]) -> None:
        text = description.get("tokenizer")
        if not isinstance(text, str):
            raise invalid_description("there is no tokenizer")
        self.restored = restored_tokenizer(text, self.vocab_size or 2**31)

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Of each file its whole text."""
        for path in paths:
            try:
                yield Sample(str(path), self.encode_text(read_text(path, self.encoding)))
            except InputError as e:
                yield Sample(str(path), None, str(e))

    def encode_text(self, text: str) -> Tensor:
        tokens, unknown = self.tokenizer.encode_one(text)
        self.unknown_tokens.add(unknown)
        return torch.from_numpy(tokens).long()


def pieces(text: str) -> Iterator[str]:
    """`text` in pieces of about `PIECE` characters that end where a line does, if one does."""
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + PIECE) + 1
        end = end if end > start and start + PIECE < len(text) else start + PIECE
        yield text[start:end]
        start = end
