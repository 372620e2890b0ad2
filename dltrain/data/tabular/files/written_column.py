"""Reads a column of numbers in some notation: with units, currencies, separated thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import (
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
from dltrain.data.io.values import BOOLEANS
from dltrain.data.tabular.files.arrow_values import as_mask
from dltrain.data.tabular.files.settings import NumberRules
from dltrain.data.tabular.table import TextAmongNumbersError
from dltrain.errors import InputError
from dltrain.shell import setting

if TYPE_CHECKING:
    import pyarrow as pa

MIN_NUMBER_FRACTION = 0.8  # of a column's values: the others are mistakes, not categories
# Different texts among numbers that mean "no value" rather than categories, and the same among
# numbers that most rows have.
MAX_PLACEHOLDERS = 3
MAX_PLACEHOLDERS_AMONG_MOST = 10
MIN_DISTINCT_NUMBERS = 20  # beside which so few texts are placeholders
MAX_UNITS = 3  # of a column of numbers
NO_UNITS = frozenset(["am", "pm", "st", "nd", "rd", "th"])  # stand behind numbers, measure nothing
HAS_DIGITS = r"\p{Nd}|∞|[iI][nN][fF]"
# A number with a sign or a note that a reader of texts cannot leave out: <0.5, ~12, 7*, 1,234[1],
# 3 (estimated).
QUALIFIED_NUMBER = (
    r"^(?:[<>≤≥~≈±]=? ?[-+]?[0-9.,]+"
    r"|[-+]?[0-9][0-9.,' ]*(?:[*†‡^]+|\[[^\]]*\]|\([^)]*\)))$"
)
MARK_WORDS = {".": "point", ",": "comma"}


@dataclass(frozen=True)
class DistinctTexts:
    """The distinct texts of a column, and each row's position in them, -1 for none.

    `where_row` returns file and line of a row.
    """

    name: str
    texts: Sequence[str]
    codes: NDArray[np.int64]
    where_row: Callable[[int], str]

    @cached_property
    def first_rows(self) -> dict[int, int]:
        """The first row with each text, by the text's position."""
        codes, rows = np.unique(self.codes, return_index=True)
        return dict(zip(codes.tolist(), rows.tolist(), strict=True))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The number of rows of each text."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))

    def first_row(self, position: int) -> int:
        """Return the first row with the text at `position`."""
        return self.first_rows.get(position, len(self.codes))

    def where(self, position: int) -> str:
        """Return file and line of the text at `position`."""
        return self.where_row(self.first_row(position))

    def place(self, position: int) -> str:
        """Return file, line, text and column for a message."""
        return f"{self.where(position)}: {self.texts[position]!r} in column '{self.name}'"


