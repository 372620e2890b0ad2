"""Reads YAML that anybody may have written, and refuses what a configuration cannot be.

It knows no group and no key. PyYAML's parser yields events one by one, without recursion and
without building a value, so nesting, aliases, tags and repeated keys are found before they can cost
time or memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.errors import DltrainError

MAX_BYTES = 100_000  # of a file; a whole run's configuration takes 3000
MAX_DEPTH = 50  # of mappings and lists in one another
MAX_ALIASES = 20
MAX_DIGITS = 300  # of a number; Python itself refuses to read or print more than 4300
MAX_BITS = 1000  # of a number: about as much, written in another base
YAML_TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {
    *(f"{YAML_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")),
    *("!", None),
}
LONG_NUMBER = re.compile(rf"[-+]?[\d_:.]{{{MAX_DIGITS},}}")


def read_mapping(path: Path, error: type[DltrainError]) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, an empty one for an empty file.

    Raises:
        error: with file and line, if there is no file, or it is too large, not UTF-8, not YAML or
            not a mapping; asks for a Python object by a tag; repeats a key; or has more nesting or
            aliases than a configuration.
    """
    content = _content(path, error)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        raise error(f"{path}, line {line}: not UTF-8 text (byte 0x{content[e.start]:02x})") from e
    node = _parsed(path, text, error)
    if node is None:
        return {}
    if not isinstance(node, dict):
        got = "a list" if isinstance(node, list) else repr(node)[:60]
        raise error(f"{path}: expected keys and values, got {got}")
    _check_plain(node, path, error)
    return node


def _content(path: Path, error: type[DltrainError]) -> bytes:
    try:
        if not path.is_file():  # also a folder, a pipe, or a link to nothing
            raise error(f"{path} cannot be read: the file does not exist")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise error(f"{path} cannot be read: {e.strerror}") from e
    if len(content) > MAX_BYTES:
        raise error(f"{path}: more than {MAX_BYTES:,} bytes, which no configuration has")
    return content


def _parsed(path: Path, text: str, error: type[DltrainError]) -> Any:
    """Return what a YAML text holds, once its events are known to be harmless."""
    import yaml

    try:
        scan = _Scan()
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            problem = scan.problem_of(event)
            if problem:
                raise error(f"{path}, line {event.start_mark.line + 1}: {problem}")
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = ""
        if mark:
            where = f", line {mark.line + 1}"
        raise error(f"{path}{where}: no YAML: {e.problem or e.context}") from e
    except yaml.reader.ReaderError as e:
        line = text[: e.position].count("\n") + 1
        why = f"a character that no text has (code {e.character})"
        raise error(f"{path}, line {line}: no YAML: {why}") from e
    except (yaml.YAMLError, ValueError) as e:  # 2001-99-99 looks like a date, but is not one
        raise error(f"{path} cannot be read: {' '.join(str(e).split())}") from e


@dataclass
class _Open:
    """A mapping or list that has begun: its keys so far, and if a key comes next."""

    is_mapping: bool
    is_anchored: bool
    keys: set[str] = field(default_factory=set)
    expects_key: bool = True


@dataclass
class _Scan:
    """Follows the events of one YAML text."""

    opened: list[_Open] = field(default_factory=list)
    aliases: int = 0

    def problem_of(self, event: Any) -> str | None:
        """Return what is wrong with the next event; None if nothing is."""
        import yaml

        if isinstance(event, yaml.CollectionEndEvent):
            self.opened.pop()
            return None
        if not isinstance(event, yaml.NodeEvent):
            return None
        problem = self.problem_of_node(event) or self.problem_of_key(event)
        if problem or not isinstance(event, yaml.CollectionStartEvent):
            return problem
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self.opened.append(_Open(is_mapping, event.anchor is not None))
        if len(self.opened) > MAX_DEPTH:
            return f"nested more than {MAX_DEPTH} deep"
        return None

    def problem_of_node(self, event: Any) -> str | None:
        """Return what is wrong with an alias, a tag or a number."""
        import yaml

        if isinstance(event, yaml.AliasEvent):
            return self.problem_of_alias(event)
        if event.tag not in PLAIN_TAGS:
            tag = event.tag.replace(YAML_TAG, "!!")[:60]
            return f"the tag {tag}: a configuration is plain values"
        if isinstance(event, yaml.ScalarEvent) and LONG_NUMBER.fullmatch(event.value):
            return f"a number of {len(event.value)} digits"
        return None

    def problem_of_alias(self, event: Any) -> str | None:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            return f"more than {MAX_ALIASES} aliases"
        if any(collection.is_anchored for collection in self.opened):
            why = "aliases of aliases grow without end"
            return f"*{event.anchor} stands inside of what an anchor names: {why}"
        return None

    def problem_of_key(self, event: Any) -> str | None:
        """Return that a key is repeated, if the event is a key in a mapping."""
        import yaml

        mapping: _Open | None = None
        if self.opened:
            mapping = self.opened[-1]
        if mapping is None or not mapping.is_mapping:
            return None
        is_key = mapping.expects_key and isinstance(event, yaml.ScalarEvent)
        mapping.expects_key = not mapping.expects_key
        if not is_key:
            return None
        if event.value in mapping.keys:
            return f"the key {event.value[:60]!r} stands here for the second time"
        mapping.keys.add(event.value)
        return None


def _check_plain(node: Any, path: Path, error: type[DltrainError], key: str = "") -> None:
    """Raise `error` for a key that is not text, and a value that no override could write."""
    if isinstance(node, dict):
        _check_names(node, path, error, key)
        for name, child in node.items():
            _check_plain(child, path, error, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for child in node:
            _check_plain(child, path, error, key)
    elif not isinstance(node, str | int | float | None):  # such as a date
        raise error(f"{path}: {key} is a {type(node).__name__}: write it in quotes")
    elif isinstance(node, int) and node.bit_length() > MAX_BITS:
        raise error(f"{path}: {key} is a number of {node.bit_length()} bits")


def _check_names(node: dict[Any, Any], path: Path, error: type[DltrainError], key: str) -> None:
    """Raise `error` for a key of a mapping that is not text."""
    where = ""
    if key:
        where = f" below {key}"
    for name in node:
        if not isinstance(name, str):
            raise error(f"{path}: the key {name}{where} is not text: write it in quotes")
