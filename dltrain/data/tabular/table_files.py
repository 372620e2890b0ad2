"""Reads tables from CSV and Parquet files by pyarrow; knows of every value the file and line in which it stands."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import numpy as np

from dltrain.data.io.memory import free_memory
from dltrain.data.io.number_format import MIN_GROUPED, PLAIN, split_number
from dltrain.data.io.text_encoding import MARK_BYTES, check_encoding, decode, marked_encoding
from dltrain.data.tabular.column_reader import (
    GROUPED,
    MAX_NUMBER,
    NUMBER,
    ColumnReader,
    DecimalMark,
    MissingValue,
    ThousandsMark,
    as_texts,
    distinct_texts,
    row_texts,
)
from dltrain.data.tabular.header import looks_like_data, stated_separator
from dltrain.data.tabular.row_numbers import is_row_number_name, pandas_index, row_labels
from dltrain.data.tabular.table import Column, Request, Table, check_names
from dltrain.errors import InputError, UsageError
from dltrain.shell import setting

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("dltrain")
DELIMITERS = ",;\t|"
SAMPLE = 100  # records by which the delimiter and the kinds of columns are guessed
SEPARATOR_CHARS = 20  # of a line that states the separator
MAX_FOOTER_LINES = 5  # at the end of a file, below its rows
SHOWN_CHARS = 60  # of a line in a message
MARK_BEFORE_WORD = re.compile(r"[,;\t|]\s*[^\W\d]")
Row = tuple[str, dict[str, str], str]
PARQUET = (".parquet", ".pq")


class TableFile:
    """A file of the user's: Parquet by its ending, else text with a `delimiter` (None: guessed)
    between fields.

    Text is UTF-8, what a byte order mark says, or in the `encoding`. Its first line names the
    columns; with `header=False` they are called 0, 1, 2, ... A column of texts is a category, one
    of numbers may be written in any notation; `decimal` and `thousands` say in which, where its
    values leave it open, and `missing_values` which further texts mean that there is no value.
    """

    def __init__(
        self,
        path: str | Path,
        delimiter: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
        decimal: DecimalMark | None = None,
        thousands: ThousandsMark | None = None,
        missing_values: Collection[MissingValue] = (),
    ) -> None:
        check_encoding(encoding)
        self.path = Path(path).expanduser()
        self.encoding, self.header = encoding, header
        self.reader = ColumnReader(self.where, decimal, thousands, missing_values)
        self.told: set[str] = set()  # columns whose omission has been logged
        self.chosen_delimiter = "\t" if delimiter == "tab" else delimiter
        if self.chosen_delimiter is not None and len(self.chosen_delimiter) != 1:
            raise ValueError(f"dataset.delimiter={delimiter}: expected one character, or tab")

    def read(self, request: Request) -> Table:
        """Read the table; InputError with file and line for what cannot be read, ConfigError for an
        unknown column.
        """
        self.check()
        is_parquet = self.path.suffix.lower() in PARQUET
        if is_parquet:
            columns = self.read_parquet(request)
        else:
            try:
                columns = self.read_csv(request)
            except InputError as e:
                raise self.with_footer(e) from e
        table = Table(str(self.path), {c.name: c for c in columns}, self.where, self.digest())
        if not columns:
            raise InputError(f"{self.path} has no column left to read")
        if not len(table):
            raise InputError(f"{self.path} has columns and no row")
        for column in columns:
            if column.texts is None and (large := np.abs(column.values) > MAX_NUMBER).any():
                where = self.where(int(large.argmax()))
                raise InputError(
                    f"{where}: the number in column '{column.name}' is infinite or above {MAX_NUMBER:g}"
                )
        return table

    def check(self) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError as e:
            raise UsageError("tables are read by pyarrow: pip install pyarrow") from e
        if not self.path.is_file():
            raise InputError(f"{self.path}: there is no such file")
        if not self.path.stat().st_size:
            raise InputError(f"{self.path}: the file is empty")

    def digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def where(self, row: int) -> str:
        """File and line of a row; of Parquet, which has no lines, the row's number from 1."""
        if self.path.suffix.lower() in PARQUET:
            return f"{self.path}: row {row + 1}"
        line, _ = next(itertools.islice(self.records(), row + 1, None))
        return f"{self.path}:{line}"

    # text

    @cached_property
    def content(self) -> bytes | None:
        """The file's content in UTF-8, where it is in another encoding; None where it can be read
        as it is.
        """
        with self.path.open("rb") as file:
            start = file.read(MARK_BYTES)
        if self.encoding is None and marked_encoding(start) in (None, "utf-8-sig"):
            return None
        return decode(self.path.read_bytes(), self.path, self.encoding).encode()

    def open_bytes(self) -> BinaryIO:
        """Open the file as UTF-8."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    def open_text(self) -> TextIO:
        return io.TextIOWrapper(self.open_bytes(), encoding="utf-8-sig", newline="")

    @cached_property
    def separator(self) -> str | None:
        """The character of a first line "sep=;", which Excel writes and reads; None where there is
        no such line.
        """
        with self.open_text() as file:
            try:
                return stated_separator(file.readline(SEPARATOR_CHARS))
            except UnicodeDecodeError:
                return None

    @property
    def delimiter(self) -> str:
        """The one set or stated, or that by which the first records have the most fields, all
        equally many.
        """
        stated = self.chosen_delimiter or self.separator
        if stated is not None:
            return stated

        def fit(delimiter: str) -> tuple[float, int]:
            try:
                counts = [
                    len(fields) for _, fields in itertools.islice(self.records(delimiter), SAMPLE)
                ]
            except InputError:  # by this delimiter at least
                return 0, 0
            alike = sum(count == counts[0] for count in counts) / max(1, len(counts))
            if counts and counts[0] == 1:  # one column: not by a mark that stands in its values
                return 0, int(alike == 1)
            return (alike, counts[0]) if counts else (0, 0)

        return max(DELIMITERS, key=fit)

    def records(self, delimiter: str | None = None) -> Iterator[tuple[int, list[str]]]:
        """Yield line and fields of every record, the header first, without empty lines.

        InputError if it is not text.
        """
        skipped = 0 if self.separator is None else 1
        line, numbered = skipped + 1, self.header is False
        with self.open_text() as file:
            reader = csv.reader(file, delimiter=delimiter or self.delimiter, strict=True)
            try:
                if skipped:
                    file.readline()
                for fields in reader:
                    if fields and numbered:
                        yield line, [str(place) for place in range(len(fields))]
                        numbered = False
                    if fields:
                        yield line, fields
                    line = reader.line_num + skipped + 1
            except UnicodeDecodeError as e:
                decode(self.path.read_bytes(), self.path)  # names the byte
                raise InputError(f"{self.path}: the text is not UTF-8") from e
            except csv.Error as e:
                hint = "; is dataset.delimiter right?" if "expected after" in str(e) else ""
                raise InputError(
                    f"{self.path}:{line}: the record that begins here is broken: {e}{hint}"
                ) from e

    def check_header(self, head: Sequence[tuple[int, list[str]]]) -> None:
        """Raise InputError for a first line that is a row of data, unless dataset.header says that
        it is a header.
        """
        if (
            self.header is None
            and len(head) > 1
            and looks_like_data(head[0][1], [row for _, row in head[1:]])
        ):
            shown = ", ".join(head[0][1])[:SHOWN_CHARS]
            raise InputError(
                f"{self.path}:{head[0][0]}: the first line looks like data, not like the names of columns: {shown}. "
                "With dataset.header=false it is data, and the columns are called 0, 1, 2, ... by their place; "
                "dataset.header=true takes it for names"
            )

    def check_title(self, head: Sequence[tuple[int, list[str]]]) -> None:
        """InputError for a first line of one field above lines of several, such as a title or a
        comment.
        """
        line, first = head[0]
        filled = [field for field in first if field.strip()]
        if self.header is False or len(filled) != 1 or len(first) == 2:
            return
        wider = sum(_has_several_fields(fields) for _, fields in head[1:])
        if wider > len(head) / 2:
            raise InputError(
                f"{self.path}:{line}: the first line is '{filled[0][:SHOWN_CHARS]}' alone, the lines below it have more "
                "fields: if it is a title or a comment, cut off what stands above the names of the columns"
            )

    def read_csv(self, request: Request) -> list[Column]:
        import pyarrow as pa

        delimiter = self.delimiter
        lines = list(itertools.islice(self.records(delimiter), SAMPLE))
        head = [fields for _, fields in lines]
        if not head:
            raise InputError(f"{self.path}: the file is empty")
        if len(head) == 1:
            raise InputError(f"{self.path}:{lines[0][0]}: there is a header and nothing below it")
        self.check_quotes(delimiter)
        self.check_title(lines)
        self.check_header(lines)
        request = self.without_row_labels(request, head[0], delimiter)
        names = self.chosen(head[0], request)
        texts = pa.dictionary(pa.int32(), pa.string())
        kinds = {}
        for name in names:
            at = head[0].index(name)
            sample = [fields[at] for fields in head[1:] if at < len(fields)]
            kinds[name] = pa.float64() if self.looks_plain(name, sample, request) else texts
        table = None
        while table is None:
            try:
                table = self.arrow(delimiter, names, kinds, head[0])
            except (pa.ArrowInvalid, UnicodeDecodeError) as e:
                found = re.match(
                    r"In CSV column #(\d+)", str(e)
                )  # else its records are at fault, or another version says it
                suspects = [head[0][int(found[1])]] if found else names
                if not found or kinds[suspects[0]] == texts:
                    self.check_records(delimiter)
                if all(kinds[name] == texts for name in suspects):
                    raise InputError(
                        f"{self.path} cannot be read as CSV: {str(e).splitlines()[0]}"
                    ) from e
                kinds |= dict.fromkeys(suspects, texts)  # to see what in them is no number
        table = table.unify_dictionaries()
        columns = [self.reader.column(name, table.column(name), request) for name in names]
        if all(
            request.format_of(name) is None for name in names
        ):  # else a run knows how its numbers are written
            self.check_points(delimiter, columns, head)
        return columns

    def looks_plain(self, name: str, sample: Sequence[str], request: Request) -> bool:
        """Return whether a column is likely one of plain numbers, which arrow reads fastest."""
        if (
            name in request.categories
            or name in request.labels
            or PLAIN not in self.reader.notations
        ):
            return False
        known = request.format_of(name)
        missing = self.reader.missing_number_texts
        if known is None and sum(re.match(GROUPED, v) is not None for v in sample) >= MIN_GROUPED:
            return False
        return known in (None, PLAIN) and all(
            v.strip() in missing or re.match(NUMBER, v) for v in sample
        )

    def check_points(
        self, delimiter: str, columns: Sequence[Column], head: Sequence[Sequence[str]]
    ) -> None:
        """Refuse a column whose points may separate thousands, where the file may have decimal commas.

        Another column has them; or semicolons separate the fields, and every point is before three digits.
        """
        import pyarrow as pa

        reader = self.reader
        if reader.decimal is not None or reader.thousands is not None:
            return
        with_commas = any(c.texts is None and c.number_format.decimal == "," for c in columns)
        if not with_commas and not (delimiter == ";" and _has_only_grouped(head)):
            return
        texts = pa.dictionary(pa.int32(), pa.string())
        for column in columns:
            if column.texts is None and column.number_format == PLAIN:
                kinds = {column.name: texts}
                table = self.arrow(delimiter, [column.name], kinds, head[0]).unify_dictionaries()
                reader.refuse_grouped(column.name, *distinct_texts(table.column(column.name)))

    def without_row_labels(
        self, request: Request, header: Sequence[str], delimiter: str
    ) -> Request:
        """Return the request without nameless columns that count or name the rows; say that they
        are left out.
        """
        import pyarrow as pa

        if request.only is not None or len(header) == 1:
            return request
        request = self.without_empty(request, header)
        texts = pa.dictionary(pa.int32(), pa.string())
        for name in header:
            if not is_row_number_name(name) or header.count(name) > 1 or name in request.named:
                continue
            try:
                table = self.arrow(delimiter, [name], {name: texts}, header).unify_dictionaries()
            except (
                pa.ArrowInvalid,
                UnicodeDecodeError,
            ):  # a broken record, which is named when all columns are read
                return request
            request = self.without(
                request, name, row_labels(name, *distinct_texts(table.column(name)))
            )
        return request

    def without_empty(self, request: Request, header: Sequence[str]) -> Request:
        """Return the request without nameless columns that are empty, which lines that end in a
        delimiter make.
        """
        places = [at for at, name in enumerate(header) if not name.strip()]
        names = dict.fromkeys(header[at] for at in places)
        if not places or not names.keys().isdisjoint(request.named):
            return request
        rows = itertools.islice(self.records(), 1, None)
        if any(fields[at].strip() for _, fields in rows for at in places if at < len(fields)):
            return request
        for name in names:
            request = self.without(request, name, "has no name and no values")
        return request

    def without(self, request: Request, name: str, why: str) -> Request:
        """Return the request without the column `name`, and say so; the request itself where there
        is no reason.
        """
        if not why:
            return request
        if name not in self.told:
            log.warning(f"{self.path}: column '{name}' {why}: it is left out")
            self.told.add(name)
        return replace(request, ignore=(*request.ignore, name))

    def arrow(
        self, delimiter: str, names: Sequence[str], kinds: dict[str, Any], header: Sequence[str]
    ) -> pa.Table:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        return arrow_csv.read_csv(
            self.path if self.content is None else pa.BufferReader(self.content),
            read_options=arrow_csv.ReadOptions(
                skip_rows=0 if self.separator is None else 1,
                column_names=list(header) if self.header is False else None,
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=kinds,
                include_columns=names,
                null_values=sorted(self.reader.missing_number_texts),
                strings_can_be_null=False,
            ),
        )

    def check_quotes(self, delimiter: str) -> None:
        """InputError for a quote that is never closed, which would take the rest of the file for one text, or a NUL."""
        quotes = 0
        with self.open_bytes() as file:
            while part := file.read(2**24):
                quotes += part.count(b'"')
                if b"\0" in part:
                    decode(self.path.read_bytes(), self.path)  # names the byte, and what it may be
        if quotes % 2:
            for _ in self.records(delimiter):
                pass

    def check_records(self, delimiter: str) -> None:
        """InputError for the first record that has more or fewer fields than the header, or is no text."""
        records = self.records(delimiter)
        _, header = next(records)
        for line, fields in records:
            if len(fields) != len(header):
                have = f"{len(fields)} field{'s' if len(fields) != 1 else ''}"
                rest = list(records)
                hint = self.footer(line, [line, *(other for other, _ in rest)])
                if rest and all(
                    len(others) == len(fields) == len(header) + 1 for _, others in rest
                ):
                    hint = ", and so have all lines below: give the column without a name one in the header"
                raise InputError(f"{self.path}:{line}: {have}; the header has {len(header)}{hint}")

    def with_footer(self, error: InputError) -> InputError:
        """Return the error with what to do where the value that it names stands in one of the
        file's last lines.
        """
        found = re.match(rf"{re.escape(str(self.path))}:(\d+): .* in column ", str(error))
        if not found:
            return error
        line = int(found[1])
        try:
            lines = [one for one, _ in self.records() if one >= line]
        except InputError:
            return error
        return InputError(f"{error}{self.footer(line, lines)}") if lines else error

    def footer(self, line: int, lines_from_there: Sequence[int]) -> str:
        """Return what to say of a wrong line that is one of the file's last: it may be a footer, to
        be cut off.
        """
        if len(lines_from_there) > MAX_FOOTER_LINES:
            return ""
        last = lines_from_there[-1]
        which = (
            f"line {line} is the file's last"
            if last == line
            else f"lines {line} to {last} are the file's last"
        )
        return f"; {which}: if that is a footer or a total, cut it off"

    # both

    def chosen(self, header: Sequence[str], request: Request) -> list[str]:
        """Return the columns to read, in the file's order; raise for problems of the header."""
        only = request.only
        names = [
            name for name in header if name not in request.ignore and (only is None or name in only)
        ]
        if "" in names and only is None:
            at = f"{self.path}:1: column {list(header).index('') + 1} has no name"
            raise InputError(f"{at}: give it one, or leave it out: dataset.ignore=['']")
        self.check_names_differ(names)
        check_names(request.named, header, str(self.path))
        return names

    def check_names_differ(self, names: Sequence[str]) -> None:
        """InputError for two columns of one name."""
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(
                f"{self.path}:1: {names.count(twice[0])} columns are called '{twice[0]}'"
            )

    # Parquet

    def read_parquet(self, request: Request) -> list[Column]:
        import pyarrow as pa

        table = self.parquet()
        if request.only is None:
            for name, why in pandas_index(table.schema).items():
                if name not in request.named:
                    request = self.without(request, name, why)
            request = self.without_row_labels_of(request, table)
        columns = []
        for name in self.chosen(table.column_names, request):
            try:
                columns.append(self.reader.column(name, table.column(name), request))
            except pa.ArrowException as e:
                raise InputError(self.unreadable(name, table)) from e
        return columns

    def without_row_labels_of(self, request: Request, table: pa.Table) -> Request:
        """Return the request without a nameless column of a Parquet file that counts or names the
        rows.
        """
        names: list[str] = table.column_names
        for name in names:
            if is_row_number_name(name) and name not in request.named and names.count(name) == 1:
                texts, codes = distinct_texts(as_texts(table.column(name)))
                request = self.without(request, name, row_labels(name, texts, codes))
        return request

    def unreadable(self, name: str, table: pa.Table) -> str:
        kind = table.column(name).type
        return (
            f"{self.path}: column '{name}' is of the type {kind}: expected numbers or texts; "
            f"{setting('dataset.ignore', [name])} leaves it out"
        )

    def parquet(self) -> pa.Table:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            about = parquet.read_metadata(self.path)
            needed = (
                8 * about.num_rows * about.num_columns
            )  # which need not show in the file's size
            if needed > free_memory():
                raise InputError(
                    f"{self.path} has {about.num_rows:,} rows and {about.num_columns:,} columns: more than fit in memory"
                )
            return parquet.read_table(self.path)
        except (pa.ArrowException, OSError) as e:
            raise InputError(
                f"{self.path} cannot be read as Parquet: {str(e).splitlines()[0]}"
            ) from e

    # row by row

    def names(self) -> list[str]:
        """Return the names of all columns; InputError for a file that cannot be read."""
        self.check()
        if self.path.suffix.lower() in PARQUET:
            return list(self.parquet().column_names)
        return next(self.records(), (1, []))[1]

    def sample(self) -> dict[str, list[str]]:
        """Return the texts of the first rows, by column."""
        if self.path.suffix.lower() in PARQUET:
            start = self.parquet().slice(0, SAMPLE)
            return {name: sample_texts(start.column(name)) for name in start.column_names}
        rows = [texts for _, texts, _ in itertools.islice(self.rows((), ()), SAMPLE)]
        return {name: [texts.get(name, "") for texts in rows] for name in self.names()}

    def rows(self, numbers: Collection[str], texts: Collection[str]) -> Iterator[Row]:
        """Yield every row as file:line, the texts of the columns named, by column, and what is
        wrong with it.

        A value that there is not has the text "". `numbers` are those of the columns that are read
        as such. InputError for a file that cannot be read at all.
        """
        self.check()
        if self.path.suffix.lower() in PARQUET:
            yield from self.parquet_rows(numbers, texts)
            return
        records = self.records()
        self.check_quotes(self.delimiter)
        self.check_header(list(itertools.islice(self.records(), SAMPLE)))
        _, header = next(records, (1, []))
        self.check_names_differ([name for name in header if name in numbers or name in texts])
        for line, fields in records:
            alike = len(fields) == len(header)
            problem = (
                ""
                if alike
                else f"{len(fields)} field{'s' * (len(fields) != 1)}; the header has {len(header)}"
            )
            yield f"{self.path}:{line}", dict(zip(header, fields, strict=False)), problem

    def parquet_rows(self, numbers: Collection[str], texts: Collection[str]) -> Iterator[Row]:
        import pyarrow as pa

        table = self.parquet()
        columns: dict[str, list[str]] = {}
        for name in dict.fromkeys([*numbers, *texts]):
            if name in table.column_names:
                try:
                    columns[name] = row_texts(table.column(name), name in numbers)
                except pa.ArrowException as e:
                    raise InputError(self.unreadable(name, table)) from e
        for row in range(table.num_rows):
            yield (
                f"{self.path}:{row + 1}",
                {name: values[row] for name, values in columns.items()},
                "",
            )


def _has_only_grouped(head: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first records of a file have many numbers with points, all of them before three digits."""
    pointed = [
        field for fields in head[1:] for field in fields if "." in field and re.match(NUMBER, field)
    ]
    return len(pointed) >= MIN_GROUPED and all(re.match(GROUPED, field) for field in pointed)


def _has_several_fields(fields: Sequence[str]) -> bool:
    """Tell whether a record has more than one field, maybe by another delimiter than that by which
    it was read.
    """
    if len(fields) > 1:
        return sum(bool(field.strip()) for field in fields) > 1
    if MARK_BEFORE_WORD.search(fields[0]):
        return True
    return any(mark in fields[0] for mark in DELIMITERS) and split_number(fields[0]) is None


def sample_texts(values: pa.ChunkedArray) -> list[str]:
    """Return values as texts, and empty ones of a type that has no texts."""
    import pyarrow as pa

    try:
        return row_texts(values, as_number=False)
    except pa.ArrowException:
        return [""] * len(values)
