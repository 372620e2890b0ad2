"""Reads tables from CSV and Parquet files by pyarrow; knows of every value the file and line in which it stands."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import numpy as np

from dltrain.data.header import looks_like_data, stated_separator
from dltrain.data.memory import free_memory
from dltrain.data.table import Column, Table, check_names
from dltrain.data.text_encoding import MARK_BYTES, check_encoding, decode, marked_encoding
from dltrain.errors import InputError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = ",;\t|"
SAMPLE = 100  # records by which the delimiter and the kinds of columns are guessed
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")  # what stands for no number
LARGEST = 1e150  # number, so that its square is one too
NUMERIC = 0.8  # of a column's values are numbers: the others are mistakes rather than categories
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
SEPARATOR_CHARS = 20  # of a line that states the separator
SHOWN_CHARS = 60  # of a line in a message
PARQUET = (".parquet", ".pq")


class TableFile:
    """A file of the user's: Parquet by its ending, else text with a `delimiter` (None: guessed) between fields.

    Text is UTF-8, what a byte order mark says, or in the `encoding`. Its first line names the columns; with
    `header=False` they are called 0, 1, 2, ... A column of texts is a category. A number column may be empty in
    places (`MISSING`); an empty text is no value.
    """

    def __init__(
        self,
        path: str | Path,
        delimiter: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
    ) -> None:
        check_encoding(encoding)
        self.path = Path(path).expanduser()
        self.encoding, self.header = encoding, header
        self.chosen_delimiter = "\t" if delimiter == "tab" else delimiter
        if self.chosen_delimiter is not None and len(self.chosen_delimiter) != 1:
            raise ValueError(f"dataset.delimiter={delimiter}: expected one character, or tab")

    def read(
        self,
        only: Collection[str] | None = None,
        ignore: Collection[str] = (),
        categories: Collection[str] = (),
        numbers: Collection[str] = (),
    ) -> Table:
        """The table; InputError with file and line for what cannot be read, ConfigError for a column that is not there."""
        self.check()
        read = self.read_parquet if self.path.suffix.lower() in PARQUET else self.read_csv
        columns = read(only, ignore, categories, numbers)
        table = Table(str(self.path), {c.name: c for c in columns}, self.where, self.digest())
        if not columns:
            raise InputError(f"{self.path} has no column left to read")
        if not len(table):
            raise InputError(f"{self.path} has columns and no row")
        for column in columns:
            if column.texts is None and (large := np.abs(column.values) > LARGEST).any():
                where = self.where(int(large.argmax()))
                raise InputError(f"{where}: the number in column '{column.name}' is infinite or above {LARGEST:g}")
        return table

    def check(self) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError as e:
            raise UsageError('tables are read by pyarrow: pip install "dltrain[tabular]"') from e
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
        """The file's content in UTF-8, where it is in another encoding; None where it can be read as it is."""
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
        """The character of a first line "sep=;", which Excel writes and reads; None where there is no such line."""
        with self.open_text() as file:
            try:
                return stated_separator(file.readline(SEPARATOR_CHARS))
            except UnicodeDecodeError:
                return None

    @property
    def delimiter(self) -> str:
        """The one set or stated, or that by which the first records have the most fields, all equally many."""
        stated = self.chosen_delimiter or self.separator
        if stated is not None:
            return stated

        def fit(delimiter: str) -> tuple[float, int]:
            try:
                counts = [len(fields) for _, fields in itertools.islice(self.records(delimiter), SAMPLE)]
            except InputError:  # by this delimiter at least
                return 0, 0
            alike = sum(count == counts[0] for count in counts) / max(1, len(counts))
            return (alike, counts[0]) if counts and counts[0] > 1 else (0, 0)

        return max(DELIMITERS, key=fit)

    def records(self, delimiter: str | None = None) -> Iterator[tuple[int, list[str]]]:
        """Line and fields of every record, the header first; empty lines are none. InputError where it is not text."""
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
                raise InputError(f"{self.path}:{line}: the record that begins here is broken: {e}") from e

    def check_header(self, head: Sequence[tuple[int, list[str]]]) -> None:
        """InputError for a first line that is a row of data, which would be lost, unless it is said to be a header."""
        if self.header is None and len(head) > 1 and looks_like_data(head[0][1], [row for _, row in head[1:]]):
            shown = ", ".join(head[0][1])[:SHOWN_CHARS]
            raise InputError(
                f"{self.path}:{head[0][0]}: the first line looks like data, not like the names of columns: {shown}. "
                "With dataset.header=false it is data, and the columns are called 0, 1, 2, ... by their place; "
                "dataset.header=true takes it for names"
            )

    def read_csv(
        self,
        only: Collection[str] | None,
        ignore: Collection[str],
        categories: Collection[str],
        numbers: Collection[str],
    ) -> list[Column]:
        import pyarrow as pa

        delimiter = self.delimiter
        lines = list(itertools.islice(self.records(delimiter), SAMPLE))
        head = [fields for _, fields in lines]
        if not head:
            raise InputError(f"{self.path}: the file is empty")
        if len(head) == 1:
            raise InputError(f"{self.path}:{lines[0][0]}: there is a header and nothing below it")
        self.check_quotes(delimiter)
        self.check_header(lines)
        names = self.chosen(head[0], only, [*ignore, *categories, *numbers], ignore)
        texts = pa.dictionary(pa.int32(), pa.string())
        kinds = {}
        for name in names:
            at = head[0].index(name)
            sample = [fields[at] for fields in head[1:] if at < len(fields)]
            number = name not in categories and all(v in MISSING or re.match(NUMBER, v) for v in sample)
            kinds[name] = pa.float64() if number or name in numbers else texts
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
                    raise InputError(f"{self.path} cannot be read as CSV: {str(e).splitlines()[0]}") from e
                kinds |= dict.fromkeys(suspects, texts)  # to see what in them is no number
        table = table.unify_dictionaries()
        return [self.column(name, table.column(name), categories, numbers) for name in names]

    def arrow(self, delimiter: str, names: Sequence[str], kinds: dict[str, Any], header: Sequence[str]) -> pa.Table:
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
                column_types=kinds, include_columns=names, null_values=MISSING, strings_can_be_null=False
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
                raise InputError(f"{self.path}:{line}: {have}; the header has {len(header)}")

    # both

    def chosen(
        self, header: Sequence[str], only: Collection[str] | None, named: Collection[str], ignore: Collection[str]
    ) -> list[str]:
        """The columns to read, in the file's order; problems of the header."""
        names = [name for name in header if name not in ignore]
        twice = [name for name in names if names.count(name) > 1]
        if "" in names:
            at = f"{self.path}:1: column {list(header).index('') + 1} has no name"
            raise InputError(f"{at}: give it one, or leave it out: dataset.ignore=['']")
        if twice:
            raise InputError(f"{self.path}:1: {names.count(twice[0])} columns are called '{twice[0]}'")
        check_names([*(only or ()), *named], header, str(self.path))
        return names if only is None else [name for name in names if name in only]

    def column(
        self, name: str, values: pa.ChunkedArray, categories: Collection[str], numbers: Collection[str]
    ) -> Column:
        """A column of arrow's, its texts taken for numbers where they are to be or all look like ones."""
        import pyarrow as pa

        if not pa.types.is_dictionary(values.type):
            return Column(name, values.to_numpy())  # NaN where there is none
        whole = values.combine_chunks()
        whole = whole if isinstance(whole, pa.DictionaryArray) else pa.array([], values.type)
        texts = whole.dictionary.to_pylist()
        codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if (
            name not in categories
            and (figures := self.figures(name, whole.dictionary, codes, name in numbers)) is not None
        ):
            return Column(name, np.append(figures, np.nan)[codes])
        if "" in texts:
            codes[codes == texts.index("")] = -1
        return Column(name, codes, tuple(texts))

    def figures(self, name: str, texts: pa.Array, codes: Any, sure: bool) -> Any:
        """The numbers (len(texts),) that `texts` say, NaN for missing ones; None if they are a category's.

        InputError for the first text among numbers, where it is `sure` that they are numbers, or nearly all of them are.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        is_number = pc.match_substring_regex(texts, NUMBER).to_numpy(zero_copy_only=False)
        absent = pc.is_in(texts, pa.array(MISSING)).to_numpy(zero_copy_only=False)
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        if not sure and counts[is_number].sum() < NUMERIC * counts[~absent].sum():
            return None
        wrong = np.append(~(is_number | absent), False)  # False for the code -1
        if wrong.any():
            row = int(wrong[codes].argmax())
            raise InputError(
                f"{self.where(row)}: {texts[int(codes[row])].as_py()!r} in column '{name}' is no number"
                + ("" if sure else f"; dataset.categorical=[{name}] takes the column for a category")
            )
        plain = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"^\+", "")
        figures = np.full(len(texts), np.nan)
        figures[is_number] = pc.cast(plain.filter(pa.array(is_number)), pa.float64()).to_numpy()
        return figures

    # Parquet

    def read_parquet(
        self,
        only: Collection[str] | None,
        ignore: Collection[str],
        categories: Collection[str],
        numbers: Collection[str],
    ) -> list[Column]:
        import pyarrow as pa

        table = self.parquet()
        names = self.chosen(table.column_names, only, [*ignore, *categories, *numbers], ignore)
        columns = []
        for name in names:
            try:
                columns.append(self.column(name, _plain(table.column(name), name in categories), categories, numbers))
            except pa.ArrowException as e:
                kind = table.column(name).type
                raise InputError(
                    f"{self.path}: column '{name}' is of the type {kind}: expected numbers or texts"
                ) from e
        return columns

    def parquet(self) -> pa.Table:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            about = parquet.read_metadata(self.path)
            needed = 8 * about.num_rows * about.num_columns  # which need not show in the file's size
            if needed > free_memory():
                raise InputError(
                    f"{self.path} has {about.num_rows:,} rows and {about.num_columns:,} columns: more than fit in memory"
                )
            return parquet.read_table(self.path)
        except (pa.ArrowException, OSError) as e:
            raise InputError(f"{self.path} cannot be read as Parquet: {str(e).splitlines()[0]}") from e

    # row by row

    def rows(self) -> Iterator[tuple[str, dict[str, str], str]]:
        """Every row as file:line, its texts by column ("" where there is none), and what is wrong with it.

        InputError for a file that cannot be read at all.
        """
        self.check()
        if self.path.suffix.lower() in PARQUET:
            for number, row in enumerate(self.parquet().to_pylist(), 1):
                yield f"{self.path}:{number}", {k: _text(v) for k, v in row.items()}, ""
            return
        records = self.records()
        self.check_quotes(self.delimiter)
        self.check_header(list(itertools.islice(self.records(), SAMPLE)))
        _, header = next(records, (1, []))
        for line, fields in records:
            alike = len(fields) == len(header)
            problem = "" if alike else f"{len(fields)} fields; the header has {len(header)}"
            yield f"{self.path}:{line}", dict(zip(header, fields, strict=False)), problem


def _plain(values: pa.ChunkedArray, category: bool) -> pa.ChunkedArray:
    """Numbers as float64, anything else as texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)) and not category:
        return pc.cast(values, pa.float64(), safe=False)
    if pa.types.is_dictionary(kind):
        values = pc.cast(values, kind.value_type)
    return pc.cast(values, pa.string()).dictionary_encode().unify_dictionaries()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
