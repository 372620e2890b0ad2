"""Files with a row for each sample: CSV, lines of JSON, or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.errors import UsageError
from dltrain.files import temporary_name
from dltrain.report.predictions import FORMATS, Row, write

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = ".parquet"
SAMPLE_FORMATS = (*FORMATS, PARQUET)
GROUP_ROWS = 10_000  # that are written to a Parquet file at once


def require_library(out: Path) -> None:
    """Raise UsageError for a Parquet file where pyarrow is missing."""
    if out.suffix == PARQUET and find_spec("pyarrow") is None:
        raise UsageError(f"--out {out}: Parquet files need pyarrow: pip install pyarrow")


def write_samples(rows: Iterator[Row], out: Path) -> int:
    """Write each row as it comes, and return their number."""
    if out.suffix == PARQUET:
        return write_parquet(rows, out)
    number, _ = write(rows, out)
    return number


def write_parquet(rows: Iterator[Row], out: Path) -> int:
    """Write each row as it comes to a Parquet file; `out` is left as it is without rows."""
    import pyarrow as pa
    from pyarrow import parquet

    first = list(islice(rows, GROUP_ROWS))
    if not first:
        return 0
    schema = schema_of(first)
    temporary = temporary_name(out)
    number = 0
    try:
        with parquet.ParquetWriter(temporary, schema) as writer:
            for group in chain([first], iter(lambda: list(islice(rows, GROUP_ROWS)), [])):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                number += len(group)
        temporary.replace(out)
    except OSError as e:
        raise UsageError(f"--out {out}: cannot be written ({e.strerror or e})") from e
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return number


def schema_of(rows: list[dict[str, Any]]) -> pa.Schema:
    """Return the types of the columns; a column without any value has numbers."""
    import pyarrow as pa

    fields = []
    for field in pa.Table.from_pylist(rows).schema:
        if pa.types.is_null(field.type):
            field = field.with_type(pa.float64())
        fields.append(field)
    return pa.schema(fields)
