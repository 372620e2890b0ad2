"""Tables as columns in memory, whatever they were read from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dltrain.errors import ConfigError


@dataclass(frozen=True)
class Column:
    """Numbers (N,) float64, NaN where there is none; of a category numbers of its `texts`, -1 where there is none."""

    name: str
    values: NDArray[Any]
    texts: tuple[str, ...] | None = None

    def missing(self) -> NDArray[np.bool_]:
        return np.isnan(self.values) if self.texts is None else self.values < 0

    def as_category(self) -> Column:
        """The distinct values as texts, numbers in their order; whole numbers without a point."""
        if self.texts is not None:
            return self
        present = ~self.missing()
        distinct, found = np.unique(self.values[present], return_inverse=True)
        codes = np.full(len(self.values), -1)
        codes[present] = found
        return Column(self.name, codes, tuple(str(int(v)) if v == int(v) else str(v) for v in distinct.tolist()))


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

    def read(
        self,
        only: Collection[str] | None = None,
        ignore: Collection[str] = (),
        categories: Collection[str] = (),
        numbers: Collection[str] = (),
    ) -> Table:
        """The columns named in `only` (None: all) but those to `ignore`.

        Those in `categories` are categories and those in `numbers` numbers, others what they look like. ConfigError for a
        name that the table does not have; InputError with file and line for what cannot be read.
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


def check_names(names: Collection[str], header: Sequence[str], table: str) -> None:
    """ConfigError for the first of `names` that is no column of the `table` with this `header`."""
    for name in names:
        if name not in header:
            close = difflib.get_close_matches(name, header, n=1)
            meant = f"; did you mean '{close[0]}'?" if close else "."
            shown = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
            one = "; is dataset.delimiter right?" if len(header) == 1 else ""
            raise ConfigError([(f"column '{name}'", f"{table} has none of that name{meant} It has: {shown}{one}")])
