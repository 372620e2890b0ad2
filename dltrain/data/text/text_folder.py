"""The texts in a folder: which of its files are texts, and which of its folders are classes.

A file is a text unless its ending says otherwise.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

from dltrain.data.io.layout.arrange import arrange
from dltrain.data.io.layout.describe import EXPECTED, describe_files, printable
from dltrain.data.io.layout.folders import paths_below
from dltrain.data.io.layout.plan import Layout
from dltrain.data.text.corpus import read_text
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
PLAIN = ".txt"
PACKED = ".gz"
# Every other file is read as a text, whatever its ending, such as .md, .TXT, or none.
NO_TEXT = """
    .csv .tsv .json .jsonl .ndjson .parquet .feather .arrow .feat .xls .xlsx .ods
    .pdf .doc .docx .odt .rtf .ppt .pptx .epub .mobi
    .zip .tar .tgz .bz2 .xz .7z .rar .zst
    .pkl .pickle .npy .npz .pt .pth .h5 .hdf5 .mat .db .sqlite .ini .lnk
    .exe .dll .so .bin .dat .pyc
    .bmp .gif .jpeg .jpg .png .tif .tiff .webp .svg .ico
    .mp3 .wav .flac .ogg .mp4 .avi .mov .mkv
"""
NO_TEXT_ENDINGS = frozenset(NO_TEXT.split())
LabeledTexts = tuple[list[bytes], list[str]]
"""Texts in UTF-8, and the class of each."""


def is_text(name: str) -> bool:
    """Return False for the ending of a table, an archive, a document, a picture or the like."""
    return ending(name) not in NO_TEXT_ENDINGS


def ending(name: str) -> str:
    """Return the ending of a file's name in lower case, before the .gz of a packed file."""
    # A Path for each of many files would take seconds.
    stem, last = os.path.splitext(name.lower())  # noqa: PTH122
    if last == PACKED:
        last = os.path.splitext(stem)[1]  # noqa: PTH122
    return last


def texts_below(folder: Path | str) -> tuple[list[Path], list[str]]:
    """Return the texts below a folder in order, and the names of its other visible files."""
    texts, others = [], []
    for path in paths_below(folder):
        if is_text(path.name):
            texts.append(path)
        else:
            others.append(path.name)
    return texts, others


def describe_texts(folder: Path | str, texts: Sequence[Path], others: Sequence[str]) -> None:
    """Log which texts of a folder do not end in .txt, and which files are left out."""
    unusual = [path.name for path in texts if ending(path.name) != PLAIN]
    if unusual:
        log.info(f"{printable(str(folder))}: read as texts: {describe_files(unusual)}")
    if others:
        names = describe_files(others)
        log.warning(f"{printable(str(folder))}: {names} left out: not texts, by their endings")


class TextFolder:
    """Texts in DIR/<class>/ or DIR/{train,val,test}/<class>/, at any depth, a file each.

    Folders with the usual names of splits are not classes, unless `classes` names them; see
    dltrain.data.io.layout.
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

    @property
    def folders_of_classes(self) -> frozenset[str]:
        """The paths of the class folders of every split."""
        by_class = chain.from_iterable(classes.values() for classes in self.layout.parts.values())
        return frozenset(chain.from_iterable(by_class))

    @cached_property
    def files(self) -> tuple[dict[str, list[tuple[Path, str]]], list[str]]:
        """The path and the class of each text in every split, and the names of the other files.

        Raises:
            InputError: A training class has no text, or a class has texts in another split alone.
        """
        by_split: dict[str, list[tuple[Path, str]]] = {}
        others: list[str] = []
        for split, classes in self.layout.parts.items():
            by_split[split] = []
            for name, folders in sorted(classes.items()):
                texts, other_names = texts_of_class(folders)
                if not texts:
                    self._report_empty_class(split, name, other_names)
                by_split[split] += [(path, printable(name)) for path in texts]
                others += other_names
        self.refuse_unknown_classes()
        return by_split, others

    def _report_empty_class(self, split: str, name: str, others: Sequence[str]) -> None:
        """Raise InputError for a training class without a text; note one of another split."""
        message = f"{self.layout.places[split]}: there is no text in {printable(name)}"
        if split != "train":
            self.layout.notes.append(message)
        elif others:
            raise InputError(f"{message}, but {describe_files(others)}")
        else:
            raise InputError(message)

    def refuse_unknown_classes(self) -> None:
        """Raise InputError for a class of another split that the training set does not have."""
        known = self.layout.parts.get("train")
        if known is None:
            return
        for classes in self.layout.parts.values():
            unknown = sorted(set(classes) - set(known))
            if unknown:
                folder = classes[unknown[0]][0]
                raise InputError(f"{printable(folder)}: no training text has this class")

    def describe(self) -> None:
        """Log which files are left out and how folders were understood, once."""
        if self.described:
            return
        by_split, others = self.files
        for note in self.layout.notes:
            log.warning(printable(note))
        texts = [path for files in by_split.values() for path, _ in files]
        describe_texts(self.path, texts, others)
        self.described = True

    def read(self, encoding: str | None) -> dict[str, LabeledTexts]:
        """Read the texts of every split, in UTF-8 or the `encoding`."""
        by_split, _ = self.files
        texts = {}
        for split, files in by_split.items():
            contents = [read_text(path, encoding).encode() for path, _ in files]
            texts[split] = contents, [name for _, name in files]
        return texts


def texts_of_class(folders: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the texts of a class, and the names of its other files."""
    texts: list[Path] = []
    others: list[str] = []
    for folder in folders:
        own_texts, own_others = texts_below(folder)
        texts += own_texts
        others += own_others
    return texts, others
