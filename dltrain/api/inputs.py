"""The inputs of `Predictor.predict`: paths, texts, images, rows and files in memory.

What is in memory is written to a temporary file, so that it is read exactly as the command reads
files.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dltrain.errors import InputError, UsageError
from dltrain.runs.inputs import encoded, files_of, is_place
from dltrain.types import Data, ExportsArrow, ReadsRows, ReadsText, Sample

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_MARK = b"PAR1"  # the first bytes of a Parquet file
CHANNELS = ((), (3,), (4,))  # the axis of an image's channels: gray images have none
GRAY_DEPTHS = (np.uint8, np.uint16)
COLOR_DEPTHS = (np.uint8,)
KINDS = (
    "a path, a text, an image (array or PIL), a row (mapping), rows (data frame, array), "
    "an open file, or an iterable of these"
)


def samples_of(reader: Data, inputs: Any) -> Iterator[Sample]:
    """Yield the samples of all inputs, in their order.

    Raises:
        InputError: A file does not exist, or the run's data does not read such inputs.
        UsageError: An input is of no kind that can be read.
    """
    for kind, read in READERS:
        if isinstance(inputs, kind):
            return read(reader, inputs)
    if is_image(inputs):
        return image_samples(reader, inputs)
    if isinstance(inputs, Iterable) and not isinstance(inputs, bytes):
        return many_samples(reader, inputs)
    raise UsageError(f"predict cannot read {type(inputs).__name__}: expected {KINDS}")


def many_samples(reader: Data, inputs: Iterable[Any]) -> Iterator[Sample]:
    """Yield the samples of each input in turn; consecutive mappings are the rows of one table."""
    rows: list[Mapping[str, Any]] = []
    for one in inputs:
        if isinstance(one, Mapping):
            rows.append(one)
            continue
        yield from row_samples(reader, rows)
        rows = []
        yield from samples_of(reader, one)
    yield from row_samples(reader, rows)


def named_samples(reader: Data, name: str | Path) -> Iterator[Sample]:
    """Yield the samples of a file, a folder or a glob; where texts are read, also of a text."""
    reads_text = isinstance(reader, ReadsText)
    if isinstance(name, str) and reads_text and not is_place(name):
        yield from encoded(reader, [name])
        return
    files, problem = files_of(str(name), reads_text)
    if not files:
        raise InputError(problem)
    yield from encoded(reader, list(files))


def row_samples(reader: Data, rows: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    """Yield the samples of rows, each a mapping of columns to values."""
    if not rows:
        return
    import pyarrow as pa

    names = dict.fromkeys(str(name) for row in rows for name in row)
    columns = {name: as_column([row.get(name) for row in rows]) for name in names}
    yield from table_samples(reader, pa.table(columns))


def as_column(values: list[Any]) -> pa.Array:
    """Return values as a column of numbers, or of texts if they are of several types."""
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values])


def table_samples(reader: Data, frame: Any) -> Iterator[Sample]:
    """Yield the samples of a table that any library hands over (`ExportsArrow`)."""
    if not isinstance(reader, ReadsRows):
        raise InputError("the run was not trained on a table: it cannot predict from rows")
    import pyarrow as pa
    from pyarrow import parquet

    with temporary_file("rows.parquet") as path:
        parquet.write_table(pa.table(frame), path)
        for number, sample in enumerate(reader.encode([path])):
            yield renamed(sample, path, f"row {number}")


def array_samples(reader: Data, values: np.ndarray[Any, Any]) -> Iterator[Sample]:
    """Yield the samples of rows (N, columns), of an image (H, W[, C]), or of images (N, ...)."""
    if isinstance(reader, ReadsRows):
        return table_samples(reader, as_table(values, reader.row_columns))
    if reader.spec.is_image and not reader.spec.actions:
        return image_array_samples(reader, values)
    raise InputError(
        "the run does not predict from arrays: pass a batch to the predictor itself, as in "
        "net(batch), or files or texts to predict"
    )


def as_table(values: np.ndarray[Any, Any], names: Sequence[str]) -> pa.Table:
    """Return an array (N,) or (N, columns) as a table with the columns `names`."""
    import pyarrow as pa

    wanted = list(names) or ["series"]
    columns = values.reshape(-1, 1) if values.ndim == 1 else values
    if columns.shape[1:] != (len(wanted),):
        raise InputError(
            f"the rows have the shape {values.shape}: expected (N, {len(wanted)}), with the "
            f"columns {', '.join(wanted)}"
        )
    return pa.table({name: pa.array(columns[:, i]) for i, name in enumerate(wanted)})


def image_array_samples(reader: Data, values: np.ndarray[Any, Any]) -> Iterator[Sample]:
    """Yield the samples of an image, or of each image of a batch with four axes."""
    images = values if values.ndim == 4 else values[None]
    for number, image in enumerate(images):
        yield from image_samples(reader, as_picture(image), f"image {number}")


def as_picture(pixels: np.ndarray[Any, Any]) -> Any:
    """Return an image of Pillow; InputError for an array that is no image.

    Gray images are (H, W), others (H, W, C) or (C, H, W); uint8, uint16, or floats in 0..1.
    """
    from PIL import Image

    pixels = channels_last(pixels)
    if pixels.dtype.kind == "f":
        pixels = as_bytes(pixels)
    depths = GRAY_DEPTHS if pixels.ndim == 2 else COLOR_DEPTHS
    if not pixels.size:
        raise InputError(f"an array of the shape {pixels.shape} has no pixels")
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in CHANNELS or pixels.dtype not in depths:
        raise InputError(
            f"an array of the shape {pixels.shape} and type {pixels.dtype} is not an image: "
            "expected (H, W), (H, W, C) or (C, H, W) of uint8, or floats in 0..1"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def channels_last(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an image (H, W) or (H, W, C) of an array whose channels may come first."""
    if pixels.ndim != 3:
        return pixels
    if pixels.shape[2:] not in (*CHANNELS, (1,)):
        pixels = pixels.transpose(1, 2, 0)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def as_bytes(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return floats in 0..1 as bytes; InputError for other values."""
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"the image has values from {low:g} to {high:g}: floats are in 0..1, bytes (uint8) in "
            "0..255"
        )
    return np.rint(pixels * 255).astype(np.uint8)


def image_samples(reader: Data, image: Any, name: str = "image") -> Iterator[Sample]:
    """Yield the sample of an image of Pillow."""
    ending = "tiff" if image.mode == "F" else "png"
    with temporary_file(f"image.{ending}") as path:
        image.save(path, **({} if ending == "tiff" else {"compress_level": 1}))
        for sample in reader.encode([path]):
            yield renamed(sample, path, name)


def is_image(value: Any) -> bool:
    """Tell if a value is an image of Pillow."""
    from PIL import Image

    return isinstance(value, Image.Image)


def file_samples(reader: Data, file: io.IOBase) -> Iterator[Sample]:
    """Yield the samples in an open file, from where it stands."""
    if file.closed:
        raise InputError("the file is closed: open it again, or pass its name")
    content = file.read()
    if isinstance(content, str):
        content = content.encode()
    with temporary_file(f"file{ending_for(reader, content)}") as path:
        path.write_bytes(content)
        for sample in reader.encode([path]):
            yield renamed(sample, path, "file")


def ending_for(reader: Data, content: bytes) -> str:
    """Return the ending by which the reader knows the format of a file."""
    if isinstance(reader, ReadsRows):
        return ".parquet" if content.startswith(PARQUET_MARK) else ".csv"
    return ".txt" if isinstance(reader, ReadsText) else ".png"


@contextmanager
def temporary_file(name: str) -> Iterator[Path]:
    """Yield a path for a file that is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="dltrain-") as folder:
        yield Path(folder) / name


