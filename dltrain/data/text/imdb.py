"""IMDB: reviews of films, for or against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch

from dltrain.data.io.archive import BROKEN, Hostile, from_tar
from dltrain.data.io.download import Published, fetch
from dltrain.data.io.text_encoding import decode
from dltrain.data.text.corpus import Corpus, folder_texts
from dltrain.data.text.text import Labelled
from dltrain.errors import InputError

MOST = 2**28  # bytes of all reviews, with those without a verdict
PARTS = ("train", "test")
CLASSES = {"neg": "negative", "pos": "positive"}


class IMDB:
    """25000 + 25000 reviews (Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis"), from `root`/aclImdb, a file a
    review; or, where that folder is not, from the archive as it is published, which need not be unpacked."""

    mirrors: ClassVar[tuple[str, ...]] = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
    archive: ClassVar[dict[str, Published]] = {
        "aclImdb_v1.tar.gz": Published(84_125_825, "7c2ac02c03563afcf9b574c7e56c153a")
    }
    named = True
    text = "text"
    samples = (25_000, 25_000)
    class_names = tuple(CLASSES.values())

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.folder = self.root / "aclImdb"

    def read(self) -> dict[str, Labelled]:
        found = self.from_folder() if self.folder.is_dir() else self.from_archive()
        return {part: labelled(found, part) for part in PARTS}

    def from_folder(self) -> dict[tuple[str, str], list[bytes]]:
        texts = {(p, c): list(folder_texts(self.folder / p / c)) for p in PARTS for c in CLASSES}
        for (part, name), some in texts.items():
            if not some:
                raise InputError(
                    f"{self.folder / part / name} has no review in it: expected .txt files"
                )
        return texts

    def from_archive(self) -> dict[tuple[str, str], list[bytes]]:
        fetch(
            self.mirrors,
            self.archive,
            self.root,
            instead=f"or the unpacked folder aclImdb into {self.root.resolve()}",
        )
        archive = self.root / next(iter(self.archive))
        texts: dict[tuple[str, str], dict[str, bytes]] = {
            (p, c): {} for p in PARTS for c in CLASSES
        }
        try:
            for name, content in from_tar(archive, Reviews(), MOST):
                text = content.read()
                decode(text, name)
                _, part, label, file = name.split("/")
                texts[part, label][file] = text
        except BROKEN as e:
            raise InputError(
                f"{archive} cannot be unpacked ({e}); delete it to download it again"
            ) from e
        return {place: [text for _, text in sorted(some.items())] for place, some in texts.items()}


class Reviews:
    """The members of the archive that have a verdict."""

    def __contains__(self, name: object) -> bool:
        parts = str(name).split("/")
        inside = len(parts) == 4 and parts[1] in PARTS and parts[2] in CLASSES
        if inside and ".." in parts:
            raise Hostile(f"{name} would leave its folder")
        return inside and parts[3].endswith(".txt")


def labelled(texts: dict[tuple[str, str], list[bytes]], part: str) -> Labelled:
    groups = [texts[part, name] for name in CLASSES]
    targets = torch.repeat_interleave(
        torch.arange(len(groups)), torch.tensor([len(group) for group in groups])
    )
    return Corpus.of(chained(groups)), targets


def chained(groups: list[list[bytes]]) -> Iterator[bytes]:
    for group in groups:
        yield from group
