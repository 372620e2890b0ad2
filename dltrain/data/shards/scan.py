"""Finds the index of a folder of shards, or makes one of shards that come without: once."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from dltrain.data.images.folder import PROGRESS_SECONDS
from dltrain.data.io.layout.split_names import parse_name
from dltrain.data.shards.index import (
    ENDINGS,
    INDEX,
    KEYS,
    KINDS,
    MOMENTS,
    PARQUET,
    SAMPLES,
    SETS,
    Index,
    SampleWriter,
    Shard,
    mapped_bytes,
    mapped_samples,
    read_index,
    write_index,
)
from dltrain.data.shards.parquet_file import class_names, parquet_samples
from dltrain.data.shards.storage import Storage, content_of, copied, fetching
from dltrain.data.shards.tar_file import tar_samples
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
EXPECTED = (
    "expected shards such as train-000000.tar and test-000000.tar, or train-000000.parquet, "
    "as `dltrain pack` writes them"
)
MAX_CLASSES = 2**20
Label = int | str


def index_of(storage: Storage, cache: Path) -> tuple[Index, Path]:
    """Return the index of some shards, and the folder that has its files.

    It is the one that lies with the shards, or was made of them before; else it is made now and
    kept in the folder `cache`.
    """
    if storage.has(INDEX):
        folder = index_folder(storage, cache)
        return read_index(folder, storage.place), folder
    sizes = storage.sizes()
    shards = shards_among(sizes, storage)
    stamps = [f"{name} {sizes[name]} {storage.stamp(name)}" for name in shards]
    content = "\n".join([storage.place, *stamps])
    folder = cache / f"shards-{short_hash(content)}"
    with only_one(folder):
        if not (folder / INDEX).exists():
            make_index(storage, shards, sizes, folder)
    return read_index(folder, str(folder)), folder


def index_folder(storage: Storage, cache: Path) -> Path:
    """Return the folder here that has the index which lies with the shards."""
    if storage.is_local:
        return Path(storage.place)
    content = content_of(storage, INDEX)
    folder = cache / f"shards-{short_hash(content.decode('utf-8', 'replace'))}"
    if not (folder / INDEX).exists():
        with new_folder(folder) as part:
            for name in (SAMPLES, KEYS, MOMENTS):
                if name != MOMENTS or storage.has(name):
                    download(storage, name, part / name)
            (part / INDEX).write_bytes(content)
    return folder


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time make what will be at `path`; others wait, and find it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire(timeout=0)
    except Timeout:
        log.info(f"another process is making {path}: waiting for it")
        lock.acquire()
    except OSError as e:
        raise InputError(
            f"{path.parent} cannot be written ({e.strerror or e}): point paths.data at another disk"
        ) from e
    try:
        yield
    finally:
        lock.release()


def download(storage: Storage, name: str, to: Path) -> None:
    """Copy a file of the index."""
    with storage.open(name) as file, to.open("wb") as out, fetching(storage.file(name)):
        copied(file, out, lambda: None)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `folder`, complete or not at all."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if not folder.exists():
            part.rename(folder)
    except OSError as e:
        if e.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return  # another process was faster
        raise InputError(
            f"{folder} cannot be written ({e.strerror or e}): point paths.data at another disk"
        ) from e
    finally:
        shutil.rmtree(part, ignore_errors=True)


def shards_among(sizes: dict[str, int], storage: Storage) -> list[str]:
    """Return the names of the shards among the files of a folder, all of one kind.

    Raises InputError without any, or with both kinds.
    """
    by_kind = {
        kind: [name for name in sizes if name.lower().endswith(ENDINGS[kind])] for kind in KINDS
    }
    kinds = [kind for kind, names in by_kind.items() if names]
    if not kinds and not storage.is_local:
        raise InputError(
            f"{storage.place} cannot be reached, has no shards, or does not list its files, which "
            f"only shards with an index ({INDEX}) do without; {EXPECTED}"
        )
    if not kinds:
        raise InputError(f"{storage.place} has no shards; {EXPECTED}")
    if len(kinds) > 1:
        raise InputError(
            f"{storage.place} has tar and Parquet files, such as {by_kind[kinds[0]][0]} and "
            f"{by_kind[kinds[1]][0]}: put the shards of one set into a folder of their own"
        )
    return by_kind[kinds[0]]


def set_of(name: str) -> str:
    """Return the set that a shard belongs to by its name: train, unless it says val or test."""
    parts = [*reversed(name.split("/"))]
    for part in parts:
        parsed = parse_name(part.rpartition(".")[0] or part)
        if parsed is not None and parsed.split in SETS:
            return parsed.split
    return "train"


def short_hash(text: str) -> str:
    """Return a short name for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def make_index(storage: Storage, names: list[str], sizes: dict[str, int], folder: Path) -> None:
    """Read all shards once, and write an index of them into `folder`."""
    log.info(
        f"{storage.place} has no {INDEX}: reading its {len(names):,} shards once, for an index in "
        f"{folder}"
    )
    names = sorted(names, key=lambda name: (SETS.index(set_of(name)), name))
    with new_folder(folder) as part:
        Scan(storage, part).run(names, sizes)


