"""Turns the values of a file's column into numbers or texts, alike for every file format."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import (
    PERCENT,
    PLAIN,
    NumberFormat,
)
from dltrain.data.io.values import BOOLEANS
from dltrain.data.tabular.files import plain_numbers
from dltrain.data.tabular.files.arrow_values import (
    as_floats,
    as_mask,
    as_texts,
    distinct_array,
    in_seconds,
    is_number_type,
)
from dltrain.data.tabular.files.settings import NumberRules
from dltrain.data.tabular.files.written_column import (
    DistinctTexts,
    WrittenColumn,
    refuse_grouped,
)
from dltrain.data.tabular.table import MAX_NUMBER, Column, Request
from dltrain.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

EMPTY_ONLY = frozenset([""])  # the texts without a value where any word may be a label
NumbersAndFormat: TypeAlias = tuple[NDArray[np.float64], NumberFormat]


class ColumnReader:
    """Reads columns as numbers or texts; `where` returns file and line of a row.

    The notation of numbers is the one that `rules` name, or that all values of a column agree on.
    """

    def __init__(self, where: Callable[[int], str], rules: NumberRules) -> None:
        self.where = where
        self.rules = rules

    def column(self, name: str, values: pa.ChunkedArray, request: Request) -> Column:
        """Return a column of pyarrow's values: numbers where they are or say numbers, else texts.

        InputError with file and line for a text among numbers, and for numbers whose notation is
        not certain.
        """
        values = in_seconds(values)
        is_category = name in request.categories
        if is_number_type(values.type) and not is_category:
            return self.typed_column(name, values, request)
        texts, codes = distinct_array(as_texts(values))
        missing_texts = self.rules.missing_texts
        if is_category and name in request.labels:
            missing_texts = EMPTY_ONLY
        text_column = Column(name, codes, tuple(texts.to_pylist()), missing_texts)
        if is_category:
            return text_column
        distinct = DistinctTexts(name, text_column.texts or (), codes, self.where)
        result = self.numbers_of(distinct, texts, request)
        if result is None:
            return text_column
        numbers, number_format = result
        rows = self.rules.without_missing(np.append(numbers, np.nan)[codes])
        original = text_column if name in request.labels else None
        return Column(name, rows, None, missing_texts, number_format, original)

    def typed_column(self, name: str, values: pa.ChunkedArray, request: Request) -> Column:
        """Return a column that the file stores as numbers."""
        known = request.format_of(name)
        if known is not None and known.unit == PERCENT:
            raise InputError(
                f"{self.where(0)}: column '{name}' holds plain numbers; the run was trained on "
                "percentages, as in '45%': write them alike"
            )
        missing_texts = self.rules.missing_texts
        original = None
        if name in request.labels:
            texts, codes = distinct_array(as_texts(values))
            original = Column(name, codes, tuple(texts.to_pylist()), missing_texts)
        numbers = self.rules.without_missing(as_floats(values))
        return Column(name, numbers, None, missing_texts, PLAIN, original)

    def numbers_of(
        self, distinct: DistinctTexts, texts: pa.Array, request: Request
    ) -> NumbersAndFormat | None:
        """Return the numbers of the `distinct` texts, also given as pyarrow's, and their format.

        None if they are categories. The fast ways of pyarrow come first.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        must_be_numbers = request.is_number(distinct.name)
        known = request.format_of(distinct.name)
        trimmed = pc.utf8_trim_whitespace(texts)
        absent_texts = pa.array(sorted(self.rules.missing_number_texts))
        absent = as_mask(pc.is_in(trimmed, absent_texts))
        plain = plain_numbers.is_plain(texts)
        if self.may_be_plain(known) and (plain | absent).all():
            if not must_be_numbers and not plain.any():
                return None
            if known is None and plain_numbers.has_grouped_points(texts, plain):
                refuse_grouped(distinct, self.rules, must_be_numbers)
            return plain_numbers.read_plain(trimmed, plain), PLAIN
        marked = None
        if known is None or not known.has_unit:
            notations = self.rules.notations_of(known)
            marked = plain_numbers.read_marked(trimmed, absent, notations)
        column = WrittenColumn(distinct, texts, absent, self.rules)
        return marked or column.read(must_be_numbers, known)

    def may_be_plain(self, known: NumberFormat | None) -> bool:
        """Return whether a column may hold plain numbers, by the settings and by what is known."""
        return known in (None, PLAIN) and PLAIN in self.rules.notations

    def parse(self, text: str, known: NumberFormat) -> tuple[float, str]:
        """Return the number that one text says, and what is wrong with the text.

        The number is NaN if the text says "no value". `known` is the format in which a run read the
        column; marks that are set come first.
        """
        stripped = text.strip()
        if stripped in self.rules.missing_number_texts:
            return math.nan, ""
        if stripped.lower() in BOOLEANS:
            return float(BOOLEANS.index(stripped.lower())), ""
        readings = self.readings(text, known)
        if len(readings) > 1:
            problem = "can be read as several numbers: set dataset.decimal or dataset.thousands"
            return math.nan, problem
        number = next(iter(readings), None)
        if number is None or not abs(number) <= MAX_NUMBER:
            return math.nan, no_number_problem(text, known)
        if number in self.rules.missing_numbers:
            return math.nan, ""
        return number, ""

    def readings(self, text: str, known: NumberFormat) -> set[float]:
        """Return the numbers that a text may mean, in the notations that are possible."""
        numbers = set()
        for notation in self.rules.notations_of(known):
            marks = {"decimal": notation.decimal, "thousands": notation.thousands}
            number = replace(known, **marks).parse(text)
            if number is not None:
                numbers.add(number)
        return numbers


def no_number_problem(text: str, known: NumberFormat) -> str:
    """Return what is wrong with a text that is not a number in the format of a column."""
    plain = PLAIN.parse(text)
    if plain is None or not abs(plain) <= MAX_NUMBER:
        return "is not a number"
    return f"is not a number as the run reads this column ({known.described()})"
