"""Writes a set of images into shards with an index."""

from __future__ import annotations

import logging
import os
import re
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.dataset import counted
from dltrain.data.images.folder import PROGRESS_SECONDS
from dltrain.data.shards.index import (
    ENDINGS,
    KEYS,
    MOMENTS,
    PARQUET,
    SETS,
    Index,
    SampleWriter,
    Shard,
    file_hash,
    mapped_bytes,
    mapped_samples,
    write_index,
)
from dltrain.data.shards.parquet_file import schema_of
from dltrain.files import sync_directory, writing
from dltrain.rng import keyed
from dltrain.types import PackedSet, Packs

if TYPE_CHECKING:
    from pyarrow import parquet

log = logging.getLogger("dltrain")
ORDER_SEED = 0  # of the order of training samples, which is the same for every run of `pack`
ROW_GROUP_BYTES = 2**21  # of a Parquet file; a reader holds one in memory
MAX_KEY_CHARS = 80  # a name of a tar member has at most 100 without an extension of the format
MEMBER_OVERHEAD = 2 * tarfile.BLOCKSIZE  # of the image and of its class, beside their content
ODD_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]+")


class ShardWriter(Protocol):
    """Writes the samples of a shard."""

    size: int
    """The bytes of the samples so far, about."""

    def add(self, key: str, suffix: str, content: bytes, target: int) -> int:
        """Write a sample; return where its content begins, as the index says it."""

    def close(self) -> None:
        """Complete the file."""


