"""Classes of a table's target column: which there are, and the class number of each row.

Labels are texts.
"""

from __future__ import annotations

import logging
import re
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
FEW_ROWS_PER_CLASS = 2  # of which a line says that most classes can hardly be learned
MAX_DISTINCT = 20  # whole numbers of at most so many values, each of them on average in at least
MIN_ROWS_PER_VALUE = 5  # rows, are classes unless dataset.kind says otherwise
MAX_LABEL_SHARE = 0.5  # of the rows with a label that have different ones
LEADING_ZERO = re.compile(r"\s*0[0-9]+\s*")
Kind = Literal["auto", "classification", "regression"]


def class_names(table: Table, target: Column, kind: Kind, as_written: bool) -> tuple[str, ...]:
    """Return the classes of `target`, numbers in their order; none where it is a number to predict.

    Labels that are one value written in two ways are refused, unless they are to be taken
    `as_written`. InputError where there is nothing to tell apart.
    """
    labels = target.as_category()
    present = ~target.missing()
    texts = labels.texts or ()
    codes = np.unique(labels.values[present])
    distinct = [texts[code] for code in codes]
    if kind == "auto" and len(distinct) > 1 and not _looks_like_classes(target, present, distinct):
        return ()
    if len(distinct) > MAX_CLASSES and kind != "classification":
        raise InputError(
            f"{table.where(0)}: the target '{target.name}' has {len(distinct):,} different values: more than "
            f"{MAX_CLASSES:,} are classes only with dataset.kind=classification (dataset.kind=regression for numbers)"
        )
    if not as_written:
        _refuse_same_values(table, labels, codes.tolist())
    names = dict.fromkeys(
        text.strip() if as_written else canonical(text) for text in _sorted(target, labels, codes)
    )
    if len(names) < 2:
        only = f"no value but '{next(iter(names))}'" if names else "no value"
        where = f"{table.where(0)}: from here on the target '{target.name}'"
        raise InputError(f"{where} has {only}: nothing to learn{as_class(labels)}")
    if len(names) == present.sum() > MAX_DISTINCT:
        raise InputError(
            f"{table.where(0)}: from here on every row has another label in the target '{target.name}' "
            f"({len(names):,} of them): nothing to learn; dataset.kind=regression for numbers"
        )
    if kind == "auto" and len(names) > max(MAX_DISTINCT, MAX_LABEL_SHARE * present.sum()):
        raise InputError(
            f"{table.where(0)}: the target '{target.name}' has {len(names):,} different labels in {present.sum():,} rows, "
            "too many to learn what they have in common: choose another target; dataset.kind=classification insists"
        )
    _warn_of_few_rows(table, target, len(names), int(present.sum()))
    return tuple(names)


def _warn_of_few_rows(table: Table, target: Column, classes: int, rows: int) -> None:
    """Log a line where a target has nearly as many classes as rows."""
    if classes > MAX_DISTINCT and rows < FEW_ROWS_PER_CLASS * classes:
        log.warning(
            f"{table.name}: the target '{target.name}' has {classes:,} classes in {rows:,} rows: most can hardly be "
            f"learned or tested. If it is a number, set dataset.kind=regression; if it is a name or an id, choose "
            f"another dataset.target"
        )


def _first_rows(labels: Column) -> dict[int, int]:
    """Return the first row of each code of a column."""
    codes, rows = np.unique(labels.values, return_index=True)
    return dict(zip(codes.tolist(), rows.tolist(), strict=True))


def class_numbers(
    target: Column, names: tuple[str, ...], by_number: bool
) -> tuple[NDArray[np.int64], Column]:
    """Return the class number of every row, -1 for a label that `names` lacks, and the
    labels.

    `by_number` compares labels that are numbers as such, as runs of older versions did.
    """
    labels = target.as_category()
    known = KnownTexts(names)
    found = np.array([*map(known.find, labels.texts or ()), -1])
    if by_number:
        for position, text in enumerate(labels.texts or ()):
            if found[position] < 0 and (number := PLAIN.parse(text)) is not None:
                found[position] = known.find(repr(number))
    return found[labels.values], labels


def as_class(labels: Column) -> str:
    """Return how to take a text that means "no value" for a class; "" where `labels` have no such
    text.
    """
    used = set(np.unique(labels.values).tolist())
    texts = [text.strip() for code, text in enumerate(labels.texts or ()) if code in used]
    words = [text for text in texts if text and labels.means_missing(text)]
    if not words:
        return ""
    key = setting("dataset.categorical", [labels.name])
    return f"; {words[0]!r} means that there is no value, {key} takes it for a class"


def without_label(target: Column, found: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows have no label: the text means "no value" and is no class either."""
    absent = target.missing()
    if target.texts is not None:
        marks = np.array([*(text.strip() in MISSING_MARKS for text in target.texts), False])
        absent = (absent | marks[target.values]) & (found < 0)
    return absent


def _looks_like_classes(target: Column, present: NDArray[np.bool_], distinct: list[str]) -> bool:
    """Return whether labels are classes: texts, codes with leading zeros, or few whole numbers."""
    if target.texts is not None or any(LEADING_ZERO.fullmatch(text) for text in distinct):
        return True
    values = target.values[present]
    few = len(distinct) <= min(MAX_DISTINCT, len(values) / MIN_ROWS_PER_VALUE)
    return few and bool((values == np.round(values)).all())


def _sorted(target: Column, labels: Column, codes: NDArray[np.int64]) -> list[str]:
    """Return the texts of the `codes`: numbers in their order, other texts by alphabet."""
    texts = labels.texts or ()
    if target.texts is not None:
        return sorted(texts[code].strip() for code in codes)
    first_row = _first_rows(labels)
    pairs = [(target.values[first_row[code]], texts[code]) for code in codes.tolist()]
    return [text for _, text in sorted(pairs)]


def _refuse_same_values(table: Table, labels: Column, codes: list[int]) -> None:
    """Raise InputError for two labels that are one value written in two ways; log those that differ
    by spaces.
    """
    texts = labels.texts or ()
    first: dict[str, int] = {}
    first_row = _first_rows(labels)
    spaced = []
    for code in sorted(codes, key=lambda code: first_row[code]):
        other = first.setdefault(value_key(texts[code]), code)
        if other == code:
            continue
        if plain_letters(texts[other]) == plain_letters(texts[code]):
            spaced.append(texts[code])
            continue
        one, two = (table.where(first_row[c]) for c in (other, code))
        raise InputError(
            f"{two}: the label {texts[code]!r} of the target '{labels.name}' is the same value as {texts[other]!r} "
            f"({one}): write it in one way, or {setting('dataset.categorical', [labels.name])} keeps the two apart"
        )
    if spaced:
        log.warning(
            f"{table.name}: labels of the target '{labels.name}' that differ only by spaces or by how Unicode writes them "
            f"are one class: {spaced[0]!a} is {plain_letters(spaced[0])!r}"
        )
