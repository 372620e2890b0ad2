"""Texts of the user's own: a folder for each class, or a file with a row for each text."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from dltrain.data.held_out.advice import Sides, column_advice, id_columns, path_advice
from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.path_groups import path_rule
from dltrain.data.io.places import existing_paths
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.io.values import MISSING_WORDS, KnownTexts, value_key
from dltrain.data.tabular.table import column_name, column_names
from dltrain.data.text.corpus import (
    JSON_LINES,
    TABLES,
    Corpus,
    LabeledCorpus,
    records,
)
from dltrain.data.text.text_folder import LabeledTexts, TextFolder
from dltrain.errors import InputError
from dltrain.shell import setting
from dltrain.types import ColumnName

log = logging.getLogger("dltrain")
EXPECTED = (
    "a folder with texts in a folder for each class (or train/ and test/ with such), "
    "or a csv, tsv or jsonl file"
)
STATED_TEXTS = 1000  # until they are read


class LabeledTextFiles:
    """Texts and their classes from a folder, or from a csv, tsv or jsonl file.

    Args:
        root: The data root, where files are looked for if they are not here.
        path: A folder with a folder for each class, and perhaps each split (see
            dltrain.data.text.text_folder), or a file with a row for each text.
        text: The column of the texts in a file.
        label: The column of their classes.
        val_path: A file or folder to validate on.
        test_path: A file or folder to test on.
        encoding: The encoding, such as latin-1; null: UTF-8, or what a byte order mark says.
        classes: The folders that are classes; null: all but those with the name of a split.
        group: Texts of a group stay on one side of every split: a column of a file, or a rule by
            which paths in a folder are in groups (dltrain.data.held_out.path_groups).
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
        group: ColumnName | None = None,
    ) -> None:
        check_encoding(encoding)
        self.root = Path(root)
        self.named = path is not None
        self.encoding = encoding
        self.classes = column_names(classes) or None
        self.text, self.label = column_name(text), column_name(label)
        self.group = None if group is None else column_name(group)
        self.paths = {"train": path, "val": val_path, "test": test_path}
        self._labeled_texts: dict[str, LabeledTexts] | None = None

    @property
    def samples(self) -> tuple[int, int]:
        """The numbers of training and test texts, stated ones until the files are read."""
        if self._labeled_texts is None:
            return STATED_TEXTS, STATED_TEXTS
        counts = {split: len(texts) for split, (texts, _) in self._labeled_texts.items()}
        return counts["train"] + counts.get("val", 0), counts.get("test", 0)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the training texts, or of all texts if there are none for training."""
        _, training_labels = self.labeled_texts["train"]
        all_labels = (labels for _, labels in self.labeled_texts.values())
        names = set(training_labels) or set().union(*all_labels)
        return tuple(sorted(names))

    def read(self) -> dict[str, LabeledCorpus]:
        """Return the texts and class numbers of each split that there is.

        Raises:
            InputError: A file is not text, a text has a class that no training text has, or there
                is not text; the message names file and line.
        """
        number = {name: k for k, name in enumerate(self.class_names)}
        sets = {}
        for split, (texts, labels) in self.labeled_texts.items():
            targets = torch.tensor([number[label] for label in labels], dtype=torch.int64)
            sets[split] = Corpus.from_texts(texts), targets
        return sets

    @property
    def labeled_texts(self) -> dict[str, LabeledTexts]:
        """The texts and classes of each split that there is, which are read once."""
        if self._labeled_texts is None:
            self._labeled_texts = self._read_all()
        return self._labeled_texts

    def _read_all(self) -> dict[str, LabeledTexts]:
        sets: dict[str, LabeledTexts] = {"train": ([], [])}
        for split, path in self.places.items():
            if path not in self.folders:
                trained = None if split == "train" else set(sets["train"][1])
                sets[split] = self.read_table(path, trained)
                continue
            own_sets = self.folders[path].read(self.encoding)
            if split == "train":
                sets |= own_sets
            else:
                sets[split] = own_sets.get(split) or own_sets["train"]
        if not any(texts for texts, _ in sets.values()):
            raise InputError(f"{self.places['train']} has no text in it: expected {EXPECTED}")
        self.refuse_unknown_classes(sets)
        return sets

    def text_names(self, part: str) -> Sequence[str]:
        """Return the file of each text of a split, or the line of a table."""
        names: dict[str, list[str]] = {}
        for split, path in self.places.items():
            if path not in self.folders:
                rows = records(path, (self.text, self.label), self.encoding)
                names[split] = [f"{path}:{record.line}" for record in rows]
                continue
            by_split, _ = self.folders[path].files
            own = {name: [str(file) for file, _ in files] for name, files in by_split.items()}
            if split == "train":
                names |= own
            else:
                names[split] = own.get(split) or own["train"]
        return names.get(part, [])

    def text_groups(self, part: str) -> Groups | None:
        """Return the groups of the texts of a split; None without `group`.

        None also for a file other than the training file that lacks the column.

        Raises:
            InputError: A training text has no group; the message names it.
        """
        if self.group is None:
            return None
        path = self.places.get(part, self.places["train"])
        if path in self.folders:
            return self.groups_of_files(path, self.text_names(part))
        return self.groups_of_rows(path, required=part == "train")

    def groups_of_files(self, folder: Path, files: Sequence[str]) -> Groups | None:
        """Return the groups of texts that are files below a folder."""
        rule = path_rule(self.group)
        assert rule is not None
        return rule.groups(files, self.folders[folder].folders_of_classes)

    def groups_of_rows(self, path: Path, required: bool) -> Groups | None:
        """Return the groups of the texts in a file, by its column of that name."""
        assert self.group is not None
        names = []
        columns = (self.text, self.label, self.group) if required else (self.text, self.label)
        for record in records(path, columns, self.encoding):
            name = value_key(record.fields.get(self.group, ""))
            if name in MISSING_WORDS and required:
                raise InputError(
                    f"{path}:{record.line}: the field '{self.group}' is empty: dataset.group needs "
                    "it in every row"
                )
            names.append(name)
        if not required and not any(names):
            return None
        return Groups.from_names(names, setting("dataset.group", self.group))

    def group_advice(self, sides: Sides) -> list[str]:
        """Return lines on training texts that seem to belong together, on both `sides` (N,)."""
        if self.group is not None:
            return []
        path = self.places["train"]
        if path not in self.folders:
            return self.column_advice(path, sides)
        folders = self.folders[path].folders_of_classes
        return [line for line in [path_advice(self.text_names("train"), folders, sides)] if line]

    def column_advice(self, path: Path, sides: Sides) -> list[str]:
        """Return a line on each column of a file whose values seem to be groups."""
        rows = [record.fields for record in records(path, (), self.encoding)]
        lines = []
        for name in id_columns(list(rows[0])):
            if name in (self.text, self.label):
                continue
            values = (value_key(row.get(name, "")) for row in rows)
            groups = Groups.from_names(values, setting("dataset.group", name))
            lines.append(column_advice(name, groups, sides))
        return [line for line in lines if line]

    def refuse_unknown_classes(self, sets: dict[str, LabeledTexts]) -> None:
        """Raise InputError for a class that no training text has."""
        known = set(sets["train"][1])
        if not known:
            return
        for split, (_, labels) in sets.items():
            unknown = sorted(set(labels) - known)
            if unknown:
                place = self.places.get(split, self.places["train"])
                raise InputError(f"{place}: no training text has the class '{unknown[0]}'")

    @cached_property
    def places(self) -> dict[str, Path]:
        """The named files and folders; InputError where one is absent."""
        named = {split: name for split, name in self.paths.items() if name is not None}
        return existing_paths(named, self.root)

    @cached_property
    def folders(self) -> dict[Path, TextFolder]:
        """The named folders."""
        paths = [path for path in self.places.values() if path.is_dir()]
        return {path: TextFolder(path, self.classes) for path in paths}

    def find_files(self) -> None:
        """Raise InputError where a named path is absent; log what of a folder is left out, once."""
        for folder in self.folders.values():
            folder.describe()

    def read_table(self, path: Path, trained: set[str] | None = None) -> LabeledTexts:
        """Read the rows of a file, whose classes must be among the `trained` ones, if given."""
        if path.suffix.lower() not in (*TABLES, *JSON_LINES):
            raise InputError(f"{path}: expected {EXPECTED}")
        rule = NewLabels(path) if trained is None else TrainedLabels(path, trained)
        texts, labels = [], []
        for record in records(path, (self.text, self.label), self.encoding):
            label = record.fields[self.label].strip()
            if not label:
                raise InputError(
                    f"{path}:{record.line}: the field '{self.label}' is empty: "
                    "it names the text's class"
                )
            labels.append(rule.class_of(label, record.line))
            texts.append(record.fields[self.text].encode(errors="replace"))
        if trained is None:
            warn_of_missing_labels(path, labels)
        return texts, labels


class NewLabels:
    """The labels of a training file: each is a class."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: dict[str, tuple[str, int]] = {}  # the first text and line of every value

    def class_of(self, label: str, line: int) -> str:
        """Return the label; InputError if the same value was written otherwise, as 1 and 1.0."""
        other, other_line = self.first.setdefault(value_key(label), (label, line))
        if other != label:
            raise InputError(
                f"{self.path}:{line}: the label {label!r} is the same value as {other!r} "
                f"({self.path}:{other_line}): write it in one way"
            )
        return label


class TrainedLabels:
    """The labels of another file: each must be a class of the training texts."""

    def __init__(self, path: Path, trained: set[str]) -> None:
        self.path = path
        self.classes = sorted(trained)
        self.known = KnownTexts(self.classes)

    def class_of(self, label: str, line: int) -> str:
        """Return the class that has the value of the label; InputError if no class has it."""
        position = self.known.find(label)
        if position < 0:
            raise InputError(f"{self.path}:{line}: no training text has the class '{label}'")
        return self.classes[position]


def warn_of_missing_labels(path: Path, labels: Sequence[str]) -> None:
    """Log which labels mean "no value" in a table: here they are classes."""
    for label, count in sorted(Counter(labels).items()):
        if label in MISSING_WORDS:
            log.warning(
                f"{path}: the label {label!r} ({count:,} times) is a class here, "
                "not a missing label"
            )
