"""Running text to continue: the user's own files, and plays of Shakespeare's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import torch

from dltrain.data.io.download import OWN_PROSE, Published, fetch
from dltrain.data.io.layout.describe import describe_files
from dltrain.data.io.layout.split_names import group_by_split, split_names
from dltrain.data.io.places import existing_paths
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.text.corpus import read_text
from dltrain.data.text.text_folder import describe_texts, texts_below
from dltrain.errors import InputError
from dltrain.rng import keyed

log = logging.getLogger("dltrain")
SPLITS = ("train", "val", "test")
OTHER = "rest"  # names that mean a part of a data set, but none of the splits
UNNAMED = ""


class ProseSource(Protocol):
    """A source of running text; if `named` is false no file is named and nothing is read."""

    named: bool

    @property
    def encoding(self) -> str | None:
        """The encoding of text files; None: UTF-8, or what a byte order mark says."""

    def read(self) -> dict[str, str]:
        """Return the text of "train" and, if they have texts of their own, of "val" and "test".

        Raises:
            InputError: A file cannot be read.
        """


class ProseFiles:
    """The text of a file, or of all text files in a folder in the order of their names.

    Files and folders in a folder with the usual names of splits, such as wiki.valid.txt or test/,
    are for validation and testing.

    Args:
        root: The data root, where files are looked for if they are not here.
        path: The file or folder to train on.
        val_path: A file or folder to validate on.
        test_path: A file or folder to test on.
        encoding: The encoding, such as latin-1; null: UTF-8, or what a byte order mark says.
    """

    def __init__(
        self,
        root: Path,
        path: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        encoding: str | None = None,
    ) -> None:
        check_encoding(encoding)
        self.root = Path(root)
        self.named = path is not None
        self.encoding = encoding
        self.paths = dict(zip(SPLITS, (path, val_path, test_path), strict=True))

    def find_files(self) -> None:
        """Raise InputError where a named file or folder is absent."""
        self._named_paths()

    def _named_paths(self) -> dict[str, Path]:
        """Return the named files and folders by split."""
        named = {split: name for split, name in self.paths.items() if name is not None}
        return existing_paths(named, self.root)

    def read(self) -> dict[str, str]:
        """Return the text of each split that has text of its own."""
        paths = self._named_paths()
        texts = self._texts_by_split(paths.pop("train"))
        for split, path in paths.items():
            texts[split] = self._text(path, text_files(path))
        return texts

    def _texts_by_split(self, path: Path) -> dict[str, str]:
        """Return the text of each split that a folder has, or the training text of a file."""
        if not path.is_dir():
            return {"train": self._text(path, [path])}
        texts = {}
        for split, files in files_by_split(path, text_files(path)).items():
            if files or split == "train":
                texts[split] = self._text(path, files)
        return texts

    def _text(self, path: Path, files: Sequence[Path]) -> str:
        """Return the text of all `files` at `path`."""
        text = "\n".join(read_text(file, self.encoding) for file in files)
        if not text.strip():
            raise InputError(f"{path} has no text in it")
        return text


def text_files(path: Path) -> list[Path]:
    """Return the text files of a folder, and log its other files; or the file at `path`."""
    if not path.is_dir():
        return [path]
    files, others = texts_below(path)
    describe_texts(path, files, others)
    return files


def files_by_split(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files of each split by their names, and log what is left out.

    Files without the name of a split are for training if no other file is.
    """
    splits = named_splits(folder, files)
    by_split: dict[str, list[Path]] = {split: [] for split in (*SPLITS, OTHER, UNNAMED)}
    for file in files:
        by_split[splits.get(file, UNNAMED)].append(file)
    unnamed, rest = by_split.pop(UNNAMED), by_split.pop(OTHER)
    if by_split["train"]:
        log_left_out(folder, unnamed, " beside the files for training")
    else:
        by_split["train"] = unnamed
    log_left_out(folder, rest, ": neither for training nor for testing, by the name")
    if splits:
        counts = [f"{len(own)} for {split}" for split, own in by_split.items() if own]
        log.info(f"{folder}: {', '.join(counts)}, by the name")
    return by_split


def named_splits(folder: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Return the split of each file below a folder whose name, or folder, means a split."""
    names = {file: file.relative_to(folder).parts[0].removesuffix(file.suffix) for file in files}
    splits = {}
    for split, own in group_by_split(split_names(dict.fromkeys(names.values()))).items():
        splits.update(dict.fromkeys(own, split))
    return {file: splits[name] for file, name in names.items() if name in splits}


def log_left_out(folder: Path, files: Sequence[Path], why: str) -> None:
    """Log the names of files that are not read, if there are any."""
    if files:
        names = describe_files([file.name for file in files])
        log.warning(f"{folder}: {names} left out{why}")


class Shakespeare:
    """A million characters of Shakespeare's plays.

    Karpathy 2015, "The Unreasonable Effectiveness of Recurrent Neural Networks". It is read from
    `root`/text/tinyshakespeare-input.txt or, as it is published, `root`/tinyshakespeare/input.txt.
    """

    named = True
    encoding = None
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
    )
    files: ClassVar[dict[str, Published]] = {
        "input.txt": Published(1_115_394, "6fb458f1232090904fb40fe944165e91")
    }

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def read(self) -> dict[str, str]:
        """Return the training text; it is downloaded if it is absent."""
        path = self.root / "text" / "tinyshakespeare-input.txt"
        if not path.is_file():
            folder = self.root / "tinyshakespeare"
            renamed = f"input.txt as {path.resolve()}"
            fetch(self.mirrors, self.files, folder, [renamed, OWN_PROSE])
            path = folder / "input.txt"
        return {"train": read_text(path)}


class RandomLetters:
    """Random words of one letter, for `check` and `debug=smoke`."""

    named = True
    encoding = None

    def __init__(self, count: int) -> None:
        self.count = count

    def read(self) -> dict[str, str]:
        """Return the same text of `count` letters for each split."""
        low, high = ord("a"), ord("z") + 1
        codes = torch.randint(low, high, (self.count,), generator=keyed(0)).tolist()
        return dict.fromkeys(SPLITS, " ".join(map(chr, codes)))
