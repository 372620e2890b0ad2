"""Raw texts, held as one string of bytes, and the files that they are read from.

Nothing here knows of tokens.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.io.text_encoding import decode
from dltrain.data.tabular.files.header import stated_separator
from dltrain.errors import InputError

TABLES = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
MAX_UNPACKED_BYTES = 2**33  # of a compressed file
MAX_FIELD_CHARS = 2**31 - 1  # of a csv file: a long text is one field


@dataclass(frozen=True)
class Corpus:
    """N texts in UTF-8, one after the other.

    Text i is the bytes `offsets[i]` to `offsets[i + 1]` of `blob`; `offsets` is (N + 1,).
    """

    blob: bytes
    offsets: NDArray[np.int64]

    @classmethod
    def from_texts(cls, texts: Iterable[bytes]) -> Corpus:
        """Join texts in UTF-8."""
        blob = io.BytesIO()
        ends = [0]
        for text in texts:
            blob.write(text)
            ends.append(blob.tell())
        return cls(blob.getvalue(), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def texts(self, rows: Iterable[int] | None = None) -> Iterator[str]:
        """Yield the texts of `rows`, or all texts."""
        for row in range(len(self)) if rows is None else rows:
            yield self.blob[self.offsets[row] : self.offsets[row + 1]].decode()

    def update(self, digest: hashlib._Hash) -> None:
        """Make the content part of `digest`."""
        digest.update(np.int64(len(self)).tobytes() + self.offsets.tobytes())
        digest.update(self.blob)


@runtime_checkable
class NamesTexts(Protocol):
    """A source that knows the file or the line of each text."""

    def text_names(self, part: str) -> Sequence[str]:
        """Return the names of the texts that it read for "train", "val" or "test"."""


class TextNames:
    """The names of the texts of all sets of a source, one set after the other.

    `sizes` are the numbers of texts of the sets. A source that knows no names gives the number in
    its set, as in reversal/test/12. The names of a set are read when the first is asked for.
    """

    def __init__(self, source: object, sizes: Mapping[str, int]) -> None:
        self.source = source
        self.sizes = sizes
        self.known: dict[str, Sequence[str]] = {}

    def __call__(self, row: int) -> str:
        """Return the name of a row."""
        first = 0
        for part, size in self.sizes.items():
            if row < first + size:
                return self.name(part, row - first)
            first += size
        raise IndexError(row)

    def name(self, part: str, number: int) -> str:
        """Return the name of a text of a set."""
        if not isinstance(self.source, NamesTexts):
            return f"{type(self.source).__name__.lower()}/{part}/{number}"
        if part not in self.known:
            self.known[part] = self.source.text_names(part)
        return self.known[part][number]


LabeledCorpus = tuple[Corpus, Tensor]
"""N texts, and their class numbers (N,)."""


@dataclass(frozen=True)
class Record:
    """One row of a file: its line number, and its fields by the name of the column."""

    line: int
    fields: dict[str, str]


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read the text of a file, which may be packed by gzip.

    Raises:
        InputError: The file cannot be read, or is not text; the message names line and byte.
    """
    return decode(read_bytes(path), path, encoding)


def read_bytes(path: Path) -> bytes:
    """Read the content of a file, and unpack it if its name ends in .gz."""
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(MAX_UNPACKED_BYTES + 1)
    except FileNotFoundError as e:
        raise InputError(f"{path} does not exist") from e
    except (OSError, EOFError, zlib.error) as e:
        raise InputError(f"{path} cannot be read: {e}") from e
    if len(content) > MAX_UNPACKED_BYTES:
        raise InputError(f"{path} is more than {MAX_UNPACKED_BYTES:,} bytes when unpacked")
    return content


def lines(path: Path, encoding: str | None = None) -> list[str]:
    """Read the lines of a text file without their ends."""
    return split_lines(read_text(path, encoding))


def split_lines(text: str) -> list[str]:
    """Split `text` into lines without their ends; nothing follows a line end at the end."""
    pieces = text.replace("\r\n", "\n").split("\n")
    if not pieces[-1]:
        pieces.pop()
    return pieces


def records(path: Path, columns: Sequence[str], encoding: str | None = None) -> Iterator[Record]:
    """Yield the rows of a csv, tsv or jsonl file.

    Raises:
        InputError: The file cannot be read, or a row lacks one of the `columns`; the message names
            the line.
    """
    if path.suffix.lower() in JSON_LINES:
        rows = json_records(path, encoding)
    else:
        rows = table_records(path, encoding)
    for record in rows:
        for name in columns:
            if name not in record.fields:
                names = ", ".join(record.fields) or "none"
                raise InputError(
                    f"{path}:{record.line}: the field '{name}' is missing; the fields are {names}"
                )
        yield record


def json_records(path: Path, encoding: str | None = None) -> Iterator[Record]:
    """Yield the objects of a jsonl file, with those fields that are texts or numbers."""
    for number, line in enumerate(lines(path, encoding), 1):
        if line.strip():
            fields = json_object(line, f"{path}:{number}")
            plain = {k: str(v) for k, v in fields.items() if isinstance(v, str | int | float)}
            yield Record(number, plain)


def json_object(line: str, place: str) -> dict[str, Any]:
    """Return the fields of the object in a line; InputError, naming the place, for other lines."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{place}: the line is not JSON ({e})") from e
    if not isinstance(fields, dict):
        raise InputError(f"{place}: expected an object in braces, with a field for each column")
    return fields


def table_records(path: Path, encoding: str | None = None) -> Iterator[Record]:
    """Yield the rows below the header of a csv or tsv file."""
    rows = table_rows(path, encoding)
    _, header = next(rows, (0, []))
    for line, row in rows:
        if len(row) != len(header):
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise InputError(f"{path}:{line}: {fields}; the header has {len(header)}")
        yield Record(line, dict(zip(header, row, strict=True)))


def table_rows(path: Path, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each row of a csv or tsv file that is not empty."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    file = io.StringIO(read_text(path, encoding), newline="")
    separator = stated_separator(file.readline())  # Excel's first line "sep=;"
    lines_before = 1
    if separator is None:
        file.seek(0)
        separator = TABLES[path.suffix.lower()]
        lines_before = 0
    reader = csv.reader(file, delimiter=separator, strict=True)
    line = lines_before + 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + lines_before + 1
    except csv.Error as e:
        raise InputError(f"{path}:{line}: the record that begins here is broken: {e}") from e
