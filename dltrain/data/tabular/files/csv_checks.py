"""Refuses CSV files whose first or last lines are no rows of the table, with what to do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dltrain.data.io.number_format import MIN_GROUPED, split_number
from dltrain.data.tabular.files.csv_text import DELIMITERS, CsvText, Record
from dltrain.data.tabular.files.header import looks_like_data
from dltrain.data.tabular.files.plain_numbers import GROUPED_NUMBER, PLAIN_NUMBER
from dltrain.errors import InputError

MAX_FOOTER_LINES = 5  # at the end of a file, below its rows
MAX_CHARS_SHOWN = 60  # of a line in a message
DELIMITER_BEFORE_WORD = re.compile(r"[,;\t|]\s*[^\W\d]")


def check_first_lines(path: Path, records: Sequence[Record], header: bool | None) -> None:
    """Raise InputError for a title above the table and for a missing header.

    `header` is the setting dataset.header.
    """
    refuse_title(path, records, header)
    refuse_data_as_header(path, records, header)


def refuse_title(path: Path, records: Sequence[Record], header: bool | None) -> None:
    """Raise InputError for a first line of one field above lines of several.

    It may be a title or a comment.
    """
    line, first = records[0]
    filled = [field for field in first if field.strip()]
    if header is False or len(filled) != 1 or len(first) == 2:
        return
    wider = sum(has_several_fields(fields) for _, fields in records[1:])
    if wider > len(records) / 2:
        raise InputError(
            f"{path}:{line}: the first line is '{filled[0][:MAX_CHARS_SHOWN]}' alone, the lines "
            "below it have more fields: if it is a title or a comment, cut off what stands above "
            "the names of the columns"
        )


def refuse_data_as_header(path: Path, records: Sequence[Record], header: bool | None) -> None:
    """Raise InputError for a first line that is a row of data.

    With dataset.header=true it is read as column names.
    """
    if header is not None or len(records) < 2:
        return
    line, first = records[0]
    if looks_like_data(first, [fields for _, fields in records[1:]]):
        raise InputError(
            f"{path}:{line}: the first line looks like data, not like the names of columns: "
            f"{', '.join(first)[:MAX_CHARS_SHOWN]}. With dataset.header=false it is data, and the "
            "columns are called 0, 1, 2, ... by their place; dataset.header=true takes it for names"
        )


def has_several_fields(fields: Sequence[str]) -> bool:
    """Return whether a record has more than one field, maybe by another delimiter."""
    if len(fields) > 1:
        return sum(bool(field.strip()) for field in fields) > 1
    (field,) = fields
    if DELIMITER_BEFORE_WORD.search(field):
        return True
    return any(delimiter in field for delimiter in DELIMITERS) and split_number(field) is None


def has_only_grouped(records: Sequence[Sequence[str]]) -> bool:
    """Return whether rows have many numbers with points, all of them before three digits."""
    fields = itertools.chain.from_iterable(records)
    with_point = [field for field in fields if "." in field and re.match(PLAIN_NUMBER, field)]
    grouped = [field for field in with_point if re.match(GROUPED_NUMBER, field)]
    return len(with_point) == len(grouped) >= MIN_GROUPED


def check_field_counts(text: CsvText, delimiter: str) -> None:
    """Raise InputError for the first record with more or fewer fields than the header.

    The same for a record that is not text.
    """
    records = text.records(delimiter)
    _, header = next(records)
    for line, fields in records:
        if len(fields) != len(header):
            raise InputError(
                f"{text.path}:{line}: {field_count_problem(fields, header)}"
                f"{field_count_hint(line, fields, header, records)}"
            )


def field_count_problem(fields: Sequence[str], header: Sequence[str]) -> str:
    """Return what is wrong with a record that has too many or too few fields; "" for no problem."""
    if len(fields) == len(header):
        return ""
    plural = "s"
    if len(fields) == 1:
        plural = ""
    return f"{len(fields)} field{plural}; the header has {len(header)}"


def field_count_hint(
    line: int, fields: Sequence[str], header: Sequence[str], records: Iterator[Record]
) -> str:
    """Return what to do about a record with a wrong number of fields; `records` are those below."""
    rest = list(records)
    counts = {len(fields), *(len(others) for _, others in rest)}
    if rest and counts == {len(header) + 1}:
        return ", and so have all lines below: give the column without a name one in the header"
    return footer_hint(line, [line, *(other for other, _ in rest)])


def add_footer_hint(error: InputError, text: CsvText) -> None:
    """Add a hint to the error if its value stands in one of the file's last lines."""
    place = re.match(rf"{re.escape(str(text.path))}:(\d+): .* in column ", str(error))
    if not place:
        return
    line = int(place[1])
    try:
        lines = [number for number, _ in text.records() if number >= line]
    except InputError:
        return
    if lines:
        error.args = (f"{error}{footer_hint(line, lines)}",)


def footer_hint(line: int, lines_from_there: Sequence[int]) -> str:
    """Return what to do about a wrong line that is one of the file's last: it may be a footer."""
    if len(lines_from_there) > MAX_FOOTER_LINES:
        return ""
    last = lines_from_there[-1]
    which = f"lines {line} to {last} are the file's last"
    if last == line:
        which = f"line {line} is the file's last"
    return f"; {which}: if that is a footer or a total, cut it off"
