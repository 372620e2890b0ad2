"""Tables as columns in memory, whatever they were read from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import PLAIN, NumberFormat
from dltrain.data.io.values import MISSING_WORDS, canonical
from dltrain.errors import ConfigError, InputError

MAX_NUMBER = 1e150  # so that its square is a number too
MAX_NAMES_SHOWN = 20


class TextAmongNumbersError(InputError):
    """A column that must be numbers has a text that is not a number."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class Column:
    """One column: numbers (N,) float64, or positions (N,) in `texts`.

    A row without a value has NaN or -1. `missing_texts` are texts that mean "no value", in their
    canonical form. Numbers that were read from texts know the `number_format` in which they are
    written. `written` is the column of their texts, if the reader was asked to keep them.
    """

    name: str
    values: NDArray[Any]
    texts: tuple[str, ...] | None = None
    missing_texts: frozenset[str] = MISSING_WORDS
    number_format: NumberFormat = PLAIN
    written: Column | None = None

    def missing(self) -> NDArray[np.bool_]:
        """Return which rows have no value."""
        if self.texts is None:
            return np.isnan(self.values)
        is_missing = [self.means_missing(text) for text in self.texts]
        is_missing.append(True)  # for -1
        return np.array(is_missing)[self.values]

    def means_missing(self, text: str) -> bool:
        """Return whether a text means "no value"."""
        return canonical(text) in self.missing_texts

    def as_category(self) -> Column:
        """Return the column as texts.

        They are those that were read if they were kept, else the numbers in their order.
        """
        if self.texts is not None:
            return self
        if self.written is not None:
            return self.written
        present = ~self.missing()
        distinct, positions = np.unique(self.values[present], return_inverse=True)
        codes = np.full(len(self.values), -1)
        codes[present] = positions
        return Column(self.name, codes, tuple(map(number_text, distinct.tolist())))


def number_text(number: float) -> str:
    """Return a number as text, a whole one without a decimal point."""
    if number == int(number):
        return str(int(number))
    return str(number)


@dataclass(frozen=True)
class Request:
    """The columns of a table to read, and their kinds.

    `only` names the columns to read (None: all), `ignore` those to leave out. Columns in
    `categories` are categories, those in `numbers` are numbers, written in the given format (None:
    the reader finds it), and others are what they look like, or numbers in `other_format` if that
    is given. Of the columns in `labels` the texts are kept.
    """

    only: Collection[str] | None = None
    ignore: Collection[str] = ()
    categories: Collection[str] = ()
    numbers: Mapping[str, NumberFormat | None] = field(default_factory=dict)
    labels: Collection[str] = ()
    other_format: NumberFormat | None = None

    def is_number(self, name: str) -> bool:
        """Return whether a column must be numbers."""
        return name in self.numbers or self.other_format is not None

    def format_of(self, name: str) -> NumberFormat | None:
        """Return the format in which a column is written, None if the reader has to find it."""
        return self.numbers.get(name, self.other_format)

    @property
    def named(self) -> tuple[str, ...]:
        """Every column that the request names."""
        return (*(self.only or ()), *self.ignore, *self.categories, *self.numbers, *self.labels)


@dataclass(frozen=True)
class RowPlaces:
    """The places of some rows of a table, without the table: `where` returns that of a row."""

    where: Callable[[int], str]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> str:
        return self.where(int(self.rows[number]))


@dataclass(frozen=True)
class Table:
    """Columns of one length by name.

    `where` returns the place of a row, as in "people.csv:17"; `digest` names the content.
    """

    name: str
    columns: dict[str, Column]
    where: Callable[[int], str]
    digest: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values)


class TableSource(Protocol):
    """A source of a table."""

    def read(self, request: Request) -> Table:
        """Read the requested columns.

        ConfigError for a name that the table does not have; InputError with file and line for what
        cannot be read.
        """


def column_name(name: object) -> str:
    """Return a column's name as text: dataset.target=1 names the column "1"."""
    if isinstance(name, bool):
        return str(name).lower()
    return str(name)


def column_names(names: object) -> tuple[str, ...]:
    """Return the names of one column, of several, or of none (None), as texts."""
    if names is None:
        return ()
    several = names if isinstance(names, list | tuple) else (names,)
    return tuple(map(column_name, several))


def check_names(names: Collection[str], header: Sequence[str], table: str) -> None:
    """Raise ConfigError for the first of `names` that is no column of the `table`."""
    for name in names:
        if name not in header:
            raise ConfigError([(f"column '{name}'", unknown_name(name, header, table))])


def unknown_name(name: str, header: Sequence[str], table: str) -> str:
    """Return the message for a name that a table does not have."""
    hint = "."
    if close := difflib.get_close_matches(name, header, n=1):
        hint = f"; did you mean '{close[0]}'?"
    if same := [other for other in header if is_same_value(other, name)]:
        hint = (
            f"; did you mean '{same[0]}'? In quotes a name stays as it is typed: \"'{same[0]}'\"."
        )
    columns = ", ".join(header[:MAX_NAMES_SHOWN])
    if len(header) > MAX_NAMES_SHOWN:
        columns += ", ..."
    delimiter = ""
    if len(header) == 1:
        delimiter = "; is dataset.delimiter right?"
    return f"{table} has none of that name{hint} It has: {columns}{delimiter}"


def is_same_value(text: str, name: str) -> bool:
    """Return whether two names are the same text, number or truth value, written in two ways."""
    if text.strip(" \t\"'") == name.strip(" \t\"'"):
        return True
    try:
        return float(text.replace("_", "")) == float(name)
    except ValueError:
        return text.lower() == name
