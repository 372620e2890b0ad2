"""Unpacking archives of data sets: only the files that are asked for, only into their folder, all of them or none."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, cast

from dltrain.data.io.download import alone_in, sync
from dltrain.errors import InputError

HEADERS = 2**20  # bytes of an unpacked archive that are none of the data's


class Hostile(Exception):
    """An archive is not what a data set's could be."""


BROKEN = (
    Hostile,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
    OSError,
)


class Bounded:
    """Reads `file` up to `limit` bytes: an archive that is small may unpack to anything."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self.file, self.left = file, limit

    def read(self, size: int) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise Hostile("it is larger than the data set")
        return content


def unpack(archive: Path, names: Sequence[str], folder: Path, most: int) -> None:
    """Put the members `names` of a .tar.gz or .zip file into `folder`, `most` bytes in all, unless they are there already.

    They are unpacked beside it, and appear when the last one is whole. InputError for an archive that is broken, lacks one
    of them, has members that would leave the folder, or is larger than it should be; nothing of it is kept then.
    """
    with alone_in(folder.parent):
        if all((folder / PurePosixPath(name).name).is_file() for name in names):
            return  # another process was first
        temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir()
        try:
            members = from_zip if archive.suffix == ".zip" else from_tar
            found = set()
            for name, content in members(archive, set(names), most):
                with (temporary / PurePosixPath(name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)
                found.add(name)
            if missing := [name for name in names if name not in found]:
                raise Hostile(f"it has no {missing[0]}")
            appear(temporary, folder)
        except BROKEN as e:
            if isinstance(e, OSError) and e.errno is not None:
                raise  # the disk's
            raise InputError(
                f"{archive} cannot be unpacked ({e}); delete it to download it again"
            ) from e
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def from_tar(archive: Path, wanted: Container[str], most: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the wanted members; Hostile or TarError for any other that could do harm."""
    with gzip.open(archive) as packed:
        file = Bounded(packed, most + HEADERS)
        tar = tarfile.open(fileobj=cast(IO[bytes], file), mode="r|")  # noqa: SIM115 - it reads what `packed` closes
        for member in tar:
            tarfile.data_filter(member, str(archive.parent))
            content = tar.extractfile(member) if member.isfile() else None
            if member.name in wanted:
                if content is None:
                    raise Hostile(f"{member.name} is no file")
                yield member.name, content
        while file.read(2**16):
            continue  # gzip compares its checksum at the end of the file, which tar does not read


def from_zip(archive: Path, wanted: set[str], most: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the wanted members."""
    with zipfile.ZipFile(archive) as file:
        infos = [info for info in file.infolist() if info.filename in wanted]
        if sum(info.file_size for info in infos) > most:
            raise Hostile("it is larger than the data set")
        for info in infos:
            with file.open(info) as content:
                yield info.filename, content


def appear(temporary: Path, folder: Path) -> None:
    """Make the files of `temporary` those of `folder`, at one instant where there is no such folder yet."""
    for path in temporary.iterdir():
        sync(path)
    if not folder.exists():
        temporary.rename(folder)
        return
    for path in temporary.iterdir():
        path.replace(folder / path.name)
