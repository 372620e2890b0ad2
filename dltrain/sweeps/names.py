"""Names of the jobs of a sweep, made of the values that differ between them."""

from __future__ import annotations

import re

MAX_TITLE_BYTES = 140  # of a folder's name; some file systems accept no more than 143
QUOTES = re.compile("[\"']")
UNSAFE = re.compile(r"""[\x00-\x1f\x7f/\\<>:|?*]+""")


def values_by_key(overrides: list[str]) -> dict[str, str]:
    """Return the values that overrides set; +KEY and ++KEY are the same key."""
    values = {}
    for override in overrides:
        key, _, value = override.partition("=")
        values[key.lstrip("+")] = value
    return values


def title_of(number: int, job: list[str], swept: list[str]) -> str:
    """Return TensorBoard's name for a job, such as `0 model=cnn lr=0.001`.

    It is empty if no key is swept. It names a folder: characters that some file system refuses
    become -, and it is cut to `MAX_TITLE_BYTES`.
    """
    if not swept:
        return ""
    label = f"{number} {label_of(swept, values_by_key(job))}"
    safe = UNSAFE.sub("-", QUOTES.sub("", label))
    return safe.encode()[:MAX_TITLE_BYTES].decode(errors="ignore").rstrip(". ")


def label_of(keys: list[str], values: dict[str, str]) -> str:
    """Return the values of `keys` with short names, such as `model=cnn lr=0.001`."""
    names = short_names(keys)
    return " ".join(f"{names[key]}={values[key]}" for key in keys)


def short_names(keys: list[str]) -> dict[str, str]:
    """Return for each key the fewest of its last parts that no other of the keys ends with."""
    names = {}
    for key in keys:
        others = [f".{other}" for other in keys if other != key]
        parts = key.lstrip("+").replace("/", ".").split(".")
        names[key] = key
        for first in reversed(range(len(parts))):
            name = ".".join(parts[first:])
            if not any(other.endswith(f".{name}") for other in others):
                names[key] = name
                break
    return names
