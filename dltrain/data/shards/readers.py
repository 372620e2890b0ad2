"""Reads the samples of a shard of either kind from start to end, for an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from dltrain.data.shards.index import PARQUET
from dltrain.data.shards.labels import Label
from dltrain.data.shards.parquet_file import class_names, parquet_samples
from dltrain.data.shards.tar_file import tar_samples


class OpenedShard(Protocol):
    """A shard whose samples are read from start to end."""

    class_names: tuple[str, ...]
    """The names of the classes that it has itself; empty where it has none."""

    def samples(self) -> Iterator[tuple[str, int, bytes, Label]]:
        """Yield the name, the place, the content and the label of each sample."""

    def size(self) -> int:
        """Return the bytes of the file, once the samples were read."""


class TarShard:
    """A tar file, which names no classes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = CountedFile(file)
        self.name = name
        self.class_names: tuple[str, ...] = ()

    def samples(self) -> Iterator[tuple[str, int, bytes, Label]]:
        """Yield the name, the place, the content and the label of each sample."""
        for sample in tar_samples(self.file, self.name):
            assert sample.label is not None
            yield sample.name, sample.offset, sample.image, sample.label

    def size(self) -> int:
        """Return how many bytes were read."""
        return self.file.total


class CountedFile:
    """A file that counts the bytes that are read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.total = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes of the file."""
        content = self.file.read(size)
        self.total += len(content)
        return content


class ParquetShard:
    """A Parquet file, whose schema may name the classes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.class_names = class_names(file, name)

    def samples(self) -> Iterator[tuple[str, int, bytes, Label]]:
        """Yield the row, the place among the contents, the content and the label of each sample."""
        offset = 0
        for row, one in enumerate(parquet_samples(self.file, self.name)):
            yield str(row), offset, one.image, one.label
            offset += len(one.image)

    def size(self) -> int:
        """Return where the file ends."""
        return self.file.seek(0, 2)


def opened_shard(kind: str, file: BinaryIO, name: str) -> OpenedShard:
    """Return the reader of a shard."""
    return ParquetShard(file, name) if kind == PARQUET else TarShard(file, name)
