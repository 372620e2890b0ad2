"""Finds the index of a folder of shards, or makes one of shards that come without: once."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from dltrain.data.images.folder import PROGRESS_SECONDS
from dltrain.data.io.layout.split_names import parse_name
from dltrain.data.io.workers import Job, in_thread
from dltrain.data.shards.index import (
    ENDINGS,
    INDEX,
    KEYS,
    KINDS,
    MOMENTS,
    SAMPLES,
    SETS,
    Index,
    SampleWriter,
    Shard,
    again,
    mapped_bytes,
    mapped_samples,
    read_index,
    write_index,
)
from dltrain.data.shards.labels import MAX_NAMES_SHOWN, Labels
from dltrain.data.shards.readers import opened_shard
from dltrain.data.shards.storage import Storage, content_of, copied, fetching
from dltrain.errors import InputError, first_names
from dltrain.files import sweep, temporary_name

log = logging.getLogger("dltrain")
EXPECTED = (
    "expected shards such as train-000000.tar and test-000000.tar, or train-000000.parquet, "
    "as `dltrain pack` writes them"
)
UNLABELED = "rest"  # the set of shards whose names say that they have no classes
# They begin the names of what is kept, and change when older content is not to be used any more.
SCAN, DOWNLOAD = "scan 2", "download 2"


@dataclass(frozen=True)
class FoundIndex:
    """An index and the folder that has its files, which `is_new` if it was made just now."""

    index: Index
    folder: Path
    is_new: bool = False


def index_of(storage: Storage, cache: Path, timeout: float) -> FoundIndex:
    """Return the index of some shards, and the folder that has its files.

    It is the one that lies with the shards, or was made of them before; else it is made now and
    kept in the folder `cache`. Raises InputError for a file that does not answer for `timeout`
    seconds.
    """
    return in_thread(partial(found_index, storage, cache), timeout)


def found_index(storage: Storage, cache: Path, job: Job) -> FoundIndex:
    """Return the index of some shards and the folder that has its files, found by a thread."""
    job.at(storage.place)
    if storage.has(INDEX):
        folder = index_folder(storage, cache, job)
        job.idle()
        index = read_index(folder, storage.place)
        if storage.is_local:
            job.at(storage.place)
            refuse_unlisted(index, storage)
        return FoundIndex(index, folder)
    sizes = storage.sizes()
    shards = shards_among(sizes, storage)
    stamps = []
    for name in shards:
        job.at(storage.file(name))
        stamps.append(f"{name} {sizes[name]} {storage.stamp(name)}")
    folder = cache / f"shards-{short_hash(to_text([SCAN, storage.place, *stamps]))}"
    job.idle()
    is_new = not (folder / INDEX).exists()
    if is_new:
        with only_one(folder):
            if not (folder / INDEX).exists():
                make_index(storage, shards, sizes, folder, job)
    return FoundIndex(read_index(folder, str(folder)), folder, is_new)


def to_text(parts: list[str]) -> str:
    """Return the parts of a name for some content as one text."""
    return "\n".join(parts)


def index_folder(storage: Storage, cache: Path, job: Job) -> Path:
    """Return the folder here that has the index which lies with the shards."""
    if storage.is_local:
        return Path(storage.place)
    content = content_of(storage, INDEX)
    text = content.decode("utf-8", "replace")
    folder = cache / f"shards-{short_hash(to_text([DOWNLOAD, text]))}"
    if not (folder / INDEX).exists():
        job.idle()
        with only_one(folder):
            if not (folder / INDEX).exists():
                download_index(storage, content, folder, job)
    return folder


def download_index(storage: Storage, content: bytes, folder: Path, job: Job) -> None:
    """Copy an index, whose file INDEX has some `content`, into a folder.

    Raises InputError where a file of it is missing, or is not complete, as during an upload.
    """
    with new_folder(folder) as part:
        for name in (SAMPLES, KEYS, MOMENTS):
            job.at(storage.file(name))
            if name != MOMENTS or storage.has(name):
                download(storage, name, part / name, job)
        (part / INDEX).write_bytes(content)
        job.idle()
        index = read_index(part, storage.place)
        missing = [name for name in index.hashes if not (part / name).exists()]
        if missing:
            raise InputError(f"{storage.file(missing[0])} is missing; {again()}")


def refuse_unlisted(index: Index, storage: Storage) -> None:
    """Raise InputError for shards that lie beside an index which does not list them."""
    names_in_index = {shard.name for shard in index.shards}
    unlisted = [name for name in labeled(list(storage.sizes())) if name not in names_in_index]
    if unlisted:
        raise InputError(
            f"{storage.place} has shards that its {INDEX} does not list: "
            f"{first_names(unlisted, MAX_NAMES_SHOWN)}; take them out of the folder, or {again()}"
        )


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time make what will be at `path`; others wait, and find it.

    What a killed process has left half made is removed.
    """
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
        sweep(path.parent, keep_own=True)
        yield
    finally:
        lock.release()


