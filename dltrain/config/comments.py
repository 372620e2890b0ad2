"""Comments of YAML files: the words beside a key, which say what it means."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dltrain.config.groups import groups, option_file, read_option

COMMENT = re.compile(r":?\s+#\s*(.*\S)")


def comment_beside(group: str, option: str, key: str) -> str:
    """Return the comment beside a dotted key in an option's file, or in those that it includes.

    It is empty if no file has one.
    """
    comment = comments(option_file(group, option)).get(key, "")
    if comment:
        return comment
    for included in read_option(group, option).get("defaults", []):
        if included in groups()[group]:
            comment = comment or comment_beside(group, included, key)
    return comment


@functools.cache
def comments(path: Path) -> Mapping[str, str]:
    """Return the comment beside each dotted key of a YAML file, where it has one."""
    import yaml

    text = path.read_text(encoding="utf-8-sig")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return {}
    return dict(_comments_in(root, text.splitlines(), ""))


def _comments_in(node: Any, lines: list[str], prefix: str) -> Iterator[tuple[str, str]]:
    import yaml

    for name, value in node.value:
        key = f"{prefix}{name.value}"
        mark = _end_of(name, value)
        match = COMMENT.match(lines[mark.line], mark.column)
        if match:
            yield key, match[1]
        if isinstance(value, yaml.MappingNode):
            yield from _comments_in(value, lines, f"{key}.")


def _end_of(name: Any, value: Any) -> Any:
    """Return the place after which a comment stands: the value, or the key of a block below it."""
    import yaml

    if isinstance(value, yaml.CollectionNode) and not value.flow_style:
        return name.end_mark
    return value.end_mark