class WrittenColumn:
    """A column of texts, some of which are numbers; `absent` ones mean "no value"."""

    def __init__(
        self,
        column: DistinctTexts,
        texts: pa.Array,
        absent: NDArray[np.bool_],
        rules: NumberRules,
    ) -> None:
        self.column = column
        self.array = texts
        self.absent = absent
        self.rules = rules
        self.numbers: list[WrittenNumber | None] = []  # of each text

    def read(
        self, must_be_numbers: bool, known: NumberFormat | None
    ) -> tuple[NDArray[np.float64], NumberFormat] | None:
        """Return the number of every distinct text, NaN for none, and the column's format.

        None if the texts are categories. `known` is the format of a trained run. InputError where
        some text is not a number, or the format is not certain.
        """
        has_digits = self.matches(HAS_DIGITS)
        if not must_be_numbers and not self.mostly_numbers(has_digits):
            return None
        self.split_texts(has_digits & ~self.absent)
        if not must_be_numbers:
            self.refuse_other_units()
        if not self.has_one_measure(must_be_numbers):
            self.drop_measured()
        is_number = self.is_number | self.matches(QUALIFIED_NUMBER)
        if not must_be_numbers and not self.mostly_numbers(is_number):
            return None
        return self.values_and_format(must_be_numbers, known)

    def split_texts(self, may_be_number: NDArray[np.bool_]) -> None:
        """Split the texts that may be numbers into the parts of a number."""
        self.numbers = [None] * len(may_be_number)
        for position in np.flatnonzero(may_be_number).tolist():
            self.numbers[position] = split_number(self.column.texts[position])

    def values_and_format(
        self, must_be_numbers: bool, known: NumberFormat | None
    ) -> tuple[NDArray[np.float64], NumberFormat]:
        """Return the number of every distinct text, NaN for none, and the column's format."""
        if known is not None:
            self.read_booleans()
        self.refuse_texts(must_be_numbers, known)
        by_row = self.by_row()
        unit = unit_of(self.column, by_row, known)
        measure = self.measure(known)
        numbers = list(by_row.values())
        notation = notation_of(numbers, self.rules.notations_of(known))
        if isinstance(notation, Undecided):
            raise self.undecided(notation, list(by_row), known, must_be_numbers)
        is_price = unit not in ("", PERCENT)
        if notation == PLAIN and known is None and (is_price or is_grouped(numbers)):
            refuse_grouped(self.column, self.rules, must_be_numbers)
        number_format = replace(notation, unit=unit, measure=measure)
        values = np.full(len(self.numbers), np.nan)
        for position, number in by_row.items():
            value = number.value(number_format)
            if value is not None:
                values[position] = value
        return values, number_format

    @property
    def present(self) -> list[WrittenNumber]:
        """The numbers of the texts that are numbers."""
        return [number for number in self.numbers if number is not None]

    @property
    def is_number(self) -> NDArray[np.bool_]:
        """True for each text that is a number."""
        return np.array([number is not None for number in self.numbers], dtype=bool)

    def by_row(self) -> dict[int, WrittenNumber]:
        """Return {position of a text: number}, in the order of the first rows that have them."""
        numbers = {i: number for i, number in enumerate(self.numbers) if number is not None}
        return {i: numbers[i] for i in sorted(numbers, key=self.column.first_row)}

    def matches(self, pattern: str) -> NDArray[np.bool_]:
        """Return which texts match a pattern of pyarrow's, without the spaces around them."""
        import pyarrow.compute as pc

        trimmed = pc.utf8_trim_whitespace(self.array)
        return as_mask(pc.match_substring_regex(trimmed, pattern))

    # Numbers or categories

    def mostly_numbers(self, is_number: NDArray[np.bool_]) -> bool:
        """Return whether this is a column of numbers.

        It is if nearly all its values are numbers, or all but a few placeholders.
        """
        counts = self.column.counts
        present = counts[~self.absent].sum()
        numbers = counts[is_number].sum()
        if not is_number.any() or not present:
            return False
        if numbers >= MIN_NUMBER_FRACTION * present:
            return True
        placeholders = int((~is_number & ~self.absent).sum())
        is_most = 2 * numbers > present
        max_placeholders = MAX_PLACEHOLDERS
        if is_most:
            max_placeholders = MAX_PLACEHOLDERS_AMONG_MOST
        has_many_numbers = int(is_number.sum()) > MIN_DISTINCT_NUMBERS
        return has_many_numbers and placeholders <= max_placeholders

    def has_one_measure(self, must_be_numbers: bool) -> bool:
        """Return whether what stands behind the numbers is a measure of all of them.

        Few numbers with words behind them are names, such as 12B.
        """
        measure = measure_of(self.present)
        if measure == "":
            return True
        is_sure = must_be_numbers or len(self.present) > MIN_DISTINCT_NUMBERS
        return measure is not None and is_sure

    def drop_measured(self) -> None:
        """Take the numbers with a word behind them for texts."""
        self.numbers = [
            None if number is None or number.measure else number for number in self.numbers
        ]

    # Problems

    def refuse_other_units(self) -> None:
        """Raise InputError for numbers in different units, such as kg and lbs.

        All texts are numbers, with two or three units of at least two letters, and they are too
        many to be categories.
        """
        is_number = self.is_number
        has_texts = (~is_number & ~self.absent).any()
        if has_texts or is_number.sum() <= MIN_DISTINCT_NUMBERS:
            return
        first_positions = self.first_of_unit()
        if not 2 <= len(first_positions) <= MAX_UNITS or not all(map(is_unit, first_positions)):
            return
        if measure_of(self.present) is None:
            raise InputError(self.other_unit(list(first_positions.values())[:2]))

    def first_of_unit(self) -> dict[str, int]:
        """Return the position of the first number with each word behind it."""
        positions: dict[str, int] = {}
        for position, number in enumerate(self.numbers):
            if number is not None and number.measure:
                positions.setdefault(number.measure, position)
        return positions

    def other_unit(self, positions: Sequence[int]) -> str:
        """Return the message for two texts in different units."""
        first, second = sorted(positions, key=self.column.first_row)
        first_text = self.column.texts[first]
        key = setting("dataset.categorical", [self.column.name])
        return (
            f"{self.column.place(second)} is in another unit than {first_text!r} "
            f"({self.column.where(first)}): write all in one unit, or {key} takes the column for a "
            "category"
        )

    def read_booleans(self) -> None:
        """Read true and false as 1 and 0: the run knows the column as numbers."""
        for position, text in enumerate(self.column.texts):
            word = text.strip().lower()
            if self.numbers[position] is None and word in BOOLEANS:
                value = float(BOOLEANS.index(word))
                self.numbers[position] = WrittenNumber(False, word, known=value)

    def refuse_texts(self, must_be_numbers: bool, known: NumberFormat | None) -> None:
        """Raise InputError for the first text that is not a number."""
        wrong = np.flatnonzero(~self.is_number & ~self.absent).tolist()
        if not wrong:
            return
        position = min(wrong, key=self.column.first_row)
        message = f"{self.column.place(position)} is not a number"
        if known is None and self.present:
            text = self.column.texts[position].strip()
            missing = setting("dataset.missing_values", [text])
            message += f"; {missing} if it means that there is no value"
            if not must_be_numbers:
                key = setting("dataset.categorical", [self.column.name])
                message += f", {key} takes the column for a category"
        raise TextAmongNumbersError(message, self.column.name)

    def measure(self, known: NumberFormat | None) -> str:
        """Return the word behind the numbers, "" for none: the known one, or what they have."""
        if known is not None:
            return known.measure
        return measure_of(self.present) or ""

    def undecided(
        self,
        reason: Undecided,
        positions: Sequence[int],
        known: NumberFormat | None,
        must_be_numbers: bool,
    ) -> InputError:
        """Return the error for numbers whose notation is not certain."""
        position = positions[reason.first]
        column = self.column
        if reason.ambiguous:
            return InputError(ambiguous_number(column, position, must_be_numbers))
        if reason.second is not None:
            other = positions[reason.second]
            return InputError(
                f"{column.place(position)} and {column.texts[other]!r} ({column.where(other)}) are "
                "numbers in different notations"
            )
        allowed = self.rules.notations_of(known)
        notations = " or ".join(dict.fromkeys(notation.described() for notation in allowed))
        message = (
            f"{column.place(position)} is not a number in the notation of this column "
            f"({notations}); dataset.decimal and dataset.thousands say how a file writes its "
            "numbers"
        )
        return TextAmongNumbersError(message, column.name)


