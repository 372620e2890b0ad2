"""Unpacks archives of data sets: only the requested files, only into their folder, all or none."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, cast

from dltrain.data.io.download import lock_folder, sync
from dltrain.errors import InputError

MAX_HEADER_BYTES = 2**20  # of an unpacked archive, besides the files in it
BLOCK_BYTES = 2**16


class UnsafeArchiveError(Exception):
    """An archive is not what a data set's can be."""


ARCHIVE_ERRORS = (
    UnsafeArchiveError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
    OSError,
)


class LimitedReader:
    """Reads `file` up to `limit` bytes: an archive that is small may unpack to any size."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self.file = file
        self.left = limit

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; UnsafeArchiveError beyond the limit."""
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise UnsafeArchiveError("it is larger than the data set")
        return content


def unpack(archive: Path, names: Sequence[str], folder: Path, max_bytes: int) -> None:
    """Put the members `names` of a .tar.gz or .zip file into `folder`, unless they are there.

    They are unpacked beside it, and appear when the last one is complete. InputError for an archive
    that is broken, lacks one of them, has members that would leave the folder, or has more than
    `max_bytes` in it; nothing of it is kept then.
    """
    with lock_folder(folder.parent):
        if all((folder / PurePosixPath(name).name).is_file() for name in names):
            return  # another process was first
        temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir()
        try:
            unpack_members(archive, names, temporary, max_bytes)
            publish(temporary, folder)
        except ARCHIVE_ERRORS as e:
            is_disk_error = isinstance(e, OSError) and e.errno is not None
            if is_disk_error:
                raise
            raise InputError(
                f"{archive} cannot be unpacked ({e}); delete it to download it again"
            ) from e
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def unpack_members(archive: Path, names: Sequence[str], folder: Path, max_bytes: int) -> None:
    """Write the members `names` into `folder`; UnsafeArchiveError if one of them is missing."""
    members = from_tar
    if archive.suffix == ".zip":
        members = from_zip
    missing = dict.fromkeys(names)
    for name, content in members(archive, set(names), max_bytes):
        with (folder / PurePosixPath(name).name).open("wb") as file:
            shutil.copyfileobj(content, file)
        missing.pop(name, None)
    if missing:
        raise UnsafeArchiveError(f"it has no {next(iter(missing))}")


def from_tar(
    archive: Path, wanted: Container[str], max_bytes: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of the wanted members.

    Raises UnsafeArchiveError or TarError for any member that can do harm.
    """
    with gzip.open(archive) as packed:
        file = LimitedReader(packed, max_bytes + MAX_HEADER_BYTES)
        tar = tarfile.open(fileobj=cast(IO[bytes], file), mode="r|")  # noqa: SIM115 - `packed` closes
        for member in tar:
            tarfile.data_filter(member, str(archive.parent))
            content = tar.extractfile(member) if member.isfile() else None
            if member.name not in wanted:
                continue
            if content is None:
                raise UnsafeArchiveError(f"{member.name} is not a regular file")
            yield member.name, content
        while file.read(BLOCK_BYTES):
            continue  # gzip compares its checksum at the end of the file, which tar does not read


def from_zip(
    archive: Path, wanted: Container[str], max_bytes: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of the wanted members."""
    with zipfile.ZipFile(archive) as file:
        infos = [info for info in file.infolist() if info.filename in wanted]
        if sum(info.file_size for info in infos) > max_bytes:
            raise UnsafeArchiveError("it is larger than the data set")
        for info in infos:
            with file.open(info) as content:
                yield info.filename, content


def publish(temporary: Path, folder: Path) -> None:
    """Move the files of `temporary` into `folder`, at once if it does not exist yet."""
    for path in temporary.iterdir():
        sync(path)
    if not folder.exists():
        temporary.rename(folder)
        return
    for path in temporary.iterdir():
        path.replace(folder / path.name)
