"""Downloads data sets that are absent: a file appears complete and checked, or not at all.

An interrupted download is continued by the next call.
"""

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

from dltrain.data.io.places import AbsentDataError
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
MAX_TRIES = 5  # at one mirror, as long as each try brings new bytes
STALL_SECONDS = 30.0  # without new bytes, after which a connection is given up
MIN_BYTES_PER_SECOND = 1024  # a slower connection has stalled
BLOCK_BYTES = 2**18
PROGRESS_SECONDS = 5.0  # between two lines on the progress of a download
# Data of the user's own in the place of a data set that cannot be had.
OWN_IMAGES = "dataset=image_folder dataset.path=DIR, with a folder of images for each class in it"
OWN_TEXTS = "dataset=text_files dataset.path=DIR, with a folder of texts for each class in it"
OWN_PAIRS = "dataset=translation dataset.pairs.source=FILE dataset.pairs.target=FILE"
OWN_PROSE = "dataset=language_modeling dataset.path=FILE.txt"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
PARTIAL_CONTENT = 206  # HTTP's status of a reply that continues a file
OTHER_PLACE = "point paths.data (or the environment's DLTRAIN_DATA) at another place"


def unpacked_into(folder: Path) -> str:
    """Return the line of `fetch` for the unpacked files of an archive."""
    return f"its unpacked files into {folder.resolve()}"


class Published(NamedTuple):
    """Size in bytes and MD5 of a file that others publish: any other content is not that file."""

    size: int
    md5: str


class MirrorError(Exception):
    """A mirror does not have the file, or has another one: the next mirror may have it."""


def fetch(
    mirrors: Sequence[str],
    files: Mapping[str, Published],
    folder: Path,
    others: Sequence[str] = (),
) -> None:
    """Download each of `files`, by name, into `folder` from the first mirror that has it.

    Files that are there and right are kept. Until it is complete and checked a file is called
    .NAME.part; a later call continues it. One process downloads into a folder at a time, and others
    wait for it. InputError, naming the files and the folder, if a file cannot be had; `others` are
    further ways to have the data, a line each.
    """
    if all(is_right(folder / name, published) for name, published in files.items()):
        return
    with lock_folder(folder):
        for name, published in files.items():
            if is_right(folder / name, published):
                continue
            reasons = download(mirrors, name, published, folder)
            if reasons:
                raise absent_error(files, folder, others, reasons)


def absent_error(
    files: Mapping[str, Published], folder: Path, others: Sequence[str], reasons: str
) -> AbsentDataError:
    """Return the error for files that could not be downloaded, with every way to have the data."""
    listing = "\n".join(f"  {n}  ({p.size:,} bytes, md5 {p.md5})" for n, p in files.items())
    alternatives = "".join(f"\nor: {other}" for other in others)
    return AbsentDataError(
        f"the data set is not here and could not be downloaded ({reasons}).\n"
        f"Put these files into {folder.resolve()}\n{listing}{alternatives}\n"
        "or: paths.data=DIR (or the environment's DLTRAIN_DATA), the folder that holds the data "
        "sets"
    )


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Be the only process that downloads or unpacks here; one that died is no obstacle.

    Raises InputError if the disk is full or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with acquire_lock(folder):
            yield
    except OSError as e:
        if e.errno not in DISK_FULL:
            problem = f"{folder} cannot be written ({e.strerror or e})"
            raise InputError(f"{problem}: {OTHER_PLACE}") from e
        free = shutil.disk_usage(folder).free
        problem = f"there is no room in {folder}: {e.strerror}, {free:,} bytes are free"
        raise InputError(f"{problem}: make room, or {OTHER_PLACE}") from e