def is_unit(word: str) -> bool:
    """Return whether a word behind numbers is a unit: of two letters or more, and not "th"."""
    return len(word) >= 2 and word.lower() not in NO_UNITS


def unit_of(
    column: DistinctTexts, by_row: Mapping[int, WrittenNumber], known: NumberFormat | None
) -> str:
    """Return the unit of the numbers, "" for none.

    `by_row` is {position of a text: number}, in the order of the rows. InputError for several
    units, and for a percent sign that some numbers lack.
    """
    units = {""} if known is None else {"", known.unit}
    for position, number in by_row.items():
        if number.known is not None:
            continue
        if number.unit not in units and len(units) > 1:
            raise InputError(
                f"{column.place(position)} is in another unit than the other numbers of the column"
            )
        units.add(number.unit)
    unit = max(units)  # "" comes before any other
    if unit == PERCENT:
        require_percent(column, by_row)
    return unit


def require_percent(column: DistinctTexts, by_row: Mapping[int, WrittenNumber]) -> None:
    """Raise InputError for a number without a percent sign, unless it is 0."""
    for position, number in by_row.items():
        if number.unit != PERCENT and number.digits.strip("0.,"):
            raise InputError(
                f"{column.place(position)} has no percent sign; other numbers of the column have "
                "one"
            )


def refuse_grouped(column: DistinctTexts, rules: NumberRules, must_be_numbers: bool) -> None:
    """Raise InputError where all points of a plain column may separate thousands.

    The file is one with decimal commas.
    """
    if rules.decimal is not None:
        return
    parsed = {i: number for i, text in enumerate(column.texts) if (number := split_number(text))}
    if looks_grouped(list(parsed.values())):
        position = next(i for i, number in parsed.items() if "." in number.digits)
        raise InputError(ambiguous_number(column, position, must_be_numbers))


def ambiguous_number(column: DistinctTexts, position: int, must_be_numbers: bool) -> str:
    """Return the message for a number that may be read in two ways."""
    mark = "."
    if "," in column.texts[position]:
        mark = ","
    word = MARK_WORDS[mark]
    category = f", or {setting('dataset.categorical', [column.name])} for a category"
    if must_be_numbers:
        category = ""
    return (
        f"{column.place(position)} may have a decimal {word} or separated thousands: "
        f"set dataset.decimal={word} or dataset.thousands={word}{category}"
    )
