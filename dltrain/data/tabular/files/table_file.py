"""A table in a file of the user's, in whatever format; every value has a place to name."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dltrain.data.io.places import AbsentDataError
from dltrain.data.tabular.files.column_reader import ColumnReader
from dltrain.data.tabular.files.settings import CsvSettings
from dltrain.data.tabular.table import MAX_NUMBER, Column, Request, Table, check_names
from dltrain.errors import InputError, UsageError
from dltrain.shell import setting

log = logging.getLogger("dltrain")
SAMPLE_ROWS = 100  # by which the delimiter and the kinds of columns are guessed


@dataclass(frozen=True)
class FileRow:
    """One row for a prediction: its place, its texts by column, and what is wrong with it."""

    place: str
    texts: dict[str, str]
    problem: str = ""


class TableFile(ABC):
    """A table in a file.

    A column of texts is a category, one of numbers may be written in any notation. `key` is the
    setting that names the file, "" for a file to predict from.
    """

    def __init__(self, path: str | Path, settings: CsvSettings, key: str = "") -> None:
        self.path = Path(path).expanduser()
        self.key = key
        self.rules = settings.number_rules
        self.reader = ColumnReader(self.where, self.rules)
        self.logged_columns: set[str] = set()  # a line says that these are left out

    @abstractmethod
    def where(self, row: int) -> str:
        """Return the place of a row: file and line, or file and row."""

    @abstractmethod
    def read_columns(self, request: Request) -> list[Column]:
        """Read the requested columns, in the file's order."""

    @abstractmethod
    def column_names(self) -> list[str]:
        """Return the names of all columns; the file was checked."""

    @abstractmethod
    def sample(self) -> dict[str, list[str]]:
        """Return the texts of the first rows, by column."""

    @abstractmethod
    def read_rows(self, numbers: Collection[str], texts: Collection[str]) -> Iterator[FileRow]:
        """Yield every row; the file was checked."""

    def read(self, request: Request) -> Table:
        """Read the table.

        InputError with file and line for what cannot be read, ConfigError for an unknown column.
        """
        self.check()
        columns = self.read_columns(request)
        table = Table(str(self.path), {c.name: c for c in columns}, self.where, self.digest())
        if not columns:
            raise InputError(f"{self.path} has no column left to read")
        if not len(table):
            raise InputError(f"{self.path} has columns and no row")
        for column in columns:
            self.refuse_large_numbers(column)
        return table

    def names(self) -> list[str]:
        """Return the names of all columns; InputError for a file that cannot be read."""
        self.check()
        return self.column_names()

    def rows(self, numbers: Collection[str], texts: Collection[str]) -> Iterator[FileRow]:
        """Yield every row with the texts of the columns named, "" for a missing value.

        `numbers` are those of the columns that are read as such. InputError for a file that cannot
        be read at all.
        """
        self.check()
        yield from self.read_rows(numbers, texts)

    def check(self) -> None:
        """Raise InputError for a file that is not there or empty, UsageError without pyarrow."""
        try:
            import pyarrow  # noqa: F401
        except ImportError as e:
            raise UsageError("tables are read by pyarrow: pip install pyarrow") from e
        if not self.path.is_file():
            raise self.absent()
        if not self.path.stat().st_size:
            raise InputError(f"{self.path}: the file is empty")

    def absent(self) -> InputError:
        """Return the error for a file that is not there."""
        if self.key:
            return AbsentDataError.at(self.key, str(self.path), [self.path])
        return InputError(f"{self.path}: the file does not exist")

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def refuse_large_numbers(self, column: Column) -> None:
        """Raise InputError for a number that is infinite, or too large to compute with."""
        if column.texts is not None:
            return
        is_large = np.abs(column.values) > MAX_NUMBER
        if is_large.any():
            raise InputError(
                f"{self.where(int(is_large.argmax()))}: the number in column '{column.name}' is "
                f"infinite or above {MAX_NUMBER:g}"
            )

    def leave_out(self, request: Request, name: str, reason: str) -> Request:
        """Return the request without the column `name`, and log it once."""
        if name not in self.logged_columns:
            log.warning(f"{self.path}: column '{name}' {reason}: it is left out")
            self.logged_columns.add(name)
        return replace(request, ignore=(*request.ignore, name))

    def requested_names(self, header: Sequence[str], request: Request) -> list[str]:
        """Return the columns to read, in the file's order; raise for problems of the header."""
        only = request.only
        names = [name for name in header if name not in request.ignore]
        if only is None:
            self.refuse_nameless(names, header)
        else:
            names = [name for name in names if name in only]
        self.refuse_repeated(names)
        check_names(request.named, header, str(self.path))
        return names

    def refuse_nameless(self, names: Collection[str], header: Sequence[str]) -> None:
        """Raise InputError for a column without a name."""
        if "" in names:
            raise InputError(
                f"{self.path}:1: column {list(header).index('') + 1} has no name: give it one, or "
                f"leave it out: {setting('dataset.ignore', [''])}"
            )

    def refuse_repeated(self, names: Sequence[str]) -> None:
        """Raise InputError for two columns with the same name."""
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            count = names.count(repeated[0])
            raise InputError(f"{self.path}:1: {count} columns are called '{repeated[0]}'")
