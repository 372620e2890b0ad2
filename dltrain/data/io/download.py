"""Fetching data sets that are absent: a file arrives whole and checked or not at all; what is half there is taken up."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from dltrain.errors import InputError

log = logging.getLogger("dltrain")
TRIES = 5  # at one mirror, as long as each brings the file forward
STALLED = 30.0  # seconds in which a connection has to bring something
SLOWEST = 1024  # bytes a second: slower is not moving
CHUNK = 2**18  # bytes at a time
PROGRESS_SECONDS = 5.0  # between two lines on how far a download has come
FULL = (errno.ENOSPC, errno.EDQUOT)


class Published(NamedTuple):
    """What a file is that others publish: anything else under its name is not that file."""

    size: int
    md5: str


class Refused(Exception):
    """A mirror does not have the file, or not this one: another may."""


def fetch(
    mirrors: Sequence[str], files: Mapping[str, Published], folder: Path, instead: str = ""
) -> None:
    """Download each of `files`, by name, into `folder` from the first mirror that has it.

    What is there and right is kept. Until it is complete and checked a file is called .NAME.part; a later call takes that
    up. One process downloads into a folder at a time, and others wait for it. InputError, naming the files and the folder,
    where a file cannot be had.
    """
    if all(is_right(folder / name, published) for name, published in files.items()):
        return
    with alone_in(folder):
        for name, published in files.items():
            if not is_right(folder / name, published):
                why = download(mirrors, name, published, folder)
                if why:
                    wanted = "\n".join(
                        f"  {n}  ({p.size:,} bytes, md5 {p.md5})" for n, p in files.items()
                    )
                    raise InputError(
                        f"the data set is not here and could not be downloaded ({why}).\n"
                        f"Put these files into {folder.resolve()}{' ' + instead if instead else ''}\n{wanted}\n"
                        "or point paths.data (or the environment's DLTRAIN_DATA) at the folder that holds the data sets"
                    )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only process that downloads or unpacks here; one that died is no obstacle. InputError where the disk is full or
    cannot be written."""
    elsewhere = "point paths.data (or the environment's DLTRAIN_DATA) at another place"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder):
            yield
    except OSError as e:
        if e.errno not in FULL:
            raise InputError(f"{folder} cannot be written ({e.strerror or e}): {elsewhere}") from e
        free = shutil.disk_usage(folder).free
        why = f"there is no room in {folder}: {e.strerror}, {free:,} bytes are free"
        raise InputError(f"{why}: make room, or {elsewhere}") from e


def one_at_a_time(folder: Path) -> AbstractContextManager[Any]:
    """The lock of `folder`, held, as a context."""
    lock = FileLock(folder / ".download.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info(f"another process is downloading into {folder}: waiting for it")
        return lock.acquire()


def is_right(path: Path, published: Published) -> bool:
    """Whether `path` is the published file."""
    if not path.is_file() or path.stat().st_size != published.size:
        return False
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            == published.md5
        )


def download(mirrors: Sequence[str], name: str, published: Published, folder: Path) -> str:
    """Bring one file from the first mirror that has it; why none does, "" where one did. OSError from the own disk."""
    part, reasons = folder / f".{name}.part", []
    if shutil.disk_usage(folder).free < published.size - size_of(part):
        raise OSError(errno.ENOSPC, f"{name} takes {published.size:,} bytes")
    for mirror in mirrors:
        for _ in range(TRIES):
            before = size_of(part)
            try:
                receive(mirror + name, part, published)
            except Refused as e:
                reason = str(e)
                if size_of(part) > before:
                    continue
                break  # what is there of it may be of use to another mirror, or another day
            except OSError:
                part.unlink(missing_ok=True)  # who has no room left needs that of the part too
                raise
            if is_right(part, published):
                sync(part)
                part.replace(folder / name)
                return ""
            part.unlink()
            reason = "what it has under this name is another file (by its md5)"
            if not before:
                break  # else the part may have been at fault
        reasons.append(f"{mirror}: {' '.join(reason.split())}")
    return "; ".join(reasons)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def receive(url: str, part: Path, published: Published) -> None:
    """Fill `part` from where it ends. Refused where the mirror gives no more, or something else; OSError for the own disk."""
    have = size_of(part)
    if have >= published.size:
        return
    wanted = {"User-Agent": "dltrain", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        request = urllib.request.Request(url, headers=wanted)
        reply = urllib.request.urlopen(request, timeout=STALLED)
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise Refused(str(e)) from e
    with reply:
        continued = reply.status == 206
        size = reply.headers.get("Content-Range" if continued else "Content-Length", "").rpartition(
            "/"
        )[2]
        if reply.headers.get_content_type() == "text/html":
            raise Refused("it answers with a web page (does this network ask for a login?)")
        if size.isdecimal() and int(size) != published.size:
            raise Refused(f"its file has {int(size):,} bytes instead of {published.size:,}")
        if continued and not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise Refused("it continues the file at another place")
        log.info(
            f"downloading {part.name[1:-5]} from {urlsplit(url).netloc}: {published.size:,} bytes"
        )
        with part.open("ab" if continued else "wb") as file:
            for content in pieces(reply):
                file.write(content)
                if file.tell() > published.size:
                    break  # without end, perhaps; what there is will not be right
    if part.stat().st_size < published.size:
        raise Refused(
            f"the connection ended after {part.stat().st_size:,} of {published.size:,} bytes"
        )


def pieces(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes; Refused when the connection breaks or (nearly) nothing comes any more."""
    began = said = time.monotonic()
    came = total = 0
    while True:
        try:
            content = reply.read1(CHUNK)
        except (OSError, http.client.HTTPException) as e:
            raise Refused(f"the connection broke: {e}") from e
        if not content:
            return
        yield content
        came, total, now = came + len(content), total + len(content), time.monotonic()
        if now - said > PROGRESS_SECONDS:
            log.info(f"  {total:,} bytes")
            said = now
        if now - began > STALLED:
            if came < SLOWEST * STALLED:
                raise Refused(f"the connection has stalled: {came:,} bytes in {now - began:.0f} s")
            began, came = now, 0
