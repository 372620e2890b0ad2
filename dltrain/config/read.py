"""Reads YAML that anybody may have written: what it would become is looked at before anything is made of it.

It knows no group and no key. PyYAML's parser yields events one by one, without recursion and without building a value,
so nesting, aliases, tags and repeated keys are seen while they have cost nothing yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.errors import DltrainError

LARGEST = 100_000  # bytes; a whole run's configuration takes 3000
DEEPEST = 50
MOST_ALIASES = 20
LONGEST_NUMBER = (
    300  # digits; Python itself refuses to read or print a whole number of more than 4300
)
LARGEST_NUMBER = 1000  # bits: as much, written in another base
TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")
} | {"!", None}


@dataclass
class _Open:
    """A mapping or list that has begun: its keys so far, and whether a key or a value comes next."""

    mapping: bool
    anchored: bool
    keys: set[str] = field(default_factory=set)
    expects_key: bool = True


def read_mapping(path: Path, error: type[DltrainError]) -> dict[str, Any]:
    """The mapping that a YAML file holds, an empty one for an empty file.

    `error` for what cannot be read or is none, with file and line: no file, too large, not UTF-8, no YAML, a tag that
    asks for a Python object, repeated keys, more nesting or aliases than a configuration has.
    """
    import yaml

    try:
        if not path.is_file():  # also a folder, a pipe, or a link to nothing
            raise error(f"{path} cannot be read: there is no such file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as e:
        raise error(f"{path} cannot be read: {e.strerror}") from e
    if len(content) > LARGEST:
        raise error(f"{path}: of more than {LARGEST:,} bytes, which no configuration has")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        raise error(f"{path}, line {line}: not UTF-8 text (byte 0x{content[e.start]:02x})") from e
    try:
        for line, problem in _problems(yaml.parse(text, Loader=yaml.SafeLoader)):
            raise error(f"{path}, line {line}: {problem}")
        node = yaml.safe_load(text)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise error(f"{path}{where}: no YAML: {e.problem or e.context}") from e
    except yaml.reader.ReaderError as e:
        line = text[: e.position].count("\n") + 1
        raise error(
            f"{path}, line {line}: no YAML: a character that no text has (code {e.character})"
        ) from e
    except (yaml.YAMLError, ValueError) as e:  # 2001-99-99 reads as a date that there is not
        raise error(f"{path} cannot be read: {' '.join(str(e).split())}") from e
    if node is None:
        return {}
    if not isinstance(node, dict):
        raise error(
            f"{path}: expected keys and values, got {'a list' if isinstance(node, list) else repr(node)[:60]}"
        )
    _check_plain(node, path, error)
    return node


def _problems(events: Any) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) for the first of the events that is."""
    import yaml

    opened: list[_Open] = []
    aliases = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionEndEvent):
            opened.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > MOST_ALIASES:
                yield line, f"more than {MOST_ALIASES} aliases"
            if any(collection.anchored for collection in opened):
                yield (
                    line,
                    f"*{event.anchor} stands inside of what an anchor names: aliases of aliases grow without end",
                )
        elif event.tag not in TAGS:
            yield (
                line,
                f"the tag {event.tag.replace('tag:yaml.org,2002:', '!!')[:60]}: a configuration is plain values",
            )
        elif isinstance(event, yaml.ScalarEvent) and re.fullmatch(
            rf"[-+]?[\d_:.]{{{LONGEST_NUMBER},}}", event.value
        ):
            yield line, f"a number of {len(event.value)} digits"
        if opened and opened[-1].mapping:
            if opened[-1].expects_key and isinstance(event, yaml.ScalarEvent):
                if event.value in opened[-1].keys:
                    yield line, f"the key {event.value[:60]!r} stands here for the second time"
                opened[-1].keys.add(event.value)
            opened[-1].expects_key = not opened[-1].expects_key
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(
                _Open(isinstance(event, yaml.MappingStartEvent), event.anchor is not None)
            )
            if len(opened) > DEEPEST:
                yield line, f"nested more than {DEEPEST} deep"


def _check_plain(node: Any, path: Path, error: type[DltrainError], key: str = "") -> None:
    """`error` for a key that is no text, and a value that no override could say, such as a date."""
    where = f" below {key}" if key else ""
    if isinstance(node, dict):
        for name, child in node.items():
            if not isinstance(name, str):
                raise error(f"{path}: the key {name}{where} is no text: write it in quotes")
            _check_plain(child, path, error, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for child in node:
            _check_plain(child, path, error, key)
    elif isinstance(node, int) and node.bit_length() > LARGEST_NUMBER:
        raise error(f"{path}: {key} is a number of {node.bit_length()} bits")
    elif not isinstance(node, str | int | float | None):
        raise error(f"{path}: {key} is a {type(node).__name__}: write it in quotes")
