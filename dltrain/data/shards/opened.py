"""Opens shards ahead of their use: a tar file here as it is, any other shard as a local copy."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from dltrain.data.io.workers import AHEAD, NEEDED, Job, Workers
from dltrain.data.shards.index import PARQUET, Index, Shard
from dltrain.data.shards.parquet_file import parquet_images
from dltrain.data.shards.storage import Storage, copied, fetching, reading
from dltrain.errors import InputError

MAX_THREADS = 4  # that open shards
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


class OpenShard:
    """An open file with the contents of a shard's samples; closed when nobody needs it any more."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on; fewer where the file ends before."""
        with reading(self.name):
            return os.pread(self.descriptor, length, offset)

    def __del__(self) -> None:
        os.close(self.descriptor)


class ShardOpener:
    """Opens the shards of an index.

    A tar file on this machine is opened where it is. A shard at a URL, and the images of a Parquet
    file, are copied into a file without a name in the folder `cache`, which vanishes when it is
    closed, even if the process is killed.
    """

    def __init__(self, index: Index, storage: Storage, cache: Path) -> None:
        self.index = index
        self.storage = storage
        self.cache = cache

    def open(self, number: int, job: Job) -> OpenShard:
        """Open a shard.

        Raises InputError where it is missing, cannot be read, or is another file than before.
        """
        shard = self.index.shards[number]
        name = self.storage.file(shard.name)
        job.at(name)
        with limit_of_files():
            if self.storage.is_local and self.index.kind != PARQUET:
                with self.storage.open(shard.name) as file:
                    require_size(os.fstat(file.fileno()).st_size, shard, name)
                    return OpenShard(os.dup(file.fileno()), name)
            return self.copy(shard, name, job)

    def copy(self, shard: Shard, name: str, job: Job) -> OpenShard:
        """Return a copy of the contents of a shard, in a file without a name."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.cache) as copy:
                with self.storage.open(shard.name) as file:
                    self.fill(copy, file, shard, name, job)
                copy.flush()
                return OpenShard(os.dup(copy.fileno()), name)
        except OSError as e:
            if e.errno in TOO_MANY_FILES:
                raise
            if e.errno not in DISK_FULL:
                raise InputError(f"{name} cannot be copied to {self.cache} ({e.strerror})") from e
            raise InputError(
                f"there is no room in {self.cache} for a copy of {name}: lower "
                "dataset.shuffle_shards (dataset.balance=sampler keeps copies of all shards), or "
                "point paths.data at another disk"
            ) from e

    def fill(self, copy: BinaryIO, file: BinaryIO, shard: Shard, name: str, job: Job) -> None:
        """Write the contents of a shard to its copy."""
        step = partial(job.at, name)
        if self.index.kind == PARQUET:
            for content in parquet_images(file, name):
                copy.write(content)
                step()
            return
        with fetching(name):
            require_size(copied(file, copy, step), shard, name)


def require_size(size: int, shard: Shard, name: str) -> None:
    """Raise InputError for a shard of another size than the index says."""
    if size != shard.bytes:
        raise InputError(
            f"{name} has {size:,} bytes, but {shard.bytes:,} when the index was made: it was cut "
            "short or replaced; put the old file back, or make the index again (`dltrain pack`)"
        )


@contextmanager
def limit_of_files() -> Iterator[None]:
    """Turn the error of too many open files into an InputError that names the setting."""
    try:
        yield
    except (InputError, OSError) as e:
        cause = e.__cause__ if isinstance(e, InputError) else e
        if isinstance(cause, OSError) and cause.errno in TOO_MANY_FILES:
            raise InputError(
                "too many shards are open at a time for this process: lower "
                "dataset.shuffle_shards (dataset.balance=sampler keeps all of them open), make "
                "larger shards, or raise the limit (ulimit -n)"
            ) from e
        raise


class OpenShards:
    """The shards that a split has open: at most `capacity`, those that were used last."""

    def __init__(self, opener: ShardOpener, capacity: int, timeout: float) -> None:
        self.opener = opener
        self.capacity = capacity
        self.timeout = timeout
        self.jobs: OrderedDict[int, Job] = OrderedDict()

    def workers(self) -> Workers:
        """Return threads that open shards."""
        return Workers(min(MAX_THREADS, self.capacity), self.timeout)

    def begin(
        self, numbers: Sequence[int], workers: Workers, following: Sequence[int] = ()
    ) -> dict[int, Job]:
        """Let the workers open some shards, and after all that are needed those `following` them.

        Returns the job of each of `numbers`, whose result is the shard.
        """
        jobs = {number: self.job(number, workers, NEEDED) for number in numbers}
        ahead = {number: self.job(number, workers, AHEAD) for number in following}
        for number, job in [*ahead.items(), *jobs.items()]:
            self.jobs[number] = job
            self.jobs.move_to_end(number)
        while len(self.jobs) > max(self.capacity, len(jobs) + len(ahead)):
            self.jobs.popitem(last=False)
        return jobs

    def job(self, number: int, workers: Workers, priority: int) -> Job:
        """Return the job that opens a shard, which is in the queue if it was not done before."""
        job = self.jobs.get(number)
        if job is None or is_lost(job):
            return workers.submit(partial(self.opener.open, number), priority)
        if priority == NEEDED and not job.claimed.locked():
            workers.enqueue(job, NEEDED)  # it was begun ahead
        return job


def is_lost(job: Job) -> bool:
    """Return whether a job failed, or will never be done."""
    if job.finished.is_set():
        return job.error is not None
    return job.workers.closed
