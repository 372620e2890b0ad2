"""Writing files so that a crash leaves the old content or the new, and the one way in which JSON is
written.
"""

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

from dltrain.errors import UsageError

TEMPORARY, OLD = (
    ".tmp-",
    ".old-",
)  # what such names begin with: of what is being written, and of what is being removed


def temporary_name(path: Path, kind: str = TEMPORARY) -> Path:
    """Where this process prepares what will be called `path`, or puts what was: it says who, for the next to sweep."""
    return path.with_name(f"{kind}{path.name}-{socket.gethostname()}-{os.getpid()}")


def sweep(folder: Path) -> None:
    """Remove what writers left unfinished in `folder`, unless they are alive (or of another machine)."""
    for path in [*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"{OLD}*")]:
        rest, _, pid = path.name.rpartition("-")
        if rest.endswith(f"-{socket.gethostname()}") and not (pid.isdigit() and alive(int(pid))):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):  # another may be sweeping too
                    path.unlink()


def alive(pid: int) -> bool:
    """Whether another process of this machine has that number."""
    if pid == os.getpid():
        return False  # what it left itself, it left before
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def writing(what: str | Path, instead: str = "") -> Iterator[None]:
    """Turn an OSError of the block into a UsageError that names `what` and, if given, what to type
    `instead`.

    Only writing belongs inside: an error of reading would be blamed on the output.
    """
    try:
        yield
    except OSError as e:
        hint = f"; {instead}" if instead else ""
        raise UsageError(f"{what}: cannot be written ({e.strerror or e}){hint}") from e


@contextmanager
def replacing(path: Path, what: str) -> Iterator[TextIO]:
    """Open a text file that takes the place of `path` when all went well and something was written.

    UsageError, naming it as `what`, where it cannot be written; an error of what is done inside
    passes unchanged.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    with writing(what):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = temporary.open("w", encoding="utf-8", newline="")
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
        with suppress(OSError):  # where nothing can be written, nothing is there
            temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
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
    """Write `content` as JSON that every reader takes: an infinite number or NaN becomes null."""
    return json.dumps(
        finite(content), indent=indent, ensure_ascii=ensure_ascii, default=default, allow_nan=False
    )


def finite(content: Any) -> Any:
    """Copy mappings and lists with None in the place of every infinite number and NaN."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {_json_key(name): finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return content


def _json_key(name: Any) -> Any:
    """Return the text of a key that is a number JSON has no name for."""
    return str(name) if isinstance(name, float) and not math.isfinite(name) else name