def renamed(sample: Sample, path: Path, name: str) -> Sample:
    """Return a sample of a temporary file under another name, also in its problem."""
    problem = sample.problem.replace(sample.name, name).replace(str(path), name)
    return replace(sample, name=name, problem=problem)


def batch_tensor(batch: Any) -> Tensor:
    """Return a batch as a tensor on the CPU; UsageError for anything but a tensor or an array."""
    if isinstance(batch, np.ndarray):
        native = batch.dtype.newbyteorder("=")
        try:  # a copy: the array may be read-only
            return torch.from_numpy(np.array(batch, dtype=native, order="C"))
        except TypeError as e:
            raise InputError(f"the batch is an array of {batch.dtype}: expected numbers") from e
    if isinstance(batch, Tensor):
        return dense(batch)
    raise UsageError(
        f"a batch is a tensor or an array (B, ...), not {type(batch).__name__}; "
        "predict(...) reads paths, texts, images and rows"
    )


def dense(tensor: Tensor) -> Tensor:
    """Return a tensor of any layout with its values on the CPU; InputError if it has none."""
    if tensor.is_meta:
        raise InputError("the tensor is on the device meta, where it has no values")
    return tensor.detach().cpu().to_dense()


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as an array; numbers of a type that NumPy lacks become float32."""
    values = dense(tensor)
    if values.dtype == torch.bfloat16:
        values = values.float()
    return values.numpy()


# The types of inputs, and the function that reads each.
READERS: tuple[tuple[Any, Callable[[Data, Any], Iterator[Sample]]], ...] = (
    (str | Path, named_samples),
    (Mapping, lambda reader, row: row_samples(reader, [row])),
    (ExportsArrow, table_samples),
    (Tensor, lambda reader, values: array_samples(reader, array_of(values))),
    (np.ndarray, array_samples),
    (io.IOBase, file_samples),
)
