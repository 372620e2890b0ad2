"""Reads tables from text files with delimiters by pyarrow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import MIN_GROUPED, PLAIN
from dltrain.data.tabular.files.arrow_values import distinct_texts
from dltrain.data.tabular.files.csv_checks import (
    add_footer_hint,
    check_field_counts,
    check_first_lines,
    field_count_problem,
    has_only_grouped,
    refuse_data_as_header,
)
from dltrain.data.tabular.files.csv_text import CsvText, Record
from dltrain.data.tabular.files.plain_numbers import GROUPED_NUMBER, PLAIN_NUMBER
from dltrain.data.tabular.files.row_numbers import is_row_number_name, row_number_reason
from dltrain.data.tabular.files.settings import CsvSettings
from dltrain.data.tabular.files.table_file import SAMPLE_ROWS, FileRow, TableFile
from dltrain.data.tabular.files.written_column import DistinctTexts, refuse_grouped
from dltrain.data.tabular.table import Column, Request
from dltrain.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


class CsvFile(TableFile):
    """A text file with fields between delimiters."""

    def __init__(self, path: str | Path, settings: CsvSettings, key: str = "") -> None:
        super().__init__(path, settings, key)
        self.settings = settings
        self.text = CsvText(self.path, settings)

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.path}:{self.text.line_of(row)}"

    def column_names(self) -> list[str]:
        """Return the names of all columns."""
        return self.text.header()

    def sample(self) -> dict[str, list[str]]:
        """Return the texts of the first rows, by column."""
        rows = [row.texts for row in itertools.islice(self.rows((), ()), SAMPLE_ROWS)]
        return {name: [texts.get(name, "") for texts in rows] for name in self.names()}

    def read_columns(self, request: Request) -> list[Column]:
        """Read the requested columns.

        InputError with file and line for what cannot be read, with a hint where it stands in one of
        the last lines.
        """
        try:
            return self.checked_columns(request)
        except InputError as e:
            add_footer_hint(e, self.text)
            raise

    def checked_columns(self, request: Request) -> list[Column]:
        """Check the first lines and read the requested columns."""
        delimiter = self.text.delimiter
        records = self.first_records(delimiter)
        self.text.check_quotes(delimiter)
        check_first_lines(self.path, records, self.settings.header)
        header, *rows = [fields for _, fields in records]
        arrow = ArrowCsv(self, header, delimiter)
        if request.only is None and len(header) > 1:
            request = self.without_empty_columns(request, header)
            request = self.without_row_numbers(request, header, arrow)
        names = self.requested_names(header, request)
        plain = {name for name in names if self.looks_plain(name, header, rows, request)}
        table = arrow.read(names, plain)
        columns = [self.reader.column(name, table.column(name), request) for name in names]
        if not any(map(request.format_of, names)):  # else the run knows how numbers are written
            self.check_points(columns, rows, arrow)
        return columns

    def first_records(self, delimiter: str) -> list[Record]:
        """Return the header and the first rows; InputError for a file without rows."""
        records = list(itertools.islice(self.text.records(delimiter), SAMPLE_ROWS))
        if not records:
            raise InputError(f"{self.path}: the file is empty")
        if len(records) == 1:
            line, _ = records[0]
            raise InputError(f"{self.path}:{line}: there is a header and nothing below it")
        return records

    def looks_plain(
        self, name: str, header: Sequence[str], rows: Sequence[Sequence[str]], request: Request
    ) -> bool:
        """Return whether a column is likely one of plain numbers, which pyarrow reads fastest."""
        known = request.format_of(name)
        is_text = name in request.categories or name in request.labels
        if is_text or not self.reader.may_be_plain(known):
            return False
        position = header.index(name)
        values = [fields[position] for fields in rows if position < len(fields)]
        if known is None and are_grouped(values):
            return False
        return all(map(self.is_plain_or_missing, values))

    def is_plain_or_missing(self, text: str) -> bool:
        """Return whether a text is a plain number, or means that there is none."""
        is_missing = text.strip() in self.rules.missing_number_texts
        return is_missing or re.match(PLAIN_NUMBER, text) is not None

    def check_points(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], arrow: ArrowCsv
    ) -> None:
        """Refuse a column whose points may separate thousands, if the file may have decimal commas.

        That is so if another column has them; or if semicolons separate the fields, and every point
        is before three digits.
        """
        numbers = [column for column in columns if column.texts is None]
        plain = [column.name for column in numbers if column.number_format == PLAIN]
        if self.rules.has_marks or not self.may_have_decimal_commas(numbers, rows, arrow):
            return
        for name in plain:
            texts, codes = arrow.distinct_texts(name)
            distinct = DistinctTexts(name, texts, codes, self.where)
            refuse_grouped(distinct, self.rules, must_be_numbers=False)

    def may_have_decimal_commas(
        self, numbers: Sequence[Column], rows: Sequence[Sequence[str]], arrow: ArrowCsv
    ) -> bool:
        """Return whether one of the columns has them, or the separators speak for them."""
        if any(column.number_format.decimal == "," for column in numbers):
            return True
        return arrow.delimiter == ";" and has_only_grouped(rows)

    def without_empty_columns(self, request: Request, header: Sequence[str]) -> Request:
        """Return the request without nameless columns that are empty.

        Lines that end in a delimiter make such a column.
        """
        positions = [i for i, name in enumerate(header) if not name.strip()]
        names = dict.fromkeys(header[i] for i in positions)
        is_chosen = not names.keys().isdisjoint(request.named)
        if is_chosen or not positions or self.text.has_values(positions):
            return request
        for name in names:
            request = self.leave_out(request, name, "has no name and no values")
        return request

    def without_row_numbers(
        self, request: Request, header: Sequence[str], arrow: ArrowCsv
    ) -> Request:
        """Return the request without nameless columns that count or name the rows."""
        import pyarrow as pa

        for name in header:
            is_chosen = name in request.named or header.count(name) > 1
            if is_chosen or not is_row_number_name(name):
                continue
            try:
                texts, codes = arrow.distinct_texts(name)
            except (pa.ArrowInvalid, UnicodeDecodeError):
                return request  # a broken record is named when all columns are read
            reason = row_number_reason(name, texts, codes)
            if reason:
                request = self.leave_out(request, name, reason)
        return request

    def read_rows(self, numbers: Collection[str], texts: Collection[str]) -> Iterator[FileRow]:
        """Yield every row with the texts of all columns."""
        records = self.text.records()
        self.text.check_quotes(self.text.delimiter)
        first_records = list(itertools.islice(self.text.records(), SAMPLE_ROWS))
        refuse_data_as_header(self.path, first_records, self.settings.header)
        _, header = next(records, (1, []))
        self.refuse_repeated([name for name in header if name in numbers or name in texts])
        for line, fields in records:
            values = dict(zip(header, fields, strict=False))
            yield FileRow(f"{self.path}:{line}", values, field_count_problem(fields, header))


def are_grouped(values: Sequence[str]) -> bool:
    """Return whether many values have points before three digits each."""
    grouped = sum(re.match(GROUPED_NUMBER, value) is not None for value in values)
    return grouped >= MIN_GROUPED


class ArrowCsv:
    """Reads columns of one CSV file with pyarrow, as plain numbers or as dictionaries of texts."""

    def __init__(self, file: CsvFile, header: Sequence[str], delimiter: str) -> None:
        self.file = file
        self.header = header
        self.delimiter = delimiter

    def distinct_texts(self, name: str) -> tuple[list[str], NDArray[np.int64]]:
        """Return the distinct texts of one column, and each row's position in them."""
        table = self.parse([name], plain=()).unify_dictionaries()
        return distinct_texts(table.column(name))

    def read(self, names: Sequence[str], plain: Collection[str]) -> pa.Table:
        """Read the columns `names`; those in `plain` as numbers as long as all values are.

        InputError for records that cannot be read.
        """
        import pyarrow as pa

        while True:
            try:
                return self.parse(names, plain).unify_dictionaries()
            except (pa.ArrowInvalid, UnicodeDecodeError) as e:
                plain = self.texts_instead(names, plain, e)

    def texts_instead(
        self, names: Sequence[str], plain: Collection[str], error: Exception
    ) -> set[str]:
        """Return the columns that are left to be plain numbers after a failed attempt.

        The column that the `error` names is read as text, to see what in it is not a number; all
        columns if it names none. InputError where the records are at fault.
        """
        column = re.match(r"In CSV column #(\d+)", str(error))
        suspects = list(names) if column is None else [self.header[int(column[1])]]
        if column is None or suspects[0] not in plain:
            check_field_counts(self.file.text, self.delimiter)
        if not any(name in plain for name in suspects):
            problem = str(error).splitlines()[0]
            raise InputError(f"{self.file.path} cannot be read as CSV: {problem}") from error
        return set(plain) - set(suspects)

    def parse(self, names: Sequence[str], plain: Collection[str]) -> pa.Table:
        """Parse the file once; pyarrow's exceptions for what does not fit."""
        import pyarrow as pa
        from pyarrow import csv

        text = self.file.text
        texts = pa.dictionary(pa.int32(), pa.string())
        types = {name: pa.float64() if name in plain else texts for name in names}
        column_names = list(self.header) if self.file.settings.header is False else None
        return csv.read_csv(
            self.file.path if text.content is None else pa.BufferReader(text.content),
            read_options=csv.ReadOptions(skip_rows=text.separator_lines, column_names=column_names),
            parse_options=csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=types,
                include_columns=names,
                null_values=sorted(self.file.rules.missing_number_texts),
                strings_can_be_null=False,
            ),
        )
