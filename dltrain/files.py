"""Writing files so that a crash leaves the old content or the new; and writing JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from dltrain.console import is_encodable
from dltrain.errors import UsageError

TEMPORARY = ".tmp-"  # begins the name of a file or folder that is being written
OLD = ".old-"  # begins the name of one that is being removed


def temporary_name(path: Path, kind: str = TEMPORARY) -> Path:
    """Return the name under which this process prepares `path`, or removes it with `kind` OLD.

    It names machine and process, so that `sweep` can tell whether its writer is alive.
    """
    return path.with_name(f"{kind}{path.name}-{socket.gethostname()}-{os.getpid()}")


def sweep(folder: Path, keep_own: bool = False) -> None:
    """Remove unfinished files and folders, except those of other machines and live processes.

    With `keep_own` those of this process stay too: another thread may be writing them.
    """
    for path in [*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"{OLD}*")]:
        name, _, pid = path.name.rpartition("-")
        if not name.endswith(f"-{socket.gethostname()}"):
            continue
        if pid.isdigit() and (is_alive(int(pid)) or (keep_own and int(pid) == os.getpid())):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another process may be sweeping too
                path.unlink()


def is_alive(pid: int) -> bool:
    """Tell if another process of this machine has that number."""
    if pid == os.getpid():
        return False  # it was left by an earlier part of this process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def writing(what: str | Path, instead: str = "") -> Iterator[None]:
    """Turn an OSError of the block into a UsageError that names `what`.

    `instead` is what to type instead, if that helps. Only writing belongs inside: an error of
    reading would be blamed on the output.
    """
    try:
        yield
    except OSError as e:
        message = f"{what}: cannot be written ({e.strerror or e})"
        if instead:
            message += f"; {instead}"
        raise UsageError(message) from e


def unused_folder(name: str | None) -> Path | None:
    """Return the path of a folder that is still to be made; None without a name.

    Raises UsageError if something has that name.
    """
    if name is None:
        return None
    path = Path(name).expanduser()
    if os.path.lexists(path):
        raise UsageError(f"{path}: exists already; a new run needs a folder of its own")
    return path


@contextmanager
def replacing(path: Path, what: str) -> Iterator[TextIO]:
    """Open a text file that replaces `path` if all goes well and something was written.

    Bytes of a name that is not UTF-8 are written as escapes. Raises UsageError, naming the file as
    `what`, if it cannot be written. Errors of the block pass unchanged.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    with writing(what):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    try:
        yield file
        with writing(what):
            file.close()
            if temporary.stat().st_size:
                temporary.replace(path)
    finally:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_through(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a small file so that a reader sees the old content or the new, never part of it."""
    temporary = temporary_name(path)
    try:
        write_through(temporary, content)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # if nothing can be written, there is nothing to remove
            temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(
    content: Any,
    indent: int | None = None,
    ensure_ascii: bool = True,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Return `content` as JSON that every reader accepts: an infinite number or NaN is null.

    Names that are not UTF-8 are written with escapes, even without `ensure_ascii`.
    """

    def dumped(ascii_only: bool) -> str:
        return json.dumps(
            finite(content),
            indent=indent,
            ensure_ascii=ascii_only,
            default=default,
            allow_nan=False,
        )

    text = dumped(ensure_ascii)
    if is_encodable(text, "utf-8"):
        return text
    return dumped(True)


def finite(content: Any) -> Any:
    """Return a copy of mappings and lists with None for every infinite number and NaN."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {_json_key(name): finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return content


def _json_key(name: Any) -> Any:
    """Return a key that JSON can write: an infinite number or NaN becomes text."""
    is_not_finite = isinstance(name, float) and not math.isfinite(name)
    return str(name) if is_not_finite else name
