"""The texts in a folder: which of its files are texts, by their endings, and which of its folders
are classes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from dltrain.data.io.layout.arrange import arrange
from dltrain.data.io.layout.describe import EXPECTED
from dltrain.data.io.layout.describe import describe_files as counted
from dltrain.data.io.layout.describe import printable as shown
from dltrain.data.io.layout.folders import paths_below
from dltrain.data.io.layout.plan import Layout
from dltrain.data.text.corpus import read_text
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
PLAIN = ".txt"
PACKED = ".gz"
# Every other file is read as a text, whatever its ending, such as .md, .TXT, or none.
NO_TEXT = """
    .csv .tsv .json .jsonl .ndjson .parquet .feather .arrow .feat .xls .xlsx .ods .pdf .doc .docx .odt .rtf .ppt .pptx .epub
    .mobi .zip .tar .tgz .bz2 .xz .7z .rar .zst .pkl .pickle .npy .npz .pt .pth .h5 .hdf5 .mat .db .sqlite .ini .lnk .exe .dll
    .so .bin .dat .bmp .gif .jpeg .jpg .png .tif .tiff .webp .svg .ico .mp3 .wav .flac .ogg .mp4 .avi .mov .mkv .pyc
"""
NO_TEXT_ENDINGS = frozenset(NO_TEXT.split())
Texts = tuple[list[bytes], list[str]]  # and the class of each


def is_text(name: str) -> bool:
    """Return whether a file's ending is not one of tables, archives, documents, pictures and the
    like.
    """
    return ending(name) not in NO_TEXT_ENDINGS


def ending(name: str) -> str:
    """Return the ending of a file's name in lower case, without that of a file that is packed by
    gzip.
    """
    stem, last = os.path.splitext(name.lower())  # noqa: PTH122 - a Path for each of many files takes seconds
    return os.path.splitext(stem)[1] if last == PACKED else last  # noqa: PTH122


def texts_below(folder: Path | str) -> tuple[list[Path], list[str]]:
    """Return the paths of the texts below a folder, in their order, and the names of its other
    files that are not hidden.
    """
    files = paths_below(folder)
    return [path for path in files if is_text(path.name)], [
        path.name for path in files if not is_text(path.name)
    ]


def describe_texts(folder: Path | str, texts: Sequence[Path], others: Sequence[str]) -> None:
    """Log which files of a folder are read although they do not end in .txt, and which are left
    out.
    """
    if unusual := [path.name for path in texts if ending(path.name) != PLAIN]:
        log.info(f"{shown(str(folder))}: read as texts: {counted(unusual)}")
    if others:
        log.warning(
            f"{shown(str(folder))}: {counted(others)} left out: not texts, by their endings"
        )


class TextFolder:
    """Texts in DIR/<class>/ or DIR/{train,val,test}/<class>/, at any depth below, a file each.

    Folders with the usual names of splits are no classes, unless `classes` names them: see
    dltrain.data.io.layout. InputError for a training class without a text and for a class that no
    training text has.
    """

    def __init__(self, path: Path, classes: Sequence[str] | None = None) -> None:
        self.path = path
        self.classes = classes
        self.described = False

    @cached_property
    def layout(self) -> Layout:
        """The folders that are classes and splits."""
        if not any(texts_below(self.path)):
            raise InputError(f"{self.path} has no text in it; expected {EXPECTED}")
        return arrange(self.path, self.classes)

    @cached_property
    def listed(self) -> tuple[dict[str, list[tuple[Path, str]]], list[str]]:
        """The path and the class of each text in every split, and the names of the files that are
        no texts.
        """
        found: dict[str, list[tuple[Path, str]]] = {}
        others: list[str] = []
        for split, classes in self.layout.parts.items():
            found[split] = []
            for name, folders in sorted(classes.items()):
                texts, left = self.of_class(folders)
                if not texts and split == "train":
                    has = f", but {counted(left)}" if left else ""
                    raise InputError(
                        f"{self.layout.places[split]}: there is no text in {shown(name)}{has}"
                    )
                if not texts:
                    self.layout.notes.append(
                        f"{self.layout.places[split]}: there is no text in {shown(name)}"
                    )
                found[split] += [(path, shown(name)) for path in texts]
                others += left
        self.refuse_unknown_classes()
        return found, others

    def of_class(self, folders: Sequence[str]) -> tuple[list[Path], list[str]]:
        """Return the texts of a class, and the names of its other files."""
        parts = [texts_below(folder) for folder in folders]
        return [path for texts, _ in parts for path in texts], [
            name for _, others in parts for name in others
        ]

    def refuse_unknown_classes(self) -> None:
        """Raise InputError for a class of another split that the training set has not."""
        known = self.layout.parts.get("train")
        for classes in self.layout.parts.values():
            if known is not None and (unknown := sorted(set(classes) - set(known))):
                raise InputError(
                    f"{shown(classes[unknown[0]][0])}: no training text has this class"
                )

    def describe(self) -> None:
        """Log what of the folder is left out and what was decided about its folders, once."""
        if not self.described:
            texts, others = self.listed
            for note in self.layout.notes:
                log.warning(shown(note))
            describe_texts(self.path, [path for part in texts.values() for path, _ in part], others)
        self.described = True

    def read(self, encoding: str | None) -> dict[str, Texts]:
        """Read the texts of every split, in UTF-8 or the `encoding`."""
        return {
            split: (
                [read_text(path, encoding).encode() for path, _ in files],
                [name for _, name in files],
            )
            for split, files in self.listed[0].items()
        }
