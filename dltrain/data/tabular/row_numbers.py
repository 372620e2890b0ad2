"""Columns that only number or name the rows of a table, which no model should see."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_LEVEL = re.compile(r"__index_level_[0-9]+__")
INDEX = "is the row index of pandas (reset_index makes a column of it)"
NAMELESS = re.compile(r"|Unnamed: [0-9]+(?:_level_[0-9]+)?(?:\.[0-9]+)?")
WHOLE = re.compile(r"[0-9]{1,15}(?:\.0*)?")
MIN_COUNTING_SHARE = (
    0.9  # of the steps from row to row are +1: the rows are counted, in several runs
)


def is_row_number_name(name: str) -> bool:
    """Return whether a column has no name, or the one that pandas gives a column without a name."""
    return NAMELESS.fullmatch(name.strip()) is not None


def pandas_index(schema: pa.Schema) -> dict[str, str]:
    """Return the columns of a Parquet file that are the index of a pandas table, each with why it
    is no feature.
    """
    found = {name: INDEX for name in schema.names if INDEX_LEVEL.fullmatch(name)}
    try:
        levels = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        return found
    for level in levels if isinstance(levels, list) else []:
        if isinstance(level, str) and level in schema.names:  # else a range, which is no column
            found[level] = INDEX
    return found


def row_labels(name: str, texts: Sequence[str], codes: NDArray[np.int64]) -> str:
    """Return why a nameless column is no feature, "" where it may be one.

    It counts the rows from 0 or 1, or has different whole numbers, as a part of a shuffled table
    has, or counts in several runs, as tables that were put together do. A column without any name
    may also hold the names of the rows, all different.
    """
    if not len(codes) or (codes < 0).any():
        return ""
    what = "has no name" if not name.strip() else "had no name"
    different = len(texts) == len(codes)
    if all(WHOLE.fullmatch(text.strip()) for text in texts):
        numbers = np.array([float(text) for text in texts])[codes]
        counting = len(numbers) > 1 and (np.diff(numbers) == 1).mean() >= MIN_COUNTING_SHARE
        return f"{what} and numbers the rows" if different or counting else ""
    if different and not name.strip() and not all(_is_number(text) for text in texts):
        return f"{what} and names the rows"
    return ""


def numbers_every_row(values: NDArray[np.float64]) -> bool:
    """Return whether the values (N,) count the rows one by one, from any number on, or are 0..N-1
    or 1..N in any order.
    """
    if len(values) < 2 or np.isnan(values).any():
        return False
    if (np.diff(values) == 1).all():
        return True
    ordered = np.sort(values)
    return bool(ordered[0] in (0, 1) and (np.diff(ordered) == 1).all())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
