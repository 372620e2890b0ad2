"""Converts pyarrow's values to NumPy numbers and to texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

UNITS_IN_SECONDS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # of durations, per second


def as_mask(values: Any) -> NDArray[np.bool_]:
    """Return Boolean values (N,); null counts as false."""
    mask: NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def is_number_type(kind: pa.DataType) -> bool:
    """Return whether a type holds numbers, also in a dictionary."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def without_dictionary(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values themselves instead of positions in a dictionary."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(values.type):
        return values
    return pc.cast(values, values.type.value_type)


def in_seconds(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return durations as numbers of seconds, in whatever unit they are stored.

    Other values are returned as they are.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_duration(values.type):
        return values
    counts = pc.cast(pc.cast(values, pa.int64()), pa.float64(), safe=False)
    return pc.divide(counts, UNITS_IN_SECONDS[values.type.unit])


def as_floats(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return numbers of any type as float64 (N,), NaN where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = pc.cast(without_dictionary(values), pa.float64(), safe=False).to_numpy()
    return np.asarray(numbers, dtype=np.float64)


def as_texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values of any type as a dictionary of texts.

    Raises pyarrow.ArrowException for a type that cannot be written as text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type) and pa.types.is_string(values.type.value_type):
        return values.unify_dictionaries()
    values = without_dictionary(values)
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    return pc.cast(values, pa.string()).dictionary_encode().unify_dictionaries()


def distinct_array(values: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the distinct texts of a dictionary column, and each row's position in them.

    The position of a row without a text is -1.
    """
    import pyarrow as pa

    whole = values.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], values.type)
    texts = whole.dictionary
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    is_null = as_mask(texts.is_null())
    if is_null.any():  # other writers of Parquet may store null as an entry of the dictionary
        codes = np.where(np.append(is_null, False)[codes], -1, codes)
        texts = texts.fill_null("")
    return texts, codes


def distinct_texts(values: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Return the same as `distinct_array`, with the texts in a list."""
    texts, codes = distinct_array(values)
    return texts.to_pylist(), codes


def row_texts(values: pa.ChunkedArray, as_number: bool) -> list[str]:
    """Return the text of every row, "" for none; with `as_number`, numbers in full precision."""
    values = in_seconds(values)
    if as_number and is_number_type(values.type):
        return ["" if math.isnan(number) else repr(number) for number in as_floats(values).tolist()]
    texts, codes = distinct_texts(as_texts(values))
    texts.append("")  # for the code -1
    return [texts[code] for code in codes.tolist()]


def row_texts_or_empty(values: pa.ChunkedArray) -> list[str]:
    """Return the text of every row, and empty texts for a type that cannot be written as text."""
    import pyarrow as pa

    try:
        return row_texts(values, as_number=False)
    except pa.ArrowException:
        return [""] * len(values)
