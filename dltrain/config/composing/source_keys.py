"""The shorthand for the keys of a dataset's source: dataset.path means dataset.source.path.

A dataset may read its samples through a `source:` node. A key that the source has and the dataset
itself does not have may be written without `source.`, on the command line and in YAML files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

OWNER = "dataset"
SOURCE = "source"
HasKey = Callable[[str], bool]
SHORT_INTERPOLATION = re.compile(rf"\$\{{({OWNER}\.\w+)\}}")
_ABSENT = object()


def full_key(key: str, *ways: HasKey) -> str:
    """Return the key that `key` stands for: dataset.source.NAME for the shorthand dataset.NAME.

    Each of `ways` tells whether a configuration has a key: first by its files, then by the
    signatures of its classes. The first way that knows one of the two keys decides.
    """
    owner, _, name = key.partition(".")
    top_name = name.partition(".")[0]
    if owner != OWNER or top_name in ("", SOURCE):
        return key
    for has in ways:
        if has(f"{OWNER}.{top_name}"):
            return key
        if has(f"{OWNER}.{SOURCE}.{top_name}"):
            return f"{OWNER}.{SOURCE}.{name}"
    return key


def short_keys(keys: Iterable[str]) -> list[str]:
    """Return the shorthands of those of `keys` that have one."""
    known = set(keys)
    prefix = f"{OWNER}.{SOURCE}."
    shorthands = [f"{OWNER}.{key.removeprefix(prefix)}" for key in keys if key.startswith(prefix)]
    return [short for short in shorthands if full_key(short, known.__contains__) != short]


def spellings(key: str, config: Mapping[str, Any]) -> list[str]:
    """Return the ways to write a key of a composed configuration: in full, and its shorthand."""
    known = has_listed(config)
    return [key, *(short for short in short_keys([key]) if full_key(short, known) == key)]


def has_listed(config: Mapping[str, Any]) -> HasKey:
    """Return a function that tells whether a configuration of plain data lists a key."""

    def has(key: str) -> bool:
        node: Any = config
        for name in key.split("."):
            if not isinstance(node, Mapping) or name not in node:
                return False
            node = node[name]
        return True

    return has


def without_shorthand(dataset: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's `dataset` node with each shorthand written out.

    `under` is the dataset node that the file refines: it says which keys its source has.
    """
    has = has_listed({OWNER: under})
    written_out: dict[str, Any] = {}
    of_source: dict[str, Any] = {}
    for name, value in dataset.items():
        if full_key(f"{OWNER}.{name}", has) == f"{OWNER}.{name}":
            written_out[name] = value
        else:
            of_source[name] = value
    if not of_source:
        return written_out
    own_source = dataset.get(SOURCE)
    if isinstance(own_source, Mapping):
        of_source = {**of_source, **own_source}
    written_out[SOURCE] = of_source
    return written_out


def with_full_keys(config: Any, text: str) -> str:
    """Return the text of an interpolation with the shorthands in it written out."""
    from omegaconf import OmegaConf

    def is_listed(key: str) -> bool:
        return OmegaConf.select(config, key, default=_ABSENT, throw_on_missing=False) is not _ABSENT

    def written_out(match: re.Match[str]) -> str:
        return f"${{{full_key(match[1], is_listed)}}}"

    return SHORT_INTERPOLATION.sub(written_out, text)