class Scan:
    """Reads the samples of shards, and writes their index into a folder."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage = storage
        self.folder = folder
        self.numbers: dict[Label, int] = {}  # of the classes, as they came
        self.last_line = time.monotonic()

    def run(self, names: list[str], sizes: dict[str, int]) -> None:
        """Read some shards and write the index."""
        kind = next(kind for kind in KINDS if names[0].lower().endswith(ENDINGS[kind]))
        writer = SampleWriter(self.folder)
        try:
            shards = [
                self.scan(kind, number, name, sizes[name], writer)
                for number, name in enumerate(names)
            ]
        finally:
            writer.close()
        declared = self.declared_classes(kind, names[0])
        class_names, targets = self.classes(declared)
        hashes = writer.finish(np.arange(writer.count), targets)
        counts = {
            part: sum(shard.samples for shard in shards if shard.set == part) for part in SETS
        }
        index = Index(
            kind=kind,
            class_names=class_names,
            counts={part: count for part, count in counts.items() if count},
            shards=tuple(shards),
            samples=mapped_samples(self.folder),
            keys=mapped_bytes(self.folder / KEYS),
            hashes=hashes,
        )
        write_index(index, self.folder)

    def scan(self, kind: str, number: int, name: str, size: int, writer: SampleWriter) -> Shard:
        """Add the samples of a shard to the index."""
        before = writer.count
        file_name = self.storage.file(name)
        with self.storage.open(name) as file, fetching(file_name):
            for key, offset, content, label in samples_of(kind, file, file_name):
                if isinstance(label, int) and label < 0:
                    raise InputError(
                        f"{file_name}/{key}: its class is {label}, which means that it has none; "
                        "leave out shards without classes"
                    )
                target = self.numbers.setdefault(label, len(self.numbers))
                if target >= MAX_CLASSES:
                    raise InputError(
                        f"{file_name}: there are more than {MAX_CLASSES:,} classes; is the label "
                        "the number of the sample?"
                    )
                writer.add(number, offset, content, target, key)
                self.log_progress(name, writer.count)
        return Shard(name, set_of(name), writer.count - before, size)

    def log_progress(self, name: str, count: int) -> None:
        """Log now and then how far the scan is."""
        if time.monotonic() - self.last_line > PROGRESS_SECONDS:
            log.info(f"reading shards: {count:,} samples, now in {name}")
            self.last_line = time.monotonic()

    def declared_classes(self, kind: str, name: str) -> tuple[str, ...]:
        """Return the names of the classes that a shard itself has; empty where it has none."""
        if kind != PARQUET:
            return ()
        with self.storage.open(name) as file:
            return class_names(file, self.storage.file(name))

    def classes(self, declared: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Return the names of the classes, and the number of each label in the order they came.

        Numbers are positions in the `declared` names. Without these, each number is a class of its
        own name, and names are sorted.
        """
        labels = list(self.numbers)
        require_one_type(labels, self.storage.place)
        if declared and isinstance(labels[0], int):
            require_declared(max(map(int, labels)), declared, self.storage.place)
            return declared, np.array(labels, dtype=np.int32)
        names, targets = np.unique(np.array(labels), return_inverse=True)
        return tuple(map(str, names.tolist())), targets.astype(np.int32)


def require_one_type(labels: list[Label], place: str) -> None:
    """Raise InputError for classes of which some are numbers and some are names."""
    by_type = {type(label): label for label in reversed(labels)}
    if len(by_type) > 1:
        raise InputError(
            f"{place}: some classes are numbers, such as {by_type[int]}, and some are names, such "
            f"as {by_type[str]}; use one of both in all shards"
        )


def require_declared(highest: int, declared: tuple[str, ...], place: str) -> None:
    """Raise InputError for the number of a class that the shards do not name."""
    if highest >= len(declared):
        raise InputError(
            f"{place}: a sample is of class {highest}, but the shards name {len(declared)} "
            f"classes, 0 to {len(declared) - 1}"
        )


def samples_of(kind: str, file: BinaryIO, name: str) -> Iterator[tuple[str, int, bytes, Label]]:
    """Yield the name, the place, the content and the label of each sample of a shard."""
    if kind == PARQUET:
        offset = 0
        for row, one in enumerate(parquet_samples(file, name)):
            yield str(row), offset, one.image, one.label
            offset += len(one.image)
        return
    for sample in tar_samples(file, name):
        assert sample.label is not None
        yield sample.name, sample.offset, sample.image, sample.label
