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
from dltrain.errors import ConfigError


@dataclass(frozen=True)
class Column:
    """Numbers (N,) float64, NaN where there is none; or texts, as positions in `texts`, -1 where
    there is none.

    `missing_texts` are texts that mean "no value", in their canonical form. Numbers that were read
    from texts know in which `number_format` they are written, and where the reader was asked to
    keep them, the texts themselves: `written`, a column of the same rows.
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
        absent = np.array([*map(self.means_missing, self.texts), True])  # the last one is for -1
        return absent[self.values]

    def means_missing(self, text: str) -> bool:
        return canonical(text) in self.missing_texts

    def as_category(self) -> Column:
        """Return the column as texts: numbers in their order, by the texts that were read where
        these are kept.
        """
        if self.texts is not None:
            return self
        if self.written is not None:
            return self.written
        present = ~self.missing()
        distinct, found = np.unique(self.values[present], return_inverse=True)
        codes = np.full(len(self.values), -1)
        codes[present] = found
        return Column(
            self.name,
            codes,
            tuple(str(int(v)) if v == int(v) else str(v) for v in distinct.tolist()),
        )


@dataclass(frozen=True)
class Request:
    """Which columns of a table to read, and as what.

    `only` names the columns to read (None: all), `ignore` those to leave out. Columns in
    `categories` are categories, those in `numbers` are numbers, written in the given format (None:
    the reader finds it), and others are what they look like, or numbers in `other_format` where
    that is given. Of the columns in `labels` the texts are kept.
    """

    only: Collection[str] | None = None
    ignore: Collection[str] = ()
    categories: Collection[str] = ()
    numbers: Mapping[str, NumberFormat | None] = field(default_factory=dict)
    labels: Collection[str] = ()
    other_format: NumberFormat | None = None

    def is_number(self, name: str) -> bool:
        return name in self.numbers or self.other_format is not None

    def format_of(self, name: str) -> NumberFormat | None:
        """Return the format in which a column is written, None where the reader has to find it."""
        return self.numbers.get(name, self.other_format)

    @property
    def named(self) -> tuple[str, ...]:
        """Return every column that the request names."""
        return (*(self.only or ()), *self.ignore, *self.categories, *self.numbers, *self.labels)


@dataclass(frozen=True)
class Table:
    """Columns of one length by name. `where` says where a row stands, as in "people.csv:17"; `digest` names the content."""

    name: str
    columns: dict[str, Column]
    where: Callable[[int], str]
    digest: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values)


class TableSource(Protocol):
    """Where a table comes from."""

    def read(self, request: Request) -> Table:
        """Read the columns that are asked for.

        ConfigError for a name that the table does not have; InputError with file and line for what
        cannot be read.
        """


def column_name(name: object) -> str:
    """Return a column's name as text: dataset.target=1 names the column "1"."""
    return str(name).lower() if isinstance(name, bool) else str(name)


def column_names(names: object) -> tuple[str, ...]:
    """Return the names of one column, of several, or of none (None), as texts."""
    if names is None:
        return ()
    several = names if isinstance(names, list | tuple) else (names,)
    return tuple(map(column_name, several))


def _same_value(text: str, name: str) -> bool:
    """Tell whether two names are the same text, number or truth value, written in two ways."""
    if text.strip(" \t\"'") == name.strip(" \t\"'"):
        return True
    try:
        return float(text.replace("_", "")) == float(name)
    except ValueError:
        return text.lower() == name


def check_names(names: Collection[str], header: Sequence[str], table: str) -> None:
    """ConfigError for the first of `names` that is no column of the `table` with this `header`."""
    for name in names:
        if name not in header:
            close = difflib.get_close_matches(name, header, n=1)
            meant = f"; did you mean '{close[0]}'?" if close else "."
            same = [other for other in header if _same_value(other, name)]
            if same:
                meant = f"; did you mean '{same[0]}'? In quotes a name stays as it is typed: \"'{same[0]}'\"."
            shown = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
            one = "; is dataset.delimiter right?" if len(header) == 1 else ""
            raise ConfigError(
                [(f"column '{name}'", f"{table} has none of that name{meant} It has: {shown}{one}")]
            )
