"""A text file with fields between delimiters: its text, its delimiter and its records."""

from __future__ import annotations

import csv
import io
import itertools
from array import array
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TextIO, TypeAlias

from dltrain.data.io.text_encoding import MARK_BYTES, decode, marked_encoding
from dltrain.data.tabular.files.header import stated_separator
from dltrain.data.tabular.files.settings import CsvSettings
from dltrain.errors import InputError

DELIMITERS = ",;\t|"
DELIMITER_SAMPLE = 100  # records by which the delimiter is guessed
MAX_SEPARATOR_LINE_CHARS = 20  # of a line that states the separator
BLOCK_BYTES = 2**24
Record: TypeAlias = tuple[int, list[str]]  # the line on which it begins, and its fields


class CsvText:
    """The records of a text file.

    It is UTF-8, what a byte order mark says, or in the encoding that the `settings` name. The first
    record names the columns; with `header=False` in the settings they are called 0, 1, 2, ...
    """

    def __init__(self, path: Path, settings: CsvSettings) -> None:
        self.path = path
        self.settings = settings
        self.lines = array("q")  # of the header and the first rows, as far as they were asked for
        self.unread: Iterator[Record] | None = None  # the records after these

    @cached_property
    def content(self) -> bytes | None:
        """The file's content in UTF-8, if it is in another encoding.

        None if the file can be read as it is.
        """
        with self.path.open("rb") as file:
            start = file.read(MARK_BYTES)
        encoding = self.settings.encoding
        if encoding is None and marked_encoding(start) in (None, "utf-8-sig"):
            return None
        return decode(self.path.read_bytes(), self.path, encoding).encode()

    def open_bytes(self) -> BinaryIO:
        """Open the file as UTF-8."""
        if self.content is None:
            return self.path.open("rb")
        return io.BytesIO(self.content)

    def open_text(self) -> TextIO:
        """Open the file as text, without a byte order mark."""
        return io.TextIOWrapper(self.open_bytes(), encoding="utf-8-sig", newline="")

    @cached_property
    def separator(self) -> str | None:
        """The character of a first line "sep=;", which Excel writes and reads.

        None if the first line is another.
        """
        with self.open_text() as file:
            try:
                return stated_separator(file.readline(MAX_SEPARATOR_LINE_CHARS))
            except UnicodeDecodeError:
                return None

    @property
    def separator_lines(self) -> int:
        """The number of lines above the header that state the separator."""
        if self.separator is None:
            return 0
        return 1

    @property
    def delimiter(self) -> str:
        """The delimiter that is set or stated, or else the one that fits the first records best."""
        stated = self.settings.delimiter_character or self.separator
        return stated or max(DELIMITERS, key=self.fit_of)

    def fit_of(self, delimiter: str) -> tuple[float, int]:
        """Return how well a delimiter fits.

        That is the fraction of the first records with as many fields as the header, and their
        number of fields.
        """
        try:
            sample = itertools.islice(self.records(delimiter), DELIMITER_SAMPLE)
            counts = [len(fields) for _, fields in sample]
        except InputError:
            return 0, 0
        if not counts:
            return 0, 0
        alike = sum(count == counts[0] for count in counts) / len(counts)
        if counts[0] == 1:  # one column: the delimiter must not occur in its values
            return 0, int(alike == 1)
        return alike, counts[0]

    def records(self, delimiter: str | None = None) -> Iterator[Record]:
        """Yield line and fields of every record, the header first, without empty lines.

        InputError for a record that is broken or not text.
        """
        skipped = self.separator_lines
        line = skipped + 1
        needs_names = self.settings.header is False
        with self.open_text() as file:
            reader = csv.reader(file, delimiter=delimiter or self.delimiter, strict=True)
            try:
                if skipped:
                    file.readline()
                for fields in reader:
                    if fields and needs_names:
                        yield line, [str(position) for position in range(len(fields))]
                        needs_names = False
                    if fields:
                        yield line, fields
                    line = reader.line_num + skipped + 1
            except UnicodeDecodeError as e:
                self.refuse_bytes()
                raise InputError(f"{self.path}: the text is not UTF-8") from e
            except csv.Error as e:
                hint = ""
                if "expected after" in str(e):
                    hint = "; is dataset.delimiter right?"
                raise InputError(
                    f"{self.path}:{line}: the record that begins here is broken: {e}{hint}"
                ) from e

    def check_quotes(self, delimiter: str) -> None:
        """Raise InputError for a NUL byte, and for a quote that is never closed.

        Such a quote would take the rest of the file for one text.
        """
        quotes = 0
        with self.open_bytes() as file:
            while block := file.read(BLOCK_BYTES):
                quotes += block.count(b'"')
                if b"\0" in block:
                    self.refuse_bytes()
        if quotes % 2:
            for _ in self.records(delimiter):
                pass

    def refuse_bytes(self) -> None:
        """Raise InputError with the first byte that is not text, and what it may be."""
        decode(self.path.read_bytes(), self.path)

    def line_of(self, row: int) -> int:
        """Return the line of a row below the header.

        The file is read as far as that, once for all rows: their names would take very long
        otherwise.
        """
        if self.unread is None:
            self.unread = self.records()
        while len(self.lines) <= row + 1:
            self.lines.append(next(self.unread)[0])
        return self.lines[row + 1]

    def header(self) -> list[str]:
        """Return the names of the columns; none of a file without records."""
        return next(self.records(), (1, []))[1]

    def has_values(self, positions: Collection[int]) -> bool:
        """Return whether a row has a value in one of the columns at `positions`."""
        for _, fields in itertools.islice(self.records(), 1, None):
            if any(fields[i].strip() for i in positions if i < len(fields)):
                return True
        return False
