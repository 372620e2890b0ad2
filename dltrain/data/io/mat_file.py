"""Reads numeric arrays from MATLAB files (.mat) of version 5 to 7, the format of SVHN.

The format is described in MathWorks' "MAT-File Format", chapter "Level 5 MAT-File Format". Only
what numeric arrays need is read: little-endian files, with or without compression. Complex and
sparse arrays, cells, structures and texts are skipped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 128
LITTLE_ENDIAN_VERSION_5 = b"\x00\x01IM"  # at the end of the header
TAG_BYTES = 8  # type and size of an element
ALIGNMENT_BYTES = 8
MATRIX, COMPRESSED = 14, 15  # types of elements
COMPLEX_FLAG = 0x0800
# NumPy's types by the number of the type in which an element stores its values.
STORED_TYPES = {
    1: "i1",
    2: "u1",
    3: "<i2",
    4: "<u2",
    5: "<i4",
    6: "<u4",
    7: "<f4",
    9: "<f8",
    12: "<i8",
    13: "<u8",
}
# NumPy's types by the number of the array's class, which is the type that MATLAB shows.
ARRAY_CLASSES = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}


def read_mat_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the numeric arrays called `names`, in their MATLAB shapes, at least two-dimensional.

    Raises KeyError for a name that the file does not have, ValueError for a file that is broken or
    in another format, and OSError for one that cannot be read.
    """
    content = path.read_bytes()
    if content[124:HEADER_BYTES] != LITTLE_ENDIAN_VERSION_5:
        raise ValueError("it has no header of a little-endian MATLAB file of version 5 to 7")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        for matrix in matrices(content[HEADER_BYTES:]):
            arrays |= read_matrix(matrix, names)
    except (StopIteration, struct.error, zlib.error) as e:
        raise ValueError(f"it is broken: {e}") from e
    for name in names:
        if name not in arrays:
            raise KeyError(f"it has no numeric array {name!r}")
    return arrays


def matrices(content: bytes) -> Iterator[bytes]:
    """Yield the data of each matrix element, decompressed."""
    for kind, data in elements(content):
        if kind == COMPRESSED:
            kind, data = first_element(zlib.decompress(data))
        if kind == MATRIX:
            yield data


def first_element(content: bytes) -> tuple[int, bytes]:
    """Return type and data of the element at the start of `content`."""
    if not content:
        raise ValueError("it has an empty element")
    return next(elements(content))


def elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the data of each element that stands in `content`."""
    start = 0
    while start < len(content):
        kind, size = struct.unpack_from("<II", content, start)
        if kind >> 16:  # a small element: its size, type and data share eight bytes
            kind, size = kind & 0xFFFF, kind >> 16
            first, end = start + 4, start + TAG_BYTES
        else:
            first = start + TAG_BYTES
            padding = 0 if kind == COMPRESSED else -size % ALIGNMENT_BYTES
            end = first + size + padding
        data = content[first : first + size]
        if len(data) < size:
            raise ValueError("it ends within an array")
        yield kind, data
        start = end


def read_matrix(data: bytes, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the array of a matrix element by its name; nothing for one that is not wanted."""
    parts = elements(data)
    _, flags = next(parts)
    _, dimensions = next(parts)
    _, name_bytes = next(parts)
    name = name_bytes.decode("latin-1")
    (flag_bits,) = struct.unpack_from("<I", flags)
    array_class = ARRAY_CLASSES.get(flag_bits & 0xFF)
    if name not in names or array_class is None or flag_bits & COMPLEX_FLAG:
        return {}
    shape = np.frombuffer(dimensions, "<i4")
    kind, values = next(parts)
    if kind not in STORED_TYPES:
        raise ValueError(f"the values of {name} have the unknown type {kind}")
    array = np.frombuffer(values, STORED_TYPES[kind]).reshape(shape, order="F")
    return {name: array.astype(array_class, copy=False)}
