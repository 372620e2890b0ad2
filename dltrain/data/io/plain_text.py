"""Small text files: label files, lists and tables of class names, as people's programs save them."""

from __future__ import annotations

from pathlib import Path

from dltrain.data.io.text_encoding import marked_encoding
from dltrain.errors import InputError


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in the encoding that its byte order mark names; the
    mark is left out.

    Raises InputError for a file that cannot be read, and with the line for bytes that are not
    UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from e
    try:
        return content.decode(marked_encoding(content) or "utf-8")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        raise InputError(f"{path}:{line}: this is not UTF-8 text; save the file as UTF-8") from e
