"""The classes of a table's target column, and the class number of each row; labels are texts."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import PLAIN
from dltrain.data.io.values import MISSING_MARKS, KnownTexts, canonical, plain_letters, value_key
from dltrain.data.tabular.table import Column, Table
from dltrain.errors import InputError
from dltrain.shell import setting

log = logging.getLogger("dltrain")
MAX_CLASSES = 1000  # unless dataset.kind=classification says that all values are classes
MIN_ROWS_PER_CLASS = 2  # on average; with fewer a line says that most can hardly be learned
# Whole numbers of few different values, each of them on average in several rows, are classes unless
# dataset.kind says otherwise.
MAX_DISTINCT_NUMBERS = 20
MIN_ROWS_PER_NUMBER = 5
MAX_DISTINCT_FRACTION = 0.5  # of the rows with a label that have different ones
LEADING_ZERO = re.compile(r"\s*0[0-9]+\s*")
Kind = Literal["auto", "classification", "regression"]


def class_names(table: Table, target: Column, kind: Kind, as_written: bool) -> tuple[str, ...]:
    """Return the classes of `target`, numbers in their order; none if it is a number to predict.

    Labels that are one value written in two ways are refused, unless they are to be taken
    `as_written`. InputError where there is nothing to tell apart.
    """
    labels = target.as_category()
    present = ~target.missing()
    rows = int(present.sum())
    codes = np.unique(labels.values[present])
    texts = [(labels.texts or ())[code] for code in codes]
    if kind == "auto" and len(texts) > 1 and not look_like_classes(target, texts):
        return ()
    if kind != "classification":
        refuse_too_many_values(table, target, len(texts))
    names = in_order(target, labels, codes)
    if not as_written:
        refuse_same_values(table, labels, codes.tolist())
        names = list(map(canonical, names))
    names = list(dict.fromkeys(map(str.strip, names)))
    if len(names) < 2:
        raise single_class_error(table, labels, names)
    refuse_too_many_classes(table, target, kind, len(names), rows)
    warn_of_few_rows(table, target, len(names), rows)
    return tuple(names)


def look_like_classes(target: Column, texts: Sequence[str]) -> bool:
    """Return whether labels are classes: texts, codes with leading zeros, or few whole numbers."""
    if target.texts is not None or any(LEADING_ZERO.fullmatch(text) for text in texts):
        return True
    values = target.values[~target.missing()]
    max_distinct = min(MAX_DISTINCT_NUMBERS, len(values) / MIN_ROWS_PER_NUMBER)
    return len(texts) <= max_distinct and bool((values == np.round(values)).all())


def in_order(target: Column, labels: Column, codes: NDArray[np.int64]) -> list[str]:
    """Return the texts of the `codes`: numbers in their order, other texts by alphabet."""
    texts = labels.texts or ()
    if target.texts is not None:
        return sorted(texts[code].strip() for code in codes)
    rows = first_rows(labels)
    by_number = [(target.values[rows[code]], texts[code]) for code in codes.tolist()]
    return [text for _, text in sorted(by_number)]


def first_rows(labels: Column) -> dict[int, int]:
    """Return the first row of each code of a column."""
    codes, rows = np.unique(labels.values, return_index=True)
    return dict(zip(codes.tolist(), rows.tolist(), strict=True))


# Problems


def refuse_too_many_values(table: Table, target: Column, values: int) -> None:
    """Raise InputError for a target with more values than classes are expected."""
    if values > MAX_CLASSES:
        raise InputError(
            f"{table.where(0)}: the target '{target.name}' has {values:,} different values: more "
            f"than {MAX_CLASSES:,} are classes only with dataset.kind=classification "
            "(dataset.kind=regression for numbers)"
        )


def single_class_error(table: Table, labels: Column, names: Sequence[str]) -> InputError:
    """Return the error for a target with one class or none."""
    values = "no value"
    if names:
        values = f"no value but '{names[0]}'"
    return InputError(
        f"{table.where(0)}: from here on the target '{labels.name}' has {values}: nothing to learn"
        f"{as_class_hint(labels)}"
    )


def refuse_too_many_classes(
    table: Table, target: Column, kind: Kind, classes: int, rows: int
) -> None:
    """Raise InputError for a target with another class in most rows."""
    if classes == rows > MAX_DISTINCT_NUMBERS:
        raise InputError(
            f"{table.where(0)}: from here on every row has another label in the target "
            f"'{target.name}' ({classes:,} of them): nothing to learn; dataset.kind=regression for "
            "numbers"
        )
    if kind == "auto" and classes > max(MAX_DISTINCT_NUMBERS, MAX_DISTINCT_FRACTION * rows):
        raise InputError(
            f"{table.where(0)}: the target '{target.name}' has {classes:,} different labels in "
            f"{rows:,} rows, too many to learn what they have in common: choose another target; "
            "dataset.kind=classification insists"
        )


def warn_of_few_rows(table: Table, target: Column, classes: int, rows: int) -> None:
    """Log a line for a target that has nearly as many classes as rows."""
    if classes > MAX_DISTINCT_NUMBERS and rows < MIN_ROWS_PER_CLASS * classes:
        log.warning(
            f"{table.name}: the target '{target.name}' has {classes:,} classes in {rows:,} rows: "
            "most can hardly be learned or tested. If it is a number, set dataset.kind=regression; "
            "if it is a name or an id, choose another dataset.target"
        )


def refuse_same_values(table: Table, labels: Column, codes: Sequence[int]) -> None:
    """Raise InputError for two labels that are one value written in two ways.

    Labels that differ only by spaces are logged.
    """
    texts = labels.texts or ()
    rows = first_rows(labels)
    code_of_value: dict[str, int] = {}
    spaced = []
    for code in sorted(codes, key=lambda code: rows[code]):
        first = code_of_value.setdefault(value_key(texts[code]), code)
        if first == code:
            continue
        if plain_letters(texts[first]) == plain_letters(texts[code]):
            spaced.append(texts[code])
            continue
        key = setting("dataset.categorical", [labels.name])
        raise InputError(
            f"{table.where(rows[code])}: the label {texts[code]!r} of the target '{labels.name}' "
            f"is the same value as {texts[first]!r} ({table.where(rows[first])}): write it in one "
            f"way, or {key} keeps the two apart"
        )
    if spaced:
        log.warning(
            f"{table.name}: labels of the target '{labels.name}' that differ only by spaces or by "
            f"how Unicode writes them are one class: {spaced[0]!a} is "
            f"{plain_letters(spaced[0])!r}"
        )


# Class numbers


def class_numbers(
    target: Column, names: tuple[str, ...], by_number: bool
) -> tuple[NDArray[np.int64], Column]:
    """Return the class number of every row, -1 for a label that `names` lacks, and the labels.

    `by_number` compares labels that are numbers as such, as runs of older versions did.
    """
    labels = target.as_category()
    known = KnownTexts(names)
    numbers = [known.find(text) for text in labels.texts or ()]
    if by_number:
        for position, text in enumerate(labels.texts or ()):
            number = PLAIN.parse(text)
            if numbers[position] < 0 and number is not None:
                numbers[position] = known.find(repr(number))
    numbers.append(-1)  # for rows without a label
    return np.array(numbers)[labels.values], labels


def as_class_hint(labels: Column) -> str:
    """Return how to take a text that means "no value" for a class.

    It is "" if no label is such a text.
    """
    used_codes = np.unique(labels.values[labels.values >= 0]).tolist()
    texts = [(labels.texts or ())[code].strip() for code in used_codes]
    words = [text for text in texts if text and labels.means_missing(text)]
    if not words:
        return ""
    key = setting("dataset.categorical", [labels.name])
    return f"; {words[0]!r} means that there is no value, {key} takes it for a class"


def without_label(target: Column, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows have no label: the text means "no value" and is no class either.

    `numbers` are the class numbers (N,), -1 for none.
    """
    missing = target.missing()
    if target.texts is None:
        return missing
    is_mark = [text.strip() in MISSING_MARKS for text in target.texts]
    is_mark.append(False)  # for -1
    return (missing | np.array(is_mark)[target.values]) & (numbers < 0)
