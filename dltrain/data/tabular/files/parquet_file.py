"""Reads tables from Parquet files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from dltrain.data.io.memory import free_memory
from dltrain.data.tabular.files.arrow_values import (
    as_texts,
    distinct_texts,
    row_texts,
    row_texts_or_empty,
)
from dltrain.data.tabular.files.row_numbers import (
    is_row_number_name,
    pandas_index,
    row_number_reason,
)
from dltrain.data.tabular.files.table_file import SAMPLE_ROWS, FileRow, TableFile
from dltrain.data.tabular.table import Column, Request
from dltrain.errors import InputError
from dltrain.shell import setting

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".pq")
BYTES_PER_VALUE = 8  # in memory, of a number


class ParquetFile(TableFile):
    """A Parquet file, which has rows instead of lines."""

    def where(self, row: int) -> str:
        """Return file and number of a row, from 1."""
        return f"{self.path}: row {row + 1}"

    def column_names(self) -> list[str]:
        """Return the names of all columns."""
        return list(self.load().column_names)

    def sample(self) -> dict[str, list[str]]:
        """Return the texts of the first rows, by column."""
        start = self.load().slice(0, SAMPLE_ROWS)
        return {name: row_texts_or_empty(start.column(name)) for name in start.column_names}

    def load(self) -> pa.Table:
        """Load the file as pyarrow's table; InputError for one that is broken or too large."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            metadata = parquet.read_metadata(self.path)
            rows, columns = metadata.num_rows, metadata.num_columns
            if BYTES_PER_VALUE * rows * columns > free_memory():  # the file may be much smaller
                raise InputError(
                    f"{self.path} has {rows:,} rows and {columns:,} columns: more than fit in "
                    "memory"
                )
            return parquet.read_table(self.path)
        except (pa.ArrowException, OSError) as e:
            problem = str(e).splitlines()[0]
            raise InputError(f"{self.path} cannot be read as Parquet: {problem}") from e

    def read_columns(self, request: Request) -> list[Column]:
        """Read the requested columns.

        If the request does not list them, the index of pandas and columns that only number the rows
        are left out.
        """
        import pyarrow as pa

        table = self.load()
        if request.only is None:
            request = self.without_index(request, table)
            request = self.without_row_numbers(request, table)
        columns = []
        for name in self.requested_names(table.column_names, request):
            try:
                columns.append(self.reader.column(name, table.column(name), request))
            except pa.ArrowException as e:
                raise self.unreadable(name, table) from e
        return columns

    def without_index(self, request: Request, table: pa.Table) -> Request:
        """Return the request without the columns that are the index of a pandas table."""
        for name, reason in pandas_index(table.schema).items():
            if name not in request.named:
                request = self.leave_out(request, name, reason)
        return request

    def without_row_numbers(self, request: Request, table: pa.Table) -> Request:
        """Return the request without nameless columns that count or name the rows."""
        names: list[str] = table.column_names
        for name in names:
            is_chosen = name in request.named or names.count(name) > 1
            if is_chosen or not is_row_number_name(name):
                continue
            reason = row_number_reason(name, *distinct_texts(as_texts(table.column(name))))
            if reason:
                request = self.leave_out(request, name, reason)
        return request

    def read_rows(self, numbers: Collection[str], texts: Collection[str]) -> Iterator[FileRow]:
        """Yield every row with the texts of the columns named."""
        import pyarrow as pa

        table = self.load()
        columns: dict[str, list[str]] = {}
        for name in dict.fromkeys([*numbers, *texts]):
            if name not in table.column_names:
                continue
            try:
                columns[name] = row_texts(table.column(name), name in numbers)
            except pa.ArrowException as e:
                raise self.unreadable(name, table) from e
        for row in range(table.num_rows):
            row_values = {name: values[row] for name, values in columns.items()}
            yield FileRow(f"{self.path}:{row + 1}", row_values)

    def unreadable(self, name: str, table: pa.Table) -> InputError:
        """Return the error for a column of a type without numbers or texts."""
        return InputError(
            f"{self.path}: column '{name}' is of the type {table.column(name).type}: expected "
            f"numbers or texts; {setting('dataset.ignore', [name])} leaves it out"
        )
