"""Quotes texts that are the value of an override: Hydra's quotes inside those of the shell."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from dltrain.shell import quoted, shell_word

INVISIBLE = "\u200c\u200d"  # they join or separate letters and emoji in names of files
# The last names of keys that take a text; a test compares them with the signatures.
TEXT_NAMES = frozenset(
    {
        *("annotations", "column", "data", "delimiter", "embedding"),
        *("encoding", "from", "id", "images", "label"),
        *("name", "output", "path", "root", "source"),
        *("target", "test", "test_annotations", "test_images", "test_path"),
        *("test_source", "test_target", "text", "train", "val"),
        *("val_annotations", "val_images", "val_path", "val_source", "val_target"),
        *("watch", "weights"),
    }
)


def text_override(key: str, text: str) -> str:
    """Return what to type in a shell to set `key` to `text`, with Hydra's quotes if needed."""
    plain = f"{key}={text}"
    if value_of(plain) == text and "${" not in text:
        return shell_word(plain)
    words = [shell_word(f"{key}={quoted(text, mark)}") for mark in "'\""]
    return min(words, key=len)


def typed_as_text(override: str) -> str:
    """Return what to type in a shell so that the value of `override` is read as one text."""
    key, _, value = override.partition("=")
    if is_quoted(value):
        return shell_word(override)
    return text_override(key, value)


def typed_as_list(override: str) -> str:
    """Return what to type in a shell so that [A,B] in `override` is read as a list of texts."""
    key, _, value = override.partition("=")
    return shell_word(f"{key}=[{_each_quoted(value.strip()[1:-1])}]")


def typed_as_choices(override: str) -> str:
    """Return what to type in a shell so that A,B in `override` is read as texts of a sweep."""
    key, _, value = override.partition("=")
    return shell_word(f"{key}={_each_quoted(value)}")


def _each_quoted(value: str) -> str:
    """Return what stands between commas, each between quotation marks."""
    parts = [part.strip() for part in value.split(",")]
    return ",".join(part if is_quoted(part) else quoted(part) for part in parts)


def suggestion(override: str) -> str:
    """Return what to type in a shell if the value of `override` is text, or a list of texts."""
    value = override.partition("=")[2].strip()
    if value.startswith("[") and value.endswith("]") and not exists(value):
        return typed_as_list(override)
    return typed_as_text(override)


def is_quoted(value: str) -> bool:
    """Return True if `value` is one quoted text already."""
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return False
    return isinstance(value_of(f"key={value}"), str)  # 'a','b' are two


def takes_text(override: str) -> bool:
    """Return True if the value of `override` probably is text, by the key's name or as a file."""
    key, _, value = override.partition("=")
    return key.rpartition(".")[2] in TEXT_NAMES or exists(value)


def exists(value: str) -> bool:
    """Return True if a file or folder of this name exists."""
    try:
        return bool(value) and (Path(value).exists() or Path(value).expanduser().exists())
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, no such user
        return False


def is_printable(text: str) -> bool:
    """Return True if `text` is one line without control characters; spaces may have any width."""
    for char in text:
        is_space = unicodedata.category(char) == "Zs"
        if not char.isprintable() and not is_space and char not in INVISIBLE:
            return False
    return True


def value_of(override: str) -> Any:
    """Return the value that Hydra reads; None if it cannot, or finds several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return None
    if parsed.is_sweep_override():
        return None
    return parsed.value()
