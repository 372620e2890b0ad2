"""The image files that a table names, with the class of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from dltrain.data.held_out.groups import Groups
from dltrain.data.images.listed.listing import Files
from dltrain.data.io.layout.split_names import parse_name
from dltrain.data.io.values import MISSING_WORDS, canonical, value_key
from dltrain.data.tabular.files.open import open_table
from dltrain.data.tabular.files.parquet_file import ENDINGS as PARQUET
from dltrain.data.tabular.files.settings import CsvSettings
from dltrain.data.text.corpus import JSON_LINES, TABLES, records
from dltrain.errors import ConfigError, InputError, first_names
from dltrain.shell import setting

EXPECTED = "a csv, tsv, jsonl or parquet file with a row for each image"
SPLITS = ("train", "val", "test")
MAX_NAMES = 10  # in a message


@dataclass(frozen=True)
class ImageColumns:
    """The columns of a table that are read.

    Attributes:
        image: The path of the image.
        target: Its class.
        split: train, val or test; None: the splits are drawn, or of files of their own.
        group: Rows of a group stay on one side of every split; None without groups.
    """

    image: str
    target: str
    split: str | None = None
    group: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns that every row needs."""
        return [name for name in (self.image, self.target, self.split, self.group) if name]


@dataclass(frozen=True)
class ImageRow:
    """One row: its place in the table, the path of the image, its class, split and group."""

    place: str
    path: str
    label: str
    split: str
    group: str


class TableListing:
    """The images that the rows of tables name.

    Paths are relative to `folder`, or else to the folder of their table. Classes are the values of
    the target column of the training rows, sorted, numbers by their value. An image that several
    rows name counts once.

    Args:
        tables: The table of the training images, and perhaps tables of other splits.
        columns: The columns to read.
        folder: The folder of the images; None: the folder of the table.
        encoding: The encoding of text; None: UTF-8, or what a byte order mark says.
        known_classes: The classes of a run that is scored.
    """

    expected = EXPECTED

    def __init__(
        self,
        tables: dict[str, Path],
        columns: ImageColumns,
        folder: Path | None = None,
        encoding: str | None = None,
        known_classes: tuple[str, ...] = (),
    ) -> None:
        self.tables = tables
        self.columns = columns
        self.folder = folder
        self.encoding = encoding
        self.known_classes = known_classes
        self.group_setting = ""
        if columns.group is not None:
            self.group_setting = setting("dataset.group", columns.group)
        self.is_of_another_run = False
        self.repeated: list[str] = []  # rows whose image another row names

    @property
    def path(self) -> Path:
        """The table of the training images."""
        return self.tables["train"]

    @cached_property
    def rows(self) -> list[ImageRow]:
        """The rows of all tables, one for each image.

        Raises:
            InputError: A row has no image, no class or no split, or names an image that is not
                there; two rows give one image two classes, splits or groups.
        """
        by_path: dict[str, ImageRow] = {}
        for split, table in self.tables.items():
            for row in self.rows_of(split, table):
                first = by_path.setdefault(row.path, row)
                if first is not row:
                    require_same(first, row)
                    self.repeated.append(f"{row.place} (as {first.place})")
        require_files(list(by_path.values()))
        return list(by_path.values())

    def rows_of(self, split: str, table: Path) -> Iterator[ImageRow]:
        """Yield the rows of a table of a split."""
        folder = self.folder or table.parent
        for place, fields in table_rows(table, self.columns.names, self.encoding):
            yield ImageRow(
                place,
                str(folder / self.value(fields, self.columns.image, place)),
                canonical(self.value(fields, self.columns.target, place)),
                self.split_of(fields, place) or split,
                self.group_of(fields, place),
            )

    def value(self, fields: dict[str, str], column: str, place: str) -> str:
        """Return the value of a row in a column; InputError if there is none."""
        text = fields[column].strip()
        if text in MISSING_WORDS:
            raise InputError(f"{place}: the column '{column}' is empty: fill it in or drop the row")
        return text

    def split_of(self, fields: dict[str, str], place: str) -> str:
        """Return the split that a row names; "" without such a column."""
        if self.columns.split is None:
            return ""
        text = self.value(fields, self.columns.split, place)
        parsed = parse_name(text)
        if parsed is None or parsed.split not in SPLITS:
            raise InputError(
                f"{place}: the column '{self.columns.split}' is {text!r}; expected train, val or "
                "test"
            )
        return parsed.split

    def group_of(self, fields: dict[str, str], place: str) -> str:
        """Return the group of a row; "" without such a column."""
        if self.columns.group is None:
            return ""
        return value_key(self.value(fields, self.columns.group, place))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the training rows, or of all rows if there are none for training."""
        labels = Counter(row.label for row in self.rows if row.split == "train")
        labels = labels or Counter(row.label for row in self.rows)
        if self.known_classes and set(labels) <= set(self.known_classes):
            return self.known_classes
        self.refuse_numbers(labels)
        return tuple(sorted(labels, key=by_number))

    def refuse_numbers(self, labels: Counter[str]) -> None:
        """Raise ConfigError for targets that are numbers to predict: fractions, each its own."""
        fractions = [label for label in labels if is_fraction(label)]
        if len(fractions) * 2 > len(labels) and len(labels) > 2:
            why = (
                f"its values are numbers such as {fractions[0]}, not classes; an image table has a "
                "class for each image"
            )
            raise ConfigError([(setting("dataset.target", self.columns.target), why)])

    @cached_property
    def own_files(self) -> dict[str, Files]:
        """The files of train and of every split that the table has."""
        number = {name: k for k, name in enumerate(self.class_names)}
        files = {}
        for split in SPLITS:
            rows = [row for row in self.rows if row.split == split]
            if rows or split == "train":
                self.require_known_classes(rows, number)
                targets = [number[row.label] for row in rows]
                paths = [row.path for row in rows]
                files[split] = Files(paths, torch.tensor(targets, dtype=torch.int64))
        return files

    def require_known_classes(self, rows: Sequence[ImageRow], known: dict[str, int]) -> None:
        """Raise InputError for a class that no training row has."""
        for row in rows:
            if row.label not in known:
                raise InputError(
                    f"{row.place}: no training image has the class '{row.label}'; the classes are "
                    f"{first_names(list(known), MAX_NAMES)}"
                )

    def notes(self) -> list[str]:
        """Return a line on images that several rows name."""
        _ = self.rows
        if not self.repeated:
            return []
        examples = first_names(self.repeated, MAX_NAMES)
        return [f"{self.path}: images that another row names count once: {examples}"]

    def groups(self, paths: Sequence[str]) -> Groups | None:
        """Return the groups of files by the column of groups; None without one."""
        if not self.group_setting:
            return None
        group_of = {row.path: row.group for row in self.rows}
        return Groups.from_names([group_of[path] for path in paths], self.group_setting)

    @cached_property
    def labels(self) -> dict[str, str]:
        """The class of each image by its path."""
        return {row.path: row.label for row in self.rows}

    def name_of(self, path: str) -> str:
        """Return the class of an image, and its path below the folder of the images."""
        folder = self.folder or self.path.parent
        return f"{self.labels[path]}/{path.removeprefix(f'{folder}/')}"


def table_rows(
    path: Path, columns: Sequence[str], encoding: str | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the texts of each row of a table.

    Raises:
        InputError: The file cannot be read, or lacks one of the `columns`.
    """
    ending = path.suffix.lower()
    if ending in PARQUET:
        table = open_table(path, CsvSettings())
        require_columns(path, table.names(), columns)
        refuse_bytes(path, columns)
        for row in table.rows((), columns):
            yield row.place, row.texts
    elif ending in (*TABLES, *JSON_LINES):
        for record in records(path, columns, encoding):
            yield f"{path}:{record.line}", record.fields
    else:
        raise InputError(f"{path}: expected {EXPECTED}")