def acquire_lock(folder: Path) -> AbstractContextManager[Any]:
    """Acquire the lock of `folder`, and return it as a context that releases it."""
    lock = FileLock(folder / ".download.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info(f"another process is downloading into {folder}: waiting for it")
        return lock.acquire()


def is_right(path: Path, published: Published) -> bool:
    """Return whether `path` is the published file."""
    if size_of(path) != published.size:
        return False
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == published.md5


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 if there is none."""
    if path.is_file():
        return path.stat().st_size
    return 0


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def download(mirrors: Sequence[str], name: str, published: Published, folder: Path) -> str:
    """Download one file from the first mirror that has it.

    Returns why no mirror has it, "" for success. Raises OSError for problems of the disk.
    """
    if not mirrors:
        return f"{name} is not published by itself"
    part = folder / f".{name}.part"
    if shutil.disk_usage(folder).free < published.size - size_of(part):
        raise OSError(errno.ENOSPC, f"{name} takes {published.size:,} bytes")
    reasons = []
    for mirror in mirrors:
        reason = download_from(mirror + name, part, published)
        if not reason:
            sync(part)
            part.replace(folder / name)
            return ""
        reasons.append(f"{mirror}: {' '.join(reason.split())}")
    return "; ".join(reasons)


def download_from(url: str, part: Path, published: Published) -> str:
    """Complete and check the file `part` from one mirror.

    Returns why that failed, "" for success. What is there of the file stays: it may be of use to
    another mirror, or another day.
    """
    reason = ""
    for _ in range(MAX_TRIES):
        size_before = size_of(part)
        try:
            receive(url, part, published)
        except MirrorError as e:
            reason = str(e)
            if size_of(part) > size_before:
                continue
            return reason
        except OSError:
            part.unlink(missing_ok=True)  # a full disk needs the room of the part too
            raise
        if is_right(part, published):
            return ""
        part.unlink()
        reason = "what it has under this name is another file (by its md5)"
        if size_before == 0:
            return reason  # else the part may have been at fault
    return reason


def receive(url: str, part: Path, published: Published) -> None:
    """Append to `part` what a mirror has of the file beyond it.

    Raises MirrorError if the mirror has no more, or something else; OSError for the own disk.
    """
    start = size_of(part)
    if start >= published.size:
        return
    with open_url(url, start) as reply:
        check_reply(reply, start, published)
        name = part.name.removeprefix(".").removesuffix(".part")
        log.info(f"downloading {name} from {urlsplit(url).netloc}: {published.size:,} bytes")
        mode = "wb"
        if reply.status == PARTIAL_CONTENT:
            mode = "ab"
        with part.open(mode) as file:
            for block in blocks(reply):
                file.write(block)
                if file.tell() > published.size:
                    break  # the reply may have no end; its MD5 will not be right
    size = part.stat().st_size
    if size < published.size:
        raise MirrorError(f"the connection ended after {size:,} of {published.size:,} bytes")


def open_url(url: str, start: int) -> http.client.HTTPResponse:
    """Request a file from byte `start` on; MirrorError if there is no reply."""
    headers = {"User-Agent": "dltrain"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        reply: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=STALL_SECONDS)
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise MirrorError(str(e)) from e
    return reply


def check_reply(reply: http.client.HTTPResponse, start: int, published: Published) -> None:
    """Raise MirrorError for a reply that is not the published file from byte `start` on."""
    content_range = reply.headers.get("Content-Range", "")
    size = reply.headers.get("Content-Length", "")
    is_continued = reply.status == PARTIAL_CONTENT
    if is_continued:
        size = content_range.rpartition("/")[2]
    if reply.headers.get_content_type() == "text/html":
        raise MirrorError("it answers with a web page (does this network ask for a login?)")
    if size.isdecimal() and int(size) != published.size:
        raise MirrorError(f"its file has {int(size):,} bytes instead of {published.size:,}")
    if is_continued and not content_range.startswith(f"bytes {start}-"):
        raise MirrorError("it continues the file at another place")


def blocks(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the content as it arrives; MirrorError if the connection breaks or stalls."""
    check_start = time.monotonic()
    last_log = check_start
    total = 0
    total_at_check = 0
    while block := read_block(reply):
        yield block
        total += len(block)
        now = time.monotonic()
        if now - last_log > PROGRESS_SECONDS:
            log.info(f"  {total:,} bytes")
            last_log = now
        if now - check_start > STALL_SECONDS:
            received = total - total_at_check
            if received < MIN_BYTES_PER_SECOND * STALL_SECONDS:
                raise MirrorError(
                    f"the connection has stalled: {received:,} bytes in {now - check_start:.0f} s"
                )
            check_start = now
            total_at_check = total


def read_block(reply: http.client.HTTPResponse) -> bytes:
    """Read what has arrived, b"" at the end; MirrorError if the connection breaks."""
    try:
        return reply.read1(BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as e:
        raise MirrorError(f"the connection broke: {e}") from e
