"""Raw texts, held as one string of bytes, and the files that they are read from; knows nothing of tokens."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.text_encoding import decode
from dltrain.data.tabular.header import stated_separator
from dltrain.errors import InputError

TABLES = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
TEXT = ".txt"
LARGEST = 2**33  # bytes that a compressed file may become


@dataclass(frozen=True)
class Corpus:
    """Texts in UTF-8, one after the other in `blob`; text i is the bytes offsets[i]..offsets[i + 1]."""

    blob: bytes
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> Corpus:
        blob, ends = io.BytesIO(), [0]
        for text in texts:
            blob.write(text)
            ends.append(blob.tell())
        return cls(blob.getvalue(), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def texts(self, rows: Iterable[int] | None = None) -> Iterator[str]:
        for row in range(len(self)) if rows is None else rows:
            yield self.blob[self.offsets[row] : self.offsets[row + 1]].decode()

    def update(self, digest: hashlib._Hash) -> None:
        """Make the content part of `digest`."""
        digest.update(np.int64(len(self)).tobytes() + self.offsets.tobytes())
        digest.update(self.blob)


@dataclass(frozen=True)
class Record:
    """One row of a file: where it stands, and its fields."""

    line: int
    fields: dict[str, str]


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read the text of a file, also of one that ends in .gz; InputError, naming line and byte, for
    what is not text.
    """
    return decode(read_bytes(path), path, encoding)


def read_bytes(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as e:
        raise InputError(f"{path}: there is no such file") from e
    except (OSError, EOFError, zlib.error) as e:
        raise InputError(f"{path} cannot be read: {e}") from e
    if len(content) > LARGEST:
        raise InputError(f"{path} is more than {LARGEST:,} bytes when unpacked")
    return content


def lines(path: Path, encoding: str | None = None) -> list[str]:
    """Read the lines of a text file without their ends."""
    return split_lines(read_text(path, encoding))


def split_lines(text: str) -> list[str]:
    """Split `text` into lines without their ends; an empty line is a text too, what follows the
    last end is none.
    """
    found = text.replace("\r\n", "\n").split("\n")
    return found[:-1] if found and not found[-1] else found


def records(path: Path, columns: Sequence[str], encoding: str | None = None) -> Iterator[Record]:
    """Return the rows of a csv, tsv or jsonl file with the fields `columns`; InputError, with the
    line, for one without.
    """
    read = json_records if path.suffix.lower() in JSON_LINES else table_records
    for record in read(path, encoding):
        for name in columns:
            if name not in record.fields:
                there = ", ".join(record.fields) or "nothing"
                raise InputError(f"{path}:{record.line}: there is no field '{name}', but {there}")
        yield record


def json_records(path: Path, encoding: str | None = None) -> Iterator[Record]:
    for number, line in enumerate(lines(path, encoding), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise InputError(f"{path}:{number}: that is not JSON ({e})") from e
        if not isinstance(fields, dict):
            raise InputError(
                f"{path}:{number}: expected an object in braces, with a field for each column"
            )
        yield Record(
            number,
            {
                name: str(value)
                for name, value in fields.items()
                if isinstance(value, str | int | float)
            },
        )


def table_records(path: Path, encoding: str | None = None) -> Iterator[Record]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a long text is one field
    file = io.StringIO(read_text(path, encoding), newline="")
    separator = stated_separator(file.readline())  # Excel's first line "sep=;"
    skipped = 0 if separator is None else 1
    if not skipped:
        file.seek(0)
    reader = csv.reader(file, delimiter=separator or TABLES[path.suffix.lower()], strict=True)
    line, header = skipped + 1, None
    try:
        for row in reader:
            if row and header is None:
                header = row
            elif row and header is not None:
                if len(row) != len(header):
                    fields = f"{len(row)} field{'s' * (len(row) != 1)}"
                    raise InputError(f"{path}:{line}: {fields}; the header has {len(header)}")
                yield Record(line, dict(zip(header, row, strict=True)))
            line = reader.line_num + skipped + 1
    except csv.Error as e:
        raise InputError(f"{path}:{line}: the record that begins here is broken: {e}") from e


def folder_texts(
    folder: Path,
    progress: Callable[[], None] = lambda: None,
    pattern: str = f"*{TEXT}",
    encoding: str | None = None,
) -> Iterator[bytes]:
    """Read the .txt files of a folder, by name, in UTF-8; with `pattern` **/*.txt all in it.

    InputError for other bytes.
    """
    for path in sorted(folder.glob(pattern)):
        text = read_text(path, encoding)
        progress()
        yield text.encode()
