"""Turns the values of a file's column into numbers or texts, by the same rules for every file
format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import (
    ADDRESS,
    MIN_GROUPED,
    NOTATIONS,
    PATTERNS,
    PERCENT,
    PLAIN,
    NumberFormat,
    Undecided,
    WrittenNumber,
    is_grouped,
    looks_grouped,
    measure_of,
    notation_of,
    split_number,
)
from dltrain.data.io.values import BOOLEANS, MISSING_MARKS, missing_texts
from dltrain.data.tabular.table import Column, Request
from dltrain.errors import ConfigError, InputError
from dltrain.shell import quoted, setting

if TYPE_CHECKING:
    import pyarrow as pa

DecimalMark = Literal[".", ",", "point", "comma"]
ThousandsMark = Literal[".", ",", "'", " ", "", "point", "comma", "apostrophe", "space", "none"]
MissingValue = str | int | float
MARK_NAMES = {"point": ".", "comma": ",", "apostrophe": "'", "space": " ", "none": ""}
NAMES_OF_MARKS = {mark: name for name, mark in MARK_NAMES.items()}

MAX_NUMBER = 1e150  # so that its square is a number too
NUMERIC_SHARE = 0.8  # of a column's values are numbers: the others are mistakes, not categories
# Different texts among numbers that stand for "no value" rather than for categories, and among numbers
# that most rows have.
MAX_PLACEHOLDERS = 3
MAX_PLACEHOLDERS_AMONG_MOST = 10
MIN_DISTINCT_NUMBERS = 20  # beside which so few texts are placeholders
MAX_UNITS = 3  # of a column of numbers
NO_UNITS = frozenset(
    {"am", "pm", "st", "nd", "rd", "th"}
)  # stand behind numbers, but measure nothing
# A number with a sign or a note that a reader of texts cannot drop: <0.5, ~12, 7*, 1,234[1], 3 (estimated).
QUALIFIED = r"^(?:[<>≤≥~≈±]=? ?[-+]?[0-9.,]+|[-+]?[0-9][0-9.,' ]*(?:[*†‡^]+|\[[^\]]*\]|\([^)]*\)))$"
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
GROUPED = r"^\s*[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+\s*$"
SIMPLE_WORD = re.compile(r"[\w-]+")


class ColumnReader:
    """Reads columns as numbers or texts; `where` says file and line of a row.

    The notation of numbers is that of the marks that are set, or what all values of a column agree
    on.
    """

    def __init__(
        self,
        where: Callable[[int], str],
        decimal: DecimalMark | None = None,
        thousands: ThousandsMark | None = None,
        missing_values: Collection[MissingValue] = (),
    ) -> None:
        self.where = where
        self.decimal = MARK_NAMES.get(decimal, decimal) if decimal is not None else None
        self.thousands = MARK_NAMES.get(thousands, thousands) if thousands is not None else None
        self.missing_texts = missing_texts(missing_values)
        self.missing_number_texts = self.missing_texts | MISSING_MARKS
        self.missing_numbers = [n for n in map(_number, missing_values) if n is not None]
        self.notations = tuple(n for n in NOTATIONS if self._is_set(n))
        if not self.notations:
            problem = "both are the same mark: numbers could not be told apart"
            raise ConfigError(
                [(f"dataset.decimal={decimal} dataset.thousands={thousands}", problem)]
            )

    def _is_set(self, notation: NumberFormat) -> bool:
        return self.decimal in (None, notation.decimal) and self.thousands in (
            None,
            notation.thousands,
        )

    def column(self, name: str, values: pa.ChunkedArray, request: Request) -> Column:
        """Return a column of arrow's values: numbers where they are or say numbers, else texts.

        InputError with file and line for a text among numbers, and for numbers whose notation is
        not known.
        """
        is_category = name in request.categories
        values = in_seconds(values)
        if _is_number_type(values.type) and not is_category:
            return self._typed(name, values, request)
        texts, codes = _distinct(as_texts(values))
        labels_only = is_category and name in request.labels
        words = self.missing_texts if not labels_only else missing_texts() & {""}
        column = Column(name, codes, tuple(texts.to_pylist()), words)
        if is_category:
            return column
        found = self._numbers(name, texts, codes, request)
        if found is None:
            return column
        numbers, number_format = found
        written = column if name in request.labels else None
        rows = self.without_missing(np.append(numbers, np.nan)[codes])
        return Column(name, rows, None, words, number_format, written)

    def _typed(self, name: str, values: pa.ChunkedArray, request: Request) -> Column:
        """Return a column that the file stores as numbers."""
        known = request.format_of(name)
        if known is not None and known.unit == PERCENT:
            raise InputError(
                f"{self.where(0)}: column '{name}' holds plain numbers; the run was trained on percentages, "
                "as in '45%': write them alike"
            )
        written = None
        if name in request.labels:
            texts, codes = _distinct(as_texts(values))
            written = Column(name, codes, tuple(texts.to_pylist()), self.missing_texts)
        numbers = self.without_missing(as_floats(values))
        return Column(name, numbers, None, self.missing_texts, PLAIN, written)

    def without_missing(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `numbers` with NaN for those that dataset.missing_values names."""
        if not self.missing_numbers:
            return numbers
        return np.where(np.isin(numbers, self.missing_numbers), np.nan, numbers)

    def _numbers(
        self, name: str, texts: pa.Array, codes: NDArray[np.int64], request: Request
    ) -> tuple[NDArray[np.float64], NumberFormat] | None:
        """Return the numbers that the distinct `texts` say and their format; None if they are
        categories.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        sure, known = request.is_number(name), request.format_of(name)
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        trimmed = pc.utf8_trim_whitespace(texts)
        absent = _mask(pc.is_in(trimmed, pa.array(sorted(self.missing_number_texts))))
        plain = _mask(pc.match_substring_regex(texts, NUMBER))
        if known in (None, PLAIN) and PLAIN in self.notations and (plain | absent).all():
            if not sure and not plain.any():
                return None
            if known is None and _is_grouped(texts, plain):
                self.refuse_grouped(name, texts.to_pylist(), codes, sure)
            signless = pc.replace_substring_regex(trimmed, r"^\+", "")
            numbers = np.full(len(texts), np.nan)
            numbers[plain] = pc.cast(signless.filter(pa.array(plain)), pa.float64()).to_numpy()
            return numbers, PLAIN
        if known is None or not (known.unit or known.measure):
            bare = _bare_numbers(trimmed, absent, self.allowed(known))
            if bare is not None:
                return bare
        with_digits = _mask(pc.match_substring_regex(texts, r"\p{Nd}|∞|[iI][nN][fF]"))
        if not sure and not _mostly_numbers(with_digits, absent, counts):
            return None
        written = [
            None if gone or not digits else split_number(text)
            for text, gone, digits in zip(texts.to_pylist(), absent, with_digits, strict=True)
        ]
        if not sure and (positions := _of_other_measures(written, absent)):
            raise InputError(
                self.other_measure(
                    name, codes, [texts[position].as_py() for position in positions], positions
                )
            )
        written = _with_one_measure(written, sure)
        is_number = np.array([number is not None for number in written], dtype=bool)
        is_number |= _mask(pc.match_substring_regex(trimmed, QUALIFIED))
        if not sure and not _mostly_numbers(is_number, absent, counts):
            return None
        return _WrittenColumn(self, name, texts, codes, written, absent).read(sure, known)

    def other_measure(
        self, name: str, codes: NDArray[np.int64], texts: Sequence[str], positions: Sequence[int]
    ) -> str:
        """Return the message for two `texts` in different units, at these `positions` of the distinct ones."""
        rows = [int((codes == position).argmax()) for position in positions]
        (first, one), (second, other) = sorted(zip(rows, texts, strict=True))
        return (
            f"{self.where(second)}: {other!r} in column '{name}' is in another unit than {one!r} ({self.where(first)}): "
            f"write all in one unit, or {setting('dataset.categorical', [name])} takes the column for a category"
        )

    def parse(self, text: str, known: NumberFormat) -> tuple[float, str]:
        """Return the number that one text says, NaN if it says "no value", and what is wrong with
        it.

        `known` is the format in which a run read the column; marks that are set come first.
        """
        if text.strip() in self.missing_number_texts:
            return math.nan, ""
        if text.strip().lower() in BOOLEANS:
            return float(BOOLEANS.index(text.strip().lower())), ""
        allowed = self.allowed(known)
        formats = [replace(known, decimal=n.decimal, thousands=n.thousands) for n in allowed]
        readings = {number_format.parse(text) for number_format in formats} - {None}
        if len(readings) > 1:
            return (
                math.nan,
                "can be read as several numbers: set dataset.decimal or dataset.thousands",
            )
        number = next(iter(readings), None)
        if number is None or not abs(number) <= MAX_NUMBER:
            plain = PLAIN.parse(text)
            is_plain = plain is not None and math.isfinite(plain) and abs(plain) <= MAX_NUMBER
            why = f" as the run reads this column ({known.described()})" if is_plain else ""
            return math.nan, f"is no number{why}"
        return (math.nan, "") if number in self.missing_numbers else (number, "")

    def allowed(self, known: NumberFormat | None) -> Sequence[NumberFormat]:
        """Return the notations that a column may have: by the marks that are set, else the known
        one.
        """
        if known is None or self.decimal is not None or self.thousands is not None:
            return self.notations
        return (NumberFormat(known.decimal, known.thousands),)

    def refuse_grouped(
        self, name: str, texts: Sequence[str], codes: NDArray[np.int64], sure: bool = False
    ) -> None:
        """Raise InputError where all points of a plain column could separate thousands, in a file
        with decimal commas.
        """
        if self.decimal is not None:
            return
        written = [split_number(text) for text in texts]
        numbers = [number for number in written if number is not None]
        if looks_grouped(numbers):
            position = next(
                i for i, number in enumerate(written) if number is not None and "." in number.digits
            )
            row = int((codes == position).argmax())
            raise InputError(self.ambiguous(name, row, texts[position], ".", sure))

    def ambiguous(self, name: str, row: int, text: str, mark: str, sure: bool) -> str:
        """Return the message for a number that may be read in two ways; `sure`: it cannot be a
        category.
        """
        word = NAMES_OF_MARKS[mark]
        category = "" if sure else f", or {setting('dataset.categorical', [name])} for a category"
        return (
            f"{self.where(row)}: {text!r} in column '{name}' may have a decimal {word} or separated thousands: "
            f"set dataset.decimal={word} or dataset.thousands={word}{category}"
        )


class _WrittenColumn:
    """One column of numbers in some notation: its distinct texts, and what each says."""

    def __init__(
        self,
        reader: ColumnReader,
        name: str,
        texts: pa.Array,
        codes: NDArray[np.int64],
        written: Sequence[WrittenNumber | None],
        absent: NDArray[np.bool_],
    ) -> None:
        self.reader = reader
        self.name = name
        self.codes = codes
        self.texts: list[str] = texts.to_pylist()
        self.written, self.absent = list(written), absent

    def read(
        self, sure: bool, known: NumberFormat | None
    ) -> tuple[NDArray[np.float64], NumberFormat]:
        """Return the number of every distinct text and the column's format; InputError where that
        is not known.
        """
        if known is not None:
            self._read_booleans()
        wrong = [n is None and not gone for n, gone in zip(self.written, self.absent, strict=True)]
        if any(wrong):
            raise InputError(self._not_a_number(wrong, sure, known))
        unit = self._unit(known)
        measure = (
            known.measure
            if known is not None
            else measure_of([n for n in self.written if n is not None]) or ""
        )
        allowed = self.reader.allowed(known)
        positions = [i for i, number in enumerate(self.written) if number is not None]
        positions.sort(key=self._row)
        numbers = [number for i in positions if (number := self.written[i]) is not None]
        notation = notation_of(numbers, allowed)
        if isinstance(notation, Undecided):
            raise InputError(self._undecided(notation, positions, allowed, sure))
        is_price = unit not in ("", PERCENT)
        if notation == PLAIN and known is None and (is_price or is_grouped(numbers)):
            self.reader.refuse_grouped(self.name, self.texts, self.codes, sure)
        number_format = replace(notation, unit=unit, measure=measure)
        values = np.full(len(self.texts), np.nan)
        for position, number in zip(positions, numbers, strict=True):
            value = number.value(number_format)
            values[position] = np.nan if value is None else value
        return values, number_format

    def _row(self, position: int) -> int:
        """Return the first row with the text at `position`."""
        return self.first_rows.get(position, len(self.codes))

    @cached_property
    def first_rows(self) -> dict[int, int]:
        codes, rows = np.unique(self.codes, return_index=True)
        return dict(zip(codes.tolist(), rows.tolist(), strict=True))

    def _at(self, position: int) -> str:
        """Return file, line and text."""
        return f"{self.reader.where(self._row(position))}: {self.texts[position]!r} in column '{self.name}'"

    def _read_booleans(self) -> None:
        """Take true and false for 1 and 0: the run knows the column as numbers."""
        for position, text in enumerate(self.texts):
            word = text.strip().lower()
            if self.written[position] is None and word in BOOLEANS:
                self.written[position] = WrittenNumber(
                    False, word, known=float(BOOLEANS.index(word))
                )

    def _not_a_number(self, wrong: Sequence[bool], sure: bool, known: NumberFormat | None) -> str:
        position = min((i for i, is_wrong in enumerate(wrong) if is_wrong), key=self._row)
        message = f"{self._at(position)} is no number"
        if known is not None or not any(self.written):
            return message
        text = self.texts[position].strip()
        word = text if SIMPLE_WORD.fullmatch(text) else quoted(text)
        message += f"; dataset.missing_values=[{word}] if it means that there is no value"
        return (
            message
            if sure
            else f"{message}, {setting('dataset.categorical', [self.name])} takes the column for a category"
        )

    def _unit(self, known: NumberFormat | None) -> str:
        """Return the unit of the numbers; InputError for several, and for a percent sign that some
        lack.
        """
        expected = known.unit if known is not None else None
        found: dict[str, int] = {"": -1} if expected is None else {"": -1, expected: -1}
        for position in sorted(range(len(self.written)), key=self._row):
            number = self.written[position]
            if number is None or number.known is not None:
                continue
            unit = number.unit
            if unit not in found and len(found) > 1:
                raise InputError(
                    f"{self._at(position)} is in another unit than the other numbers of the column"
                )
            found.setdefault(unit, position)
        unit = next((unit for unit in found if unit), "")
        if unit == PERCENT:
            self._require_percent()
        return unit

    def _require_percent(self) -> None:
        for position in sorted(range(len(self.written)), key=self._row):
            number = self.written[position]
            if number is not None and number.unit != PERCENT and number.digits.strip("0.,"):
                raise InputError(
                    f"{self._at(position)} has no percent sign; other numbers of the column have one"
                )

    def _undecided(
        self, why: Undecided, positions: Sequence[int], allowed: Sequence[NumberFormat], sure: bool
    ) -> str:
        position = positions[why.first]
        text = self.texts[position]
        if why.ambiguous:
            mark = "," if "," in text else "."
            return self.reader.ambiguous(self.name, self._row(position), text, mark, sure)
        if why.second is not None:
            other = positions[why.second]
            place = self.reader.where(self._row(other))
            return f"{self._at(position)} and {self.texts[other]!r} ({place}) are numbers in different notations"
        notations = " or ".join(dict.fromkeys(notation.described() for notation in allowed))
        return (
            f"{self._at(position)} is no number in the notation of this column ({notations}); dataset.decimal and "
            "dataset.thousands say how a file writes its numbers"
        )


def _of_other_measures(
    written: Sequence[WrittenNumber | None], absent: NDArray[np.bool_]
) -> tuple[int, int] | None:
    """Return two positions of numbers in different units, such as kg and lbs, or None.

    Its texts are numbers with two or three units of at least two letters each, and too many to be categories.
    """
    if any(number is None and not gone for number, gone in zip(written, absent, strict=True)):
        return None
    first: dict[str, int] = {}
    for position, number in enumerate(written):
        if number is not None:
            first.setdefault(number.measure, position)
    units = [unit for unit in first if unit]
    if not 2 <= len(units) <= MAX_UNITS or any(
        len(unit) < 2 or unit.lower() in NO_UNITS for unit in units
    ):
        return None
    if measure_of([number for number in written if number is not None]) is not None:
        return None
    if sum(number is not None for number in written) <= MIN_DISTINCT_NUMBERS:
        return None
    return first[units[0]], first[units[1]]


def _with_one_measure(
    written: Sequence[WrittenNumber | None], sure: bool
) -> list[WrittenNumber | None]:
    """Return the numbers of a column whose measure is known: those with several, or few, are names,
    such as 12B.
    """
    numbers = [number for number in written if number is not None]
    measure = measure_of(numbers)
    if measure == "" or (measure is not None and (sure or len(numbers) > MIN_DISTINCT_NUMBERS)):
        return list(written)
    return [None if number is None or number.measure else number for number in written]


def _number(value: MissingValue) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _mostly_numbers(
    is_number: NDArray[np.bool_], absent: NDArray[np.bool_], counts: NDArray[np.int64]
) -> bool:
    """Return whether a column is one of numbers: nearly all its values are, or all but a few
    placeholders.
    """
    present = counts[~absent].sum()
    if not is_number.any() or not present:
        return False
    if counts[is_number].sum() >= NUMERIC_SHARE * present:
        return True
    others = int((~is_number & ~absent).sum())
    most = 2 * counts[is_number].sum() > present
    limit = MAX_PLACEHOLDERS_AMONG_MOST if most else MAX_PLACEHOLDERS
    return others <= limit and int(is_number.sum()) > MIN_DISTINCT_NUMBERS


def _bare_numbers(
    texts: pa.Array, absent: NDArray[np.bool_], notations: Sequence[NumberFormat]
) -> tuple[NDArray[np.float64], NumberFormat] | None:
    """Return the numbers that digits with marks say, and nothing else beside them, and their
    notation.

    None where some text says more, or where the notation is open. This is a fast way to what
    `notation_of` finds for any column.
    """
    import pyarrow.compute as pc

    for letters, plain in ((r"[\x{00a0}\x{202f}\x{2009}]", " "), (r"[’‘]", "'"), (r"[−–]", "-")):
        texts = pc.replace_substring_regex(texts, letters, plain)
    fitting = []
    for notation in notations:
        pattern = PATTERNS[notation.decimal, notation.thousands].pattern
        if (absent | _mask(pc.match_substring_regex(texts, f"^[-+]?(?:{pattern})$"))).all():
            fitting.append(notation)
    if not fitting or absent.all() or fitting[0] == PLAIN:
        return None
    if _mask(pc.match_substring_regex(texts, f"^{ADDRESS.pattern}$")).any():
        return None
    readings = [_read_bare(texts, absent, notation) for notation in fitting]
    if any(not np.array_equal(readings[0], reading, equal_nan=True) for reading in readings[1:]):
        return None
    return readings[0], fitting[0]


def _read_bare(
    texts: pa.Array, absent: NDArray[np.bool_], notation: NumberFormat
) -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    present = pc.replace_substring_regex(texts.filter(pa.array(~absent)), r"^\+", "")
    if notation.thousands:
        present = pc.replace_substring(present, notation.thousands, "")
    present = pc.replace_substring(present, notation.decimal, ".")
    numbers = np.full(len(texts), np.nan)
    numbers[~absent] = pc.cast(present, pa.float64()).to_numpy()
    return numbers


def _is_grouped(texts: pa.Array, plain: NDArray[np.bool_]) -> bool:
    """Return whether the points of plain numbers most likely separate thousands, as `is_grouped`
    has it.
    """
    import pyarrow.compute as pc

    pointed = plain & _mask(pc.match_substring_regex(texts, r"\."))
    grouped = _mask(pc.match_substring_regex(texts, GROUPED))
    return bool(
        pointed.sum() >= MIN_GROUPED and grouped[pointed].all() and (plain & ~pointed).any()
    )


def _mask(values: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _is_number_type(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _decoded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return `values` without a dictionary."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return (
        pc.cast(values, values.type.value_type) if pa.types.is_dictionary(values.type) else values
    )


def in_seconds(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return durations as numbers of seconds, whatever unit a file stores; other values as they
    are.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_duration(values.type):
        return values
    units = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
    return pc.divide(
        pc.cast(pc.cast(values, pa.int64()), pa.float64(), safe=False), units[values.type.unit]
    )


def as_floats(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return numbers of any type as float64 (N,), NaN where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = pc.cast(_decoded(values), pa.float64(), safe=False).to_numpy()
    return np.asarray(numbers, dtype=np.float64)


def as_texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values of any type as a dictionary of texts; pyarrow.ArrowException for types that
    have none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type) and pa.types.is_string(values.type.value_type):
        return values.unify_dictionaries()
    values = _decoded(values)
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    return pc.cast(values, pa.string()).dictionary_encode().unify_dictionaries()


def _distinct(values: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the distinct texts of a dictionary column and the position of each row's text, -1 for
    none.
    """
    import pyarrow as pa

    whole = values.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], values.type)
    texts = whole.dictionary
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    null = _mask(texts.is_null())
    if null.any():  # a dictionary entry that is null, as other writers of Parquet may store it
        codes = np.where(np.append(null, False)[codes], -1, codes)
        texts = texts.fill_null("")
    return texts, codes


def distinct_texts(values: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct texts of a dictionary column and the position of each row's text, -1 for
    none.
    """
    texts, codes = _distinct(values)
    return texts.to_pylist(), codes


def row_texts(values: pa.ChunkedArray, as_number: bool) -> list[str]:
    """Return the text of every row of a typed column, "" for none; numbers in full precision."""
    values = in_seconds(values)
    if as_number and _is_number_type(values.type):
        return ["" if math.isnan(number) else repr(number) for number in as_floats(values).tolist()]
    texts, codes = distinct_texts(as_texts(values))
    texts.append("")  # for the code -1
    return [texts[code] for code in codes.tolist()]
