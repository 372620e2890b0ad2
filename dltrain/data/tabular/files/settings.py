"""The settings that say how a text file writes its table."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import NOTATIONS, NumberFormat
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.io.values import MISSING_MARKS, missing_texts
from dltrain.errors import ConfigError

DecimalMark = Literal[".", ",", "point", "comma"]
ThousandsMark = Literal[".", ",", "'", " ", "", "point", "comma", "apostrophe", "space", "none"]
MissingValue = str | int | float
MARK_NAMES = {"point": ".", "comma": ",", "apostrophe": "'", "space": " ", "none": ""}


@dataclass(frozen=True)
class CsvSettings:
    """The notation of a text table; settings that are None are derived from the file.

    `decimal` and `thousands` are marks or their names. `missing_values` are further texts and
    numbers that mean "no value". ConfigError and ValueError for settings that cannot be.
    """

    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
    decimal: DecimalMark | None = None
    thousands: ThousandsMark | None = None
    missing_values: Collection[MissingValue] = ()
    number_rules: NumberRules = field(init=False)

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        rules = NumberRules(self.decimal, self.thousands, self.missing_values)
        object.__setattr__(self, "number_rules", rules)
        character = self.delimiter_character
        if character is not None and len(character) != 1:
            raise ValueError(f"dataset.delimiter={self.delimiter}: expected one character, or tab")

    @property
    def delimiter_character(self) -> str | None:
        """The character between two fields; None where it is found out from the file."""
        if self.delimiter == "tab":
            return "\t"
        return self.delimiter


class NumberRules:
    """The notation of numbers and missing values, as far as the settings say."""

    def __init__(
        self,
        decimal: DecimalMark | None = None,
        thousands: ThousandsMark | None = None,
        missing_values: Collection[MissingValue] = (),
    ) -> None:
        self.decimal = None if decimal is None else MARK_NAMES.get(decimal, decimal)
        self.thousands = None if thousands is None else MARK_NAMES.get(thousands, thousands)
        self.missing_texts = missing_texts(missing_values)
        self.missing_number_texts = self.missing_texts | MISSING_MARKS
        self.missing_numbers = missing_numbers(missing_values)
        self.notations = tuple(filter(self.allows, NOTATIONS))
        if not self.notations:
            problem = "both are the same mark: numbers could not be told apart"
            raise ConfigError(
                [(f"dataset.decimal={decimal} dataset.thousands={thousands}", problem)]
            )

    @property
    def has_marks(self) -> bool:
        """True where the settings name a decimal mark or a separator of thousands."""
        return self.decimal is not None or self.thousands is not None

    def allows(self, notation: NumberFormat) -> bool:
        """Return whether a notation has the marks that are set."""
        has_decimal = self.decimal in (None, notation.decimal)
        return has_decimal and self.thousands in (None, notation.thousands)

    def notations_of(self, known: NumberFormat | None) -> tuple[NumberFormat, ...]:
        """Return the notations that a column may have.

        The marks that are set decide, or else the notation that is known.
        """
        if known is None or self.has_marks:
            return self.notations
        return (NumberFormat(known.decimal, known.thousands),)

    def without_missing(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `numbers` (N,) with NaN for those that dataset.missing_values names."""
        if not self.missing_numbers:
            return numbers
        return np.where(np.isin(numbers, self.missing_numbers), np.nan, numbers)


def missing_numbers(missing_values: Collection[MissingValue]) -> list[float]:
    """Return those of the `missing_values` that are numbers."""
    numbers = []
    for value in missing_values:
        try:
            numbers.append(float(value))
        except ValueError:
            continue
    return numbers