class TarWriter:
    """Writes a tar file in WebDataset's layout: KEY.png with the image, KEY.cls with the class."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0

    def add(self, key: str, suffix: str, content: bytes, target: int) -> int:
        """Write a sample; return where its content begins in the file."""
        offset = self.size + tarfile.BLOCKSIZE
        self.member(f"{key}{suffix}", content)
        self.member(f"{key}.cls", str(target).encode())
        return offset

    def member(self, name: str, content: bytes) -> None:
        """Write a member: its header, and its content in whole blocks."""
        header = tarfile.TarInfo(name)
        header.size = len(content)
        self.write(header.tobuf(tarfile.USTAR_FORMAT))
        self.write(content)
        self.write(bytes(-len(content) % tarfile.BLOCKSIZE))

    def write(self, block: bytes) -> None:
        """Write bytes and count them."""
        self.file.write(block)
        self.size += len(block)

    def close(self) -> None:
        """Write the end of the archive: two empty blocks, and up to a whole record."""
        self.write(bytes(2 * tarfile.BLOCKSIZE))
        self.write(bytes(-self.size % tarfile.RECORDSIZE))


class ParquetWriter:
    """Writes a Parquet file with the columns image (a struct of bytes and path) and label."""

    def __init__(self, file: BinaryIO, class_names: tuple[str, ...]) -> None:
        from pyarrow import parquet

        self.schema = schema_of(class_names)
        self.writer: parquet.ParquetWriter = parquet.ParquetWriter(
            file, self.schema, compression="none", use_dictionary=False, write_statistics=False
        )
        self.size = 0
        self.rows: list[dict[str, Any]] = []
        self.row_bytes = 0

    def add(self, key: str, suffix: str, content: bytes, target: int) -> int:
        """Write a sample; return where its content begins among the contents of the file."""
        offset = self.size
        self.rows.append({"image": {"bytes": content, "path": f"{key}{suffix}"}, "label": target})
        self.size += len(content)
        self.row_bytes += len(content)
        if self.row_bytes >= ROW_GROUP_BYTES:
            self.flush()
        return offset

    def flush(self) -> None:
        """Write a group of rows."""
        import pyarrow as pa

        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows = []
        self.row_bytes = 0

    def close(self) -> None:
        """Write the last rows and the end of the file."""
        self.flush()
        self.writer.close()


@dataclass(frozen=True)
class Packing:
    """The kind of the shards, and about how many bytes each has at most."""

    kind: str
    shard_bytes: int


def pack(data: Packs, folder: Path, packing: Packing) -> Index:
    """Write the sets of some data into shards in an empty `folder`; return their index.

    The samples of the training set come in a random order, which is always the same, so that any
    few shards are like the whole. The index has them in the order of the data.
    """
    sets = {name: one for name, one in data.packed_sets().items() if len(one.targets)}
    names = [name for name in SETS if name in sets]
    spec = data.packed_spec()
    writer = Pack(folder, packing, spec.class_names, sum(map(len_of, sets.values())))
    try:
        rows = np.concatenate([writer.add_set(name, sets[name]) for name in names])
    finally:
        writer.samples.close()
    with writing(folder):
        hashes = writer.samples.finish(rows, np.arange(len(spec.class_names), dtype=np.int32))
        moments = np.concatenate([np.asarray(sets[name].moments) for name in names])
        with (folder / MOMENTS).open("wb") as file:
            np.save(file, moments)
            file.flush()
            os.fsync(file.fileno())
        hashes[MOMENTS] = file_hash(folder / MOMENTS)
        index = Index(
            kind=packing.kind,
            class_names=spec.class_names,
            counts={name: len_of(sets[name]) for name in names},
            shards=tuple(writer.shards),
            samples=mapped_samples(folder),
            keys=mapped_bytes(folder / KEYS),
            image_shape=spec.input_shape,
            mean=spec.mean,
            std=spec.std,
            pixels=data.packed_pixels(),
            hashes=hashes,
        )
        write_index(index, folder)
        sync_directory(folder)
    return index


def len_of(one: PackedSet) -> int:
    """Return the number of samples of a set."""
    return len(one.targets)


class Pack:
    """Writes one shard after the other into a folder."""

    def __init__(
        self, folder: Path, packing: Packing, class_names: tuple[str, ...], total: int
    ) -> None:
        self.folder = folder
        self.packing = packing
        self.class_names = class_names
        self.total = total
        self.samples = SampleWriter(folder)
        self.shards: list[Shard] = []
        self.last_line = time.monotonic()

    def add_set(self, name: str, one: PackedSet) -> NDArray[np.int64]:
        """Write the shards of a set; return the row of each sample in the order of the shards."""
        first_row = self.samples.count
        count = len_of(one)
        order = torch.arange(count)
        if name == "train":
            order = torch.randperm(count, generator=keyed(ORDER_SEED))
        start = number = 0
        while start < count:
            start += self.add_shard(f"{name}-{number:06}", name, one, order[start:])
            number += 1
        return (order + first_row).numpy()

    def add_shard(self, stem: str, set_name: str, one: PackedSet, rows: Tensor) -> int:
        """Write the first of some rows into a shard, until it is full; return how many."""
        name = f"{stem}{ENDINGS[self.packing.kind]}"
        path = self.folder / name
        targets = one.targets
        count = 0
        with writing(path):
            file = path.open("wb")
        with file:
            shard = self.writer(file)
            for row in map(int, rows):
                file_name, content = one.content(row)
                size = len(content) + MEMBER_OVERHEAD
                if count and shard.size + size > self.packing.shard_bytes:
                    break
                key, suffix = key_of(row, file_name)
                target = int(targets[row])
                with writing(path):
                    offset = shard.add(key, suffix, content, target)
                self.samples.add(len(self.shards), offset, content, target, f"{key}{suffix}")
                self.log_progress(name)
                count += 1
            with writing(path):
                shard.close()
                file.flush()
                os.fsync(file.fileno())
        self.shards.append(Shard(name, set_name, count, path.stat().st_size, file_hash(path)))
        return count

    def writer(self, file: BinaryIO) -> ShardWriter:
        """Return the writer of a shard."""
        if self.packing.kind == PARQUET:
            return ParquetWriter(file, self.class_names)
        return TarWriter(file)

    def log_progress(self, name: str) -> None:
        """Log now and then how far the packing is."""
        if time.monotonic() - self.last_line > PROGRESS_SECONDS:
            log.info(f"packing {self.samples.count:,} of {self.total:,} images, now in {name}")
            self.last_line = time.monotonic()


def key_of(row: int, file_name: str) -> tuple[str, str]:
    """Return the key of a sample, its row and the name of its file, and the ending of that.

    A key has neither dots, which begin an extension, nor slashes.
    """
    path = PurePosixPath(file_name)
    stem = ODD_CHARACTERS.sub("_", str(path.with_suffix("")))
    key = f"{row:09}"
    if stem != str(row):
        key = f"{key}_{stem}"[:MAX_KEY_CHARS]
    return key, path.suffix.lower()


def described(index: Index) -> str:
    """Return a line on what was packed."""
    samples = ", ".join(f"{count:,} for {name}" for name, count in index.counts.items())
    size = sum(shard.bytes for shard in index.shards)
    shards = counted(len(index.shards), "shard", "shards")
    return f"{samples}, in {shards} of {size:,} bytes together"
