"""Damage to any file, files of other kinds, and counts of what was dealt with as it should be."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

FULL = os.environ.get("DLTRAIN_FAULTS") == "full"
DRAWS = 12 if FULL else 1  # places that each kind of random damage hits
SECONDS = 5.0
MEMORY = 400_000  # KiB that an input may cost beyond what was in use
COUNTS: dict[str, int] = {}


def some(cases: dict[str, Any]) -> list[str]:
    """All of them, or in the quick form every eighth."""
    return list(cases)[:: 1 if FULL else 8]


def count(what: str, number: int = 1) -> None:
    COUNTS[what] = COUNTS.get(what, 0) + number


# Damage to any file


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flipped(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]


def zeroed(content: bytes, draw: random.Random) -> bytes:
    size = min(4096, len(content) // 2)
    at = draw.randrange(len(content) - size)
    return content[:at] + bytes(size) + content[at + size :]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


class Evil:
    """Pickled, it makes the file `hit` where it is loaded."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("hit"),))


OTHER_KINDS: dict[str, bytes] = {
    "empty": b"",
    "html": b"<html>404 not found</html>" * 50,
    "png": png(),
    "gzip": gzip.compress(b"something" * 100),
    "zeros": bytes(5000),
    "sqlite": b"SQLite format 3\0" + bytes(1000),
    "pickle": pickle.dumps({"a": 1}),
    "pickle that acts": pickle.dumps(Evil()),
    "json": b'{"a": [1, 2, 3]}',
    "utf-16": "a,b\n1,2\n".encode("utf-16"),
}
PLACES: dict[str, Callable[[Path], Any]] = {
    "gone": lambda path: None,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to another file": lambda path: path.symlink_to("/etc/hosts"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}
