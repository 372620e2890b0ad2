"""Reads columns of digits and marks with pyarrow, without a Python object for each text.

This is the fast path of `column_reader`; it finds what `written_column` would find.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.number_format import (
    ADDRESS,
    MIN_GROUPED,
    PATTERNS,
    PLAIN,
    NumberFormat,
)
from dltrain.data.tabular.files.arrow_values import as_mask

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
GROUPED_NUMBER = r"^\s*[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+\s*$"
ASCII_FORMS = ((r"[\x{00a0}\x{202f}\x{2009}]", " "), (r"[’‘]", "'"), (r"[−–]", "-"))


def is_plain(texts: pa.Array) -> NDArray[np.bool_]:
    """Return which texts are numbers with a decimal point and nothing else."""
    import pyarrow.compute as pc

    return as_mask(pc.match_substring_regex(texts, PLAIN_NUMBER))


def has_grouped_points(texts: pa.Array, plain: NDArray[np.bool_]) -> bool:
    """Return whether the points of plain numbers most likely separate thousands.

    The rule is that of `number_format.is_grouped`.
    """
    import pyarrow.compute as pc

    has_point = plain & as_mask(pc.match_substring_regex(texts, r"\."))
    grouped = as_mask(pc.match_substring_regex(texts, GROUPED_NUMBER))
    has_others = bool((plain & ~has_point).any())
    return has_others and has_point.sum() >= MIN_GROUPED and bool(grouped[has_point].all())


def read_plain(trimmed: pa.Array, plain: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the numbers (N,) of `trimmed` texts, NaN where they are not `plain` ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    signless = pc.replace_substring_regex(trimmed, r"^\+", "")
    numbers = np.full(len(trimmed), np.nan)
    numbers[plain] = pc.cast(signless.filter(pa.array(plain)), pa.float64()).to_numpy()
    return numbers


def read_marked(
    texts: pa.Array, absent: NDArray[np.bool_], notations: Sequence[NumberFormat]
) -> tuple[NDArray[np.float64], NumberFormat] | None:
    """Return the numbers of texts that are digits with marks and nothing else, and their notation.

    None where some text has more in it, or where the notation is not certain.
    """
    texts = with_ascii_marks(texts)
    fitting = [notation for notation in notations if fits(texts, absent, notation)]
    if not fitting or absent.all() or fitting[0] == PLAIN or has_addresses(texts):
        return None
    first, *others = [read_notation(texts, absent, notation) for notation in fitting]
    if any(not np.array_equal(first, other, equal_nan=True) for other in others):
        return None
    return first, fitting[0]


def with_ascii_marks(texts: pa.Array) -> pa.Array:
    """Return texts with ASCII spaces, apostrophes and minuses."""
    import pyarrow.compute as pc

    for pattern, replacement in ASCII_FORMS:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def has_addresses(texts: pa.Array) -> bool:
    """Return whether a text is an Internet address rather than a number."""
    import pyarrow.compute as pc

    return bool(as_mask(pc.match_substring_regex(texts, f"^{ADDRESS.pattern}$")).any())


def fits(texts: pa.Array, absent: NDArray[np.bool_], notation: NumberFormat) -> bool:
    """Return whether all texts that are not `absent` are numbers in a notation."""
    import pyarrow.compute as pc

    pattern = PATTERNS[notation.decimal, notation.thousands].pattern
    matches = as_mask(pc.match_substring_regex(texts, f"^[-+]?(?:{pattern})$"))
    return bool((absent | matches).all())


def read_notation(
    texts: pa.Array, absent: NDArray[np.bool_], notation: NumberFormat
) -> NDArray[np.float64]:
    """Return the numbers (N,) of texts in a notation, NaN where they are `absent`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    present = pc.replace_substring_regex(texts.filter(pa.array(~absent)), r"^\+", "")
    if notation.thousands:
        present = pc.replace_substring(present, notation.thousands, "")
    present = pc.replace_substring(present, notation.decimal, ".")
    numbers = np.full(len(texts), np.nan)
    numbers[~absent] = pc.cast(present, pa.float64()).to_numpy()
    return numbers
