"""Texts of the user's own: a folder for each class, or a file with a row for each text."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch

from dltrain.data.io.values import MISSING_WORDS, KnownTexts, value_key
from dltrain.data.split import Balance
from dltrain.data.tabular.table import column_name, column_names
from dltrain.data.text.corpus import JSON_LINES, TABLES, Corpus, records
from dltrain.data.text.text import Labelled, Text
from dltrain.data.text.text_folder import TextFolder, Texts
from dltrain.data.text.tokenizer import Kind
from dltrain.data.text.tokens import Keep
from dltrain.errors import InputError
from dltrain.types import BatchSize, ColumnName, Fraction, Ge, Gt, PositiveInt

log = logging.getLogger("dltrain")
EXPECTED = "a folder with texts in a folder for each class (or train/ and test/ with such), or a csv, tsv or jsonl file"
STATED = 1000  # texts, until they are read


class FileTexts:
    """Texts from `path`: a folder with the folders of `classes`, and perhaps of splits (see
    dltrain.data.text.text_folder); or a csv, tsv or jsonl file whose columns `text` and `label` are text
    and class.

    Further files or folders `val_path` and `test_path` are for validation and testing. Files are
    UTF-8 or in the `encoding`. InputError, with file and line, for what is not, for a class that is
    not among the training texts', and where there is no text.
    """

    def __init__(
        self,
        root: Path,
        path: str | None = None,
        text: ColumnName = "text",
        label: ColumnName = "label",
        val_path: str | None = None,
        test_path: str | None = None,
        encoding: str | None = None,
        classes: Sequence[ColumnName] | None = None,
    ) -> None:
        self.root = Path(root)
        self.named = path is not None
        self.encoding = encoding
        self.classes = column_names(classes) or None
        self.text, self.label = column_name(text), column_name(label)
        self.paths = {"train": path, "val": val_path, "test": test_path}

    @property
    def samples(self) -> tuple[int, int]:
        """How many texts there are, as far as that is known."""
        if "found" not in self.__dict__:
            return STATED, STATED
        counts = {part: len(texts) for part, (texts, _) in self.found.items()}
        return counts["train"] + counts.get("val", 0), counts.get("test", 0)

    @property
    def class_names(self) -> tuple[str, ...]:
        labels = self.found["train"][1] or [
            name for _, names in self.found.values() for name in names
        ]
        return tuple(sorted(set(labels)))

    def read(self) -> dict[str, Labelled]:
        number = {name: k for k, name in enumerate(self.class_names)}
        return {
            part: (
                Corpus.of(texts),
                torch.tensor([number[label] for label in labels], dtype=torch.int64),
            )
            for part, (texts, labels) in self.found.items()
        }

    @cached_property
    def found(self) -> dict[str, Texts]:
        """Texts and classes of every part that there is."""
        found: dict[str, Texts] = {"train": ([], [])}
        for part, path in self.places.items():
            if path in self.folders:
                texts = self.folders[path].read(self.encoding)
                found |= texts if part == "train" else {part: texts.get(part) or texts["train"]}
            else:
                found[part] = self.read_table(
                    path, set(found["train"][1]) if part != "train" else None
                )
        if not any(texts for texts, _ in found.values()):
            raise InputError(f"{self.places['train']} has no text in it: expected {EXPECTED}")
        self.refuse_unknown_classes(found)
        return found

    def refuse_unknown_classes(self, found: dict[str, Texts]) -> None:
        """Raise InputError for a class that no training text has."""
        known = set(found["train"][1])
        for part, (_, labels) in found.items():
            if known and (unknown := sorted(set(labels) - known)):
                place = self.places.get(part, self.places["train"])
                raise InputError(f"{place}: no training text has the class '{unknown[0]}'")

    @cached_property
    def places(self) -> dict[str, Path]:
        """The named files and folders; InputError where one is absent."""
        return {part: self.place(name) for part, name in self.paths.items() if name is not None}

    @cached_property
    def folders(self) -> dict[Path, TextFolder]:
        """The named folders."""
        return {
            path: TextFolder(path, self.classes) for path in self.places.values() if path.is_dir()
        }

    def find_files(self) -> None:
        """Raise InputError where a named file or folder is absent; log what of a folder is left
        out, once.
        """
        for folder in self.folders.values():
            folder.describe()

    def place(self, name: str) -> Path:
        """The file or folder, here or in the data root."""
        here, there = Path(name).expanduser(), self.root / name
        if not here.exists() and not there.exists():
            raise InputError(f"{here}: there is no such file or folder, nor in {self.root}")
        return here if here.exists() else there

    def read_table(self, path: Path, known: set[str] | None = None) -> Texts:
        """The rows of a file, whose classes have to be among the `known` ones."""
        if path.suffix.lower() not in (*TABLES, *JSON_LINES):
            raise InputError(f"{path}: expected {EXPECTED}")
        texts, labels = [], []
        text, label = self.text, self.label
        first: dict[str, tuple[str, int]] = {}
        trained = sorted(known or ())
        found = KnownTexts(trained)
        for record in records(path, (text, label), self.encoding):
            name = record.fields[label].strip()
            if not name:
                raise InputError(
                    f"{path}:{record.line}: the field '{label}' is empty: it names the text's class"
                )
            if known is None:
                refuse_same_value(path, record.line, name, first)
            elif (position := found.find(name)) < 0:
                raise InputError(f"{path}:{record.line}: no training text has the class '{name}'")
            else:
                name = trained[position]
            texts.append(record.fields[text].encode(errors="replace"))
            labels.append(name)
        if known is None:
            warn_of_missing_labels(path, labels)
        return texts, labels


def refuse_same_value(path: Path, line: int, label: str, first: dict[str, tuple[str, int]]) -> None:
    """Raise InputError for a label that is one value with another one, such as 1 and 1.0, as for
    tables.

    `first` holds the first text and line of every value so far.
    """
    other, at = first.setdefault(value_key(label), (label, line))
    if other != label:
        raise InputError(
            f"{path}:{line}: the label {label!r} is the same value as {other!r} ({path}:{at}): write it in one way"
        )


def warn_of_missing_labels(path: Path, labels: Sequence[str]) -> None:
    """Say which labels mean "no value" in a table: here they are classes."""
    for label, count in sorted(Counter(labels).items()):
        if label in MISSING_WORDS:
            log.warning(
                f"{path}: the label {label!r} ({count:,} times) is a class here, not a missing label"
            )


class TextFiles(Text):
    """Texts of the user's own from `path`, and from `val_path` and `test_path` where those are named: a folder for each
    class, or a file whose columns `text` and `label` say what is to be classified, and its class."""

    def __init__(
        self,
        root: Path,
        path: str | None = None,
        text: ColumnName = "text",
        label: ColumnName = "label",
        val_path: str | None = None,
        test_path: str | None = None,
        encoding: str | None = None,
        classes: Sequence[ColumnName] | None = None,
        tokenizer: Kind = "word",
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
        fold: Annotated[int, Ge(0)] = 0,
        split_seed: int = 0,
        epochs: PositiveInt = 5,
        balance: Balance = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(
            root,
            FileTexts(root, path, text, label, val_path, test_path, encoding, classes),
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            lowercase=lowercase,
            max_length=max_length,
            keep=keep,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            bucketing=bucketing,
            tokens_per_batch=tokens_per_batch,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            folds=folds,
            fold=fold,
            split_seed=split_seed,
            epochs=epochs,
            balance=balance,
            encoding=encoding,
            seed=seed,
        )
