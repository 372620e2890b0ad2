"""Reads the samples of a Parquet file, with columns of images and of classes as Hugging Face's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from dltrain.data.shards.labels import MAX_NAMES_SHOWN
from dltrain.data.shards.storage import INSTALL
from dltrain.data.shards.tar_file import REPACK
from dltrain.errors import InputError, first_names
from dltrain.files import to_json

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

IMAGE_NAMES, LABEL_NAMES = ("image", "img"), ("label", "labels", "cls", "class", "target")
BATCH_ROWS = 256  # that are read at a time
METADATA = b"huggingface"  # the key in a schema under which the names of classes are


@dataclass(frozen=True)
class ParquetSample:
    """A sample of a Parquet file: its image and its class, a number or a name."""

    image: bytes
    label: int | str


def require_pyarrow(what: str) -> None:
    """Raise InputError where pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as e:
        raise InputError(f"{what}: Parquet shards need pyarrow: {INSTALL}") from e


def parquet_samples(file: BinaryIO, name: str) -> Iterator[ParquetSample]:
    """Yield the samples of a Parquet file.

    Raises InputError, with the file and the row, for one that is no Parquet file, has no column of
    images or of classes, or has no value in a row.
    """
    opened = open_parquet(file, name)
    image, label = columns_of(opened.schema_arrow, name)
    class_names = declared_names(opened.schema_arrow, label, name)
    row = 0
    for batch in batches(opened, [image, label], name):
        images, labels = batch.column(0), batch.column(1).to_pylist()
        for content, number in zip(contents(images), labels, strict=True):
            if not content:
                raise InputError(
                    f"{name}, row {row}: there is no image in the column {image}: {REPACK}"
                )
            if number is None:
                raise InputError(
                    f"{name}, row {row}: there is no class in the column {label}: {REPACK}"
                )
            yield ParquetSample(content, named(number, class_names, f"{name}, row {row}"))
            row += 1
    if not row:
        raise InputError(f"{name} has no samples: {REPACK}")


def parquet_images(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the images of a Parquet file that was scanned before."""
    opened = open_parquet(file, name)
    image, _ = columns_of(opened.schema_arrow, name)
    for batch in batches(opened, [image], name):
        for content in contents(batch.column(0)):
            yield content or b""


def open_parquet(file: BinaryIO, name: str) -> parquet.ParquetFile:
    """Open a Parquet file; InputError for another file."""
    require_pyarrow(name)
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(file)
    except (ArrowException, OSError, ValueError) as e:
        raise damaged(name, e) from e


def batches(opened: parquet.ParquetFile, columns: list[str], name: str) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a file, a few rows at a time."""
    from pyarrow import ArrowException

    try:
        for batch in opened.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            yield plain(batch.select(columns))
    except (ArrowException, OSError, ValueError) as e:
        raise damaged(name, e) from e


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose columns of dictionaries, such as pandas' categories, have the values."""
    import pyarrow as pa

    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def named(label: int | str, class_names: tuple[str, ...], what: str) -> int | str:
    """Return the name of a class whose number a file has, where the file has `class_names`.

    Raises InputError for a number that has none; negative ones are left as they are.
    """
    if not class_names or isinstance(label, str) or label < 0:
        return label
    if label >= len(class_names):
        raise InputError(
            f"{what}: the sample is of class {label}, but the file names {len(class_names)} "
            f"classes, 0 to {len(class_names) - 1}"
        )
    return class_names[label]


def damaged(name: str, error: Exception) -> InputError:
    """Return the error for a file that cannot be read as Parquet."""
    reason = str(error).splitlines()[0]
    return InputError(
        f"{name} is not a Parquet file, is cut short or damaged ({reason}): "
        f"copy it again, or {REPACK}"
    )


def contents(column: pa.Array) -> Iterator[bytes | None]:
    """Yield the bytes of each image; None where there are none."""
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        is_null = column.is_null()
        column = column.field("bytes")
        for value, missing in zip(column, is_null, strict=True):
            yield None if missing.as_py() else value.as_py()
        return
    for value in column:
        yield value.as_py()


def columns_of(schema: pa.Schema, name: str) -> tuple[str, str]:
    """Return the names of the columns of images and of classes.

    Raises InputError, with the columns that there are, where one is missing or of another type.
    """
    image = column_called(IMAGE_NAMES, schema, name)
    label = column_called(LABEL_NAMES, schema, name)
    require_types(schema, image, label, name)
    return image, label


def column_called(names: tuple[str, ...], schema: pa.Schema, name: str) -> str:
    """Return the first of some names that a schema has."""
    for one in names:
        if one in schema.names:
            return one
    columns = ", ".join(schema.names)
    raise InputError(
        f"{name} has no column {names[0]} (it has {columns}); "
        "expected image (bytes, or a struct with bytes) and label (whole numbers or names)"
    )


def require_types(schema: pa.Schema, image: str, label: str, name: str) -> None:
    """Raise InputError unless images are bytes and classes numbers or names."""
    import pyarrow as pa

    kind = value_type(schema.field(image).type)
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{name}: the column {image} is of the type {kind}; expected bytes, or a struct with "
            "bytes"
        )
    kind = value_type(schema.field(label).type)
    is_name = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (pa.types.is_integer(kind) or is_name):
        raise InputError(
            f"{name}: the column {label} is of the type {kind}; expected whole numbers or names of "
            "classes"
        )


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, which are in a dictionary or in the column itself."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def class_names(file: BinaryIO, name: str) -> tuple[str, ...]:
    """Return the names of classes that Hugging Face's libraries keep in a file; empty without."""
    schema = open_parquet(file, name).schema_arrow
    _, label = columns_of(schema, name)
    return declared_names(schema, label, name)


def declared_names(schema: pa.Schema, label: str, name: str) -> tuple[str, ...]:
    """Return the names of the classes in the column `label`; InputError if one comes twice."""
    try:
        about: Any = json.loads((schema.metadata or {})[METADATA])
        names = tuple(map(str, about["info"]["features"][label]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()
    if len(set(names)) < len(names):
        raise InputError(
            f"{name} names a class twice, of the classes {first_names(names, MAX_NAMES_SHOWN)}"
        )
    return names


def schema_of(class_names: tuple[str, ...]) -> pa.Schema:
    """Return the schema of the files that `pack` writes, which Hugging Face's libraries read."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(class_names)},
    }
    about = to_json({"info": {"features": features}})
    return pa.schema([("image", image), ("label", pa.int64())], metadata={METADATA: about})