def require_columns(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    """Raise InputError if a table lacks a column."""
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(
            f"{path}: there is no column '{missing[0]}'; the columns are {', '.join(names)}"
        )


def refuse_bytes(path: Path, columns: Sequence[str]) -> None:
    """Raise InputError if a column of a Parquet file holds images instead of their paths."""
    from pyarrow import parquet, types

    schema = parquet.read_schema(path)
    for name in columns:
        kind = schema.field(name).type
        if types.is_binary(kind) or types.is_large_binary(kind) or types.is_struct(kind):
            raise InputError(
                f"{path}: the column '{name}' holds images, not their paths: such files are "
                f"shards, dataset=shards {setting('dataset.path', str(path.parent))}"
            )


def require_same(first: ImageRow, row: ImageRow) -> None:
    """Raise InputError if two rows say different things of one image."""
    pairs = {
        "classes": (first.label, row.label),
        "splits": (first.split, row.split),
        "groups": (first.group, row.group),
    }
    for noun, (one, other) in pairs.items():
        if one != other:
            raise InputError(
                f"{row.place} and {first.place} name the same image, {row.path}, with different "
                f"{noun}: {other} and {one}"
            )


def require_files(rows: Sequence[ImageRow]) -> None:
    """Raise InputError for images that are not there, and for tables without a row."""
    if not rows:
        raise InputError(f"the table has no rows; expected {EXPECTED}")
    absent = [row for row in rows if not Path(row.path).exists()]
    if absent:
        lines = "\n".join(f"  {row.place}: {row.path}" for row in absent[:MAX_NAMES])
        rest = len(absent) - MAX_NAMES
        if rest > 0:
            lines += f"\n  and {rest:,} more"
        raise InputError(
            f"{len(absent):,} images that the table names are not there; dataset.image_root=DIR "
            f"names the folder that the paths begin in\n{lines}"
        )


def by_number(label: str) -> tuple[int, float, str]:
    """Return the key by which classes are sorted: numbers by their value, before other texts."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def is_fraction(label: str) -> bool:
    """Return whether a label is a number with a fraction."""
    try:
        return not float(label).is_integer()
    except (ValueError, OverflowError):
        return False