def download(storage: Storage, name: str, to: Path, job: Job) -> None:
    """Copy a file of the index."""
    step = partial(job.at, storage.file(name))
    with storage.open(name) as file, to.open("wb") as out, fetching(storage.file(name)):
        copied(file, out, step)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `folder`, complete or not at all."""
    part = temporary_name(folder)
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
    """Return the names of the shards with classes among those of a folder, all of one kind.

    Raises InputError without any, or with both kinds.
    """
    names = labeled(list(sizes))
    left_out = [name for name in sizes if name not in set(names)]
    if left_out:
        log.warning(
            f"{storage.place}: {first_names(left_out, MAX_NAMES_SHOWN)} left out, because their "
            "names say that they have no classes"
        )
    by_kind = {
        kind: [name for name in names if name.lower().endswith(ENDINGS[kind])] for kind in KINDS
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
    """Return the set that a shard belongs to by its name: train, unless it says val or test.

    It is UNLABELED for one that has no classes by its name or that of a folder.
    """
    parsed = [parse_name(part.rpartition(".")[0] or part) for part in reversed(name.split("/"))]
    splits = [one.split for one in parsed if one is not None]
    if UNLABELED in splits:
        return UNLABELED
    return next((split for split in splits if split in SETS), "train")


def labeled(names: list[str]) -> list[str]:
    """Return the shards that do not say by their names that they have no classes."""
    return [name for name in names if set_of(name) != UNLABELED]


def short_hash(text: str) -> str:
    """Return a short name for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def make_index(
    storage: Storage, names: list[str], sizes: dict[str, int], folder: Path, job: Job
) -> None:
    """Read all shards once, and write an index of them into `folder`."""
    log.info(
        f"{storage.place} has no {INDEX}: reading its {len(names):,} shards once, for an index in "
        f"{folder}"
    )
    names = sorted(names, key=lambda name: (SETS.index(set_of(name)), name))
    with new_folder(folder) as part:
        Scan(storage, part, job).run(names, sizes)


class Scan:
    """Reads the samples of shards, and writes their index into a folder."""

    def __init__(self, storage: Storage, folder: Path, job: Job) -> None:
        self.storage = storage
        self.folder = folder
        self.job = job
        self.labels = Labels(storage.place)
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
        self.job.idle()
        class_names, targets = self.labels.classes()
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
        self.job.at(file_name)
        with self.storage.open(name) as file, fetching(file_name):
            opened = opened_shard(kind, file, file_name)
            self.labels.declare(opened.class_names, file_name)
            for key, offset, content, label in opened.samples():
                self.job.at(file_name)
                target = self.labels.number(label, file_name, key)
                writer.add(number, offset, content, target, key)
                self.log_progress(name, writer.count)
            # Some servers do not tell the size of a file before it was read.
            return Shard(name, set_of(name), writer.count - before, size or opened.size())

    def log_progress(self, name: str, count: int) -> None:
        """Log now and then how far the scan is."""
        if time.monotonic() - self.last_line > PROGRESS_SECONDS:
            log.info(f"reading shards: {count:,} samples, now in {name}")
            self.last_line = time.monotonic()
