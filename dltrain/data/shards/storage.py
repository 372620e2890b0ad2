"""The folder of shards: on this machine, or at a URL of any file system that fsspec knows."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dltrain.data.io.layout.split_names import parse_name
from dltrain.data.io.places import existing_path
from dltrain.data.shards.index import is_shard
from dltrain.errors import InputError

URL_MARK = "://"
INSTALL = 'pip install "dltrain-cli[shards]"'
COPY_BYTES = 2**20


class Storage(Protocol):
    """A folder of shards. Every method raises InputError, with the file and what to do."""

    place: str
    """The folder or URL, for messages."""

    is_local: bool
    """True where a file can be opened by its path."""

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every shard below, by its relative name, in sorted order.

        Hidden files are left out. The size is 0 where the place does not tell it.
        """

    def stamp(self, name: str) -> str:
        """Return a text that changes with the content of a file, as far as the place tells."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""

    def file(self, name: str) -> str:
        """Return the whole name of a file, for messages."""


class LocalFolder:
    """Shards in a folder of this machine."""

    is_local = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)

    def sizes(self) -> dict[str, int]:
        """Return the size of every shard that is not hidden, by its name relative to the folder.

        Links are followed, as in a folder whose train and test lie on other disks.
        """
        sizes, real_paths = {}, dict[str, str]()
        for path in sorted(self.shards_in(self.path, ())):
            name = path.relative_to(self.path).as_posix()
            with reading(self.file(name)):
                sizes[name] = path.stat().st_size
            other = real_paths.setdefault(os.path.realpath(path), name)
            if other != name:
                raise InputError(
                    f"{self.file(other)} and {self.file(name)} are the same file by a link: take "
                    "one of them out of the folder"
                )
        return sizes

    def shards_in(self, folder: Path, parents: tuple[str, ...]) -> Iterator[Path]:
        """Yield the shards in a folder and in those below; `parents` end a circle of links."""
        real_path = os.path.realpath(folder)
        if real_path in parents:
            return
        with reading(str(folder)):
            paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
            folders = {path for path in paths if path.is_dir()}
        for path in paths:
            if path in folders:
                yield from self.shards_in(path, (*parents, real_path))
            elif is_shard(path.name):
                yield path
            elif path.is_symlink() and not path.exists() and parse_name(path.name):
                raise InputError(f"{path} is a link to {path.readlink()}, which does not exist")

    def stamp(self, name: str) -> str:
        """Return the time of change of a file."""
        with reading(self.file(name)):
            return str((self.path / name).stat().st_mtime_ns)

    def open(self, name: str) -> BinaryIO:
        """Open a regular file."""
        with reading(self.file(name)):
            file = io.BufferedReader(io.FileIO(self.path / name, opener=open_without_waiting))
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise InputError(f"{self.file(name)} is not a regular file")
        return file

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return (self.path / name).is_file()

    def file(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.path / name)


class RemoteFolder:
    """Shards below a URL, which fsspec reads: s3://, gs://, http://, memory:// and others."""

    is_local = False

    def __init__(self, url: str) -> None:
        self.place = url.rstrip("/")
        with fetching(self.place):
            self.system, self.path = file_system(self.place)

    def sizes(self) -> dict[str, int]:
        """Return the size of every shard below the URL, by its name relative to it."""
        with fetching(self.place):
            details = self.system.find(self.path, detail=True)
        start = f"{self.path.rstrip('/')}/"
        sizes = {
            name.removeprefix(start): int(about.get("size") or 0)
            for name, about in sorted(details.items())
        }
        return {
            name: size for name, size in sizes.items() if is_shard(name) and "/." not in f"/{name}"
        }

    def stamp(self, name: str) -> str:
        """Return what the file system tells of a file that changes with its content."""
        with fetching(self.file(name)):
            return str(self.system.ukey(f"{self.path}/{name}"))

    def open(self, name: str) -> BinaryIO:
        """Open a file; it is read from the start to the end."""
        with fetching(self.file(name)):
            file: BinaryIO = self.system.open(f"{self.path}/{name}", "rb")
        return file

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        with fetching(self.file(name)):
            return bool(self.system.exists(f"{self.path}/{name}"))

    def file(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.place}/{name}"


def is_url(path: str) -> bool:
    """Return whether a path names a place on another machine."""
    return URL_MARK in path


def storage_of(path: str, root: Path) -> Storage:
    """Return the folder that dataset.path names: a URL, or a folder here or in the data root."""
    if is_url(path):
        return RemoteFolder(path)
    folder = existing_path("dataset.path", path, root)
    if not folder.is_dir():
        raise InputError(f"dataset.path: {folder} is a file; name the folder that holds the shards")
    return LocalFolder(folder)


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it.

    Raises InputError where fsspec or the library of the file system is missing.
    """
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError as e:
        raise InputError(f"{url}: shards at a URL need fsspec: {INSTALL}") from e
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as e:  # the message names the library of the file system
        raise InputError(f"{url}: {e}; pip install it (http needs {INSTALL})") from e
    except ValueError as e:
        raise InputError(f"dataset.path={url}: {e}") from e
    return system, str(path)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an OSError of the block into an InputError that names `what`."""
    try:
        yield
    except FileNotFoundError as e:
        raise InputError(
            f"{what} is missing: put the shard back, or make the shards again with `dltrain pack`"
        ) from e
    except OSError as e:
        raise InputError(f"{what} cannot be read ({e.strerror or e})") from e


@contextmanager
def fetching(what: str) -> Iterator[None]:
    """Turn any error of a file system in the block into an InputError that names `what`.

    The file systems of fsspec raise errors of their own libraries.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as e:
        raise InputError(f"{what} is missing, or this URL has another name") from e
    except Exception as e:
        reason = " ".join(str(e).split()) or type(e).__name__
        raise InputError(f"{what} cannot be read ({reason})") from e


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to opens at once."""
    return os.open(path, flags | os.O_NONBLOCK)


def copied(source: BinaryIO, to: BinaryIO, step: Callable[[], None]) -> int:
    """Copy a file in blocks, call `step` after each, and return the number of bytes."""
    total = 0
    while block := source.read(COPY_BYTES):
        to.write(block)
        total += len(block)
        step()
    return total


def content_of(storage: Storage, name: str) -> bytes:
    """Return the content of a small file."""
    buffer = io.BytesIO()
    with storage.open(name) as file, fetching(storage.file(name)):
        copied(file, buffer, lambda: None)
    return buffer.getvalue()
