"""Describes files and folders in messages."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from dltrain.errors import first_names
from dltrain.shell import setting

EXPECTED = "a folder for each class, or train/ and test/ with such folders in them"
MAX_NAMES_SHOWN = 10
MAX_ENDINGS_SHOWN = 5


def printable(name: str) -> str:
    """Return a file's name as text for any screen.

    Bytes that are not UTF-8 become question marks.
    """
    return name.encode("utf-8", "replace").decode()


def printable_names(names: Sequence[str]) -> str:
    """Join the first of `names`, and say how many more there are."""
    return first_names([printable(name) for name in names], MAX_NAMES_SHOWN)


def describe_files(names: Sequence[str]) -> str:
    """Return how many files there are, with the name of a single one or the frequent endings."""
    if not names:
        return "it has no file in it"
    if len(names) == 1:
        return f"1 file ({printable(names[0])})"
    by_frequency = Counter(ending(name) for name in names).most_common()
    counts = [f"{count:,} {name}" for name, count in by_frequency[:MAX_ENDINGS_SHOWN]]
    if len(by_frequency) > MAX_ENDINGS_SHOWN:
        counts.append("...")
    return f"{len(names):,} files ({', '.join(counts)})"


def ending(name: str) -> str:
    """Return the ending of a file's name for a message."""
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 - a Path for each file takes seconds
    return printable(suffix) or "without ending"


def classes_setting(names: Sequence[str]) -> str:
    """Return the setting that says which folders are classes; a long list is cut short."""
    command = setting("dataset.classes", list(map(printable, names[:MAX_NAMES_SHOWN])))
    if len(names) <= MAX_NAMES_SHOWN:
        return command
    before, bracket, after = command.rpartition("]")
    return f"{before},...{bracket}{after}"
