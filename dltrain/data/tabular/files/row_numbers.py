"""Recognizes columns that only number or name the rows of a table, which no model should see."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_LEVEL = re.compile(r"__index_level_[0-9]+__")
INDEX = "is the row index of pandas (reset_index makes a column of it)"
NAMELESS = re.compile(r"|Unnamed: [0-9]+(?:_level_[0-9]+)?(?:\.[0-9]+)?")
WHOLE_NUMBER = re.compile(r"[0-9]{1,15}(?:\.0*)?")
MIN_COUNTING_FRACTION = 0.9  # of the steps from row to row that are +1 where rows are counted


def is_row_number_name(name: str) -> bool:
    """Return whether a column has no name, or the one that pandas gives a column without a name."""
    return NAMELESS.fullmatch(name.strip()) is not None


def pandas_index(schema: pa.Schema) -> dict[str, str]:
    """Return the columns of a Parquet file that are the index of a pandas table.

    Each comes with the reason why it is no feature.
    """
    levels = index_levels(schema)
    return {name: INDEX for name in schema.names if INDEX_LEVEL.fullmatch(name)} | {
        level: INDEX for level in levels if level in schema.names
    }


def index_levels(schema: pa.Schema) -> list[str]:
    """Return the index columns that pandas wrote into a file's metadata."""
    try:
        content: Any = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        levels = content.get("index_columns", [])
    except (ValueError, AttributeError):
        return []
    if not isinstance(levels, list):
        return []
    return [level for level in levels if isinstance(level, str)]  # others are ranges, no columns


def row_number_reason(name: str, texts: Sequence[str], codes: NDArray[np.int64]) -> str:
    """Return why a nameless column is no feature, "" where it may be one.

    It counts the rows from 0 or 1, or has different whole numbers, as a part of a shuffled table
    has, or counts in several runs, as tables that were put together do. A column without any name
    may also hold the names of the rows, all different. `codes` (N,) are positions in `texts`.
    """
    if not len(codes) or (codes < 0).any():
        return ""
    is_nameless = not name.strip()
    subject = "had no name"
    if is_nameless:
        subject = "has no name"
    if are_whole_numbers(texts):
        if are_row_numbers(texts, codes):
            return f"{subject} and numbers the rows"
        return ""
    all_differ = len(texts) == len(codes)
    is_name_column = is_nameless and all_differ and not all(map(is_float, texts))
    if is_name_column:
        return f"{subject} and names the rows"
    return ""


def are_whole_numbers(texts: Sequence[str]) -> bool:
    """Return whether all texts are whole numbers."""
    return all(WHOLE_NUMBER.fullmatch(text.strip()) for text in texts)


def are_row_numbers(texts: Sequence[str], codes: NDArray[np.int64]) -> bool:
    """Return whether whole numbers are all different, or count in a few runs."""
    numbers = np.array([float(text) for text in texts])[codes]
    return len(texts) == len(codes) or mostly_counts(numbers)


def mostly_counts(numbers: NDArray[np.float64]) -> bool:
    """Return whether nearly every number (N,) is one more than the number before."""
    if len(numbers) < 2:
        return False
    return bool((np.diff(numbers) == 1).mean() >= MIN_COUNTING_FRACTION)


def numbers_every_row(values: NDArray[np.float64]) -> bool:
    """Return whether the values (N,) count the rows.

    They do so one by one, from any number on, or are 0..N-1 or 1..N in any order.
    """
    if len(values) < 2 or np.isnan(values).any():
        return False
    if (np.diff(values) == 1).all():
        return True
    ordered = np.sort(values)
    starts_at_zero_or_one = ordered[0] in (0, 1)
    return bool(starts_at_zero_or_one and (np.diff(ordered) == 1).all())


def is_float(text: str) -> bool:
    """Return whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
