"""What the files of conf/ make of choices, by the rules of Hydra's defaults lists.

Hydra itself takes a quarter of a second for it. The files use three kinds of entries: GROUP: OPTION in config.yaml, NAME for
an option of the same group that a file extends, and override /GROUP: OPTION for what it chooses elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Set
from typing import Any

from dltrain.config.groups import OVERLAYS, conf_dir, read_option, read_ours
from dltrain.config.source_keys import OWNER as DATASET
from dltrain.config.source_keys import without_shorthand

Choice = str | list[str] | None


def compose_files(typed: Mapping[str, Choice]) -> tuple[dict[str, Any], dict[str, Choice]]:
    """The configuration as plain data of the caller's own, interpolations as they stand, and {group: option or options}.

    What is `typed` wins over what files choose, and of these the one that stands further down in config.yaml's list.
    ValueError for a file that chooses for a group below it there, which would come too late.
    """
    top = copy.deepcopy(read_ours(conf_dir() / "config.yaml"))
    entries: list[Any] = top.pop("defaults")
    chosen = dict(typed)
    parts: dict[str, dict[str, Any]] = {}
    for entry in reversed(entries):
        if entry == "_self_":
            continue
        ((group, default),) = entry.items()
        chosen.setdefault(group, default)
        node: dict[str, Any] = {}
        for option in names(chosen[group]):
            node = merged(node, _file(group, option, chosen, parts.keys() - typed.keys()))
        parts[group] = node
    config: dict[str, Any] = {}
    for entry in entries:
        (group,) = entry if isinstance(entry, dict) else ("",)
        if not group:  # _self_
            config = merged(config, top)
        elif names(chosen[group]):
            part = parts[group] if group in OVERLAYS else {group: parts[group]}
            config = merged(config, without_shorthands(part, config.get(DATASET, {})))
    return copy.deepcopy(config), {
        group: chosen[group] for entry in entries if entry != "_self_" for group in entry
    }


def _file(group: str, option: str, chosen: dict[str, Choice], late: Set[str]) -> dict[str, Any]:
    """An option's keys over those that it extends; what it chooses elsewhere goes into `chosen`, if it is not too `late`."""
    node = read_option(group, option)
    for other, choice in elsewhere(node):
        if other in late:
            raise ValueError(f"{group}={option} chooses {other}={choice} too late")
        chosen.setdefault(other, choice)
    under: dict[str, Any] = {}
    for entry in node.get("defaults", ()):
        if isinstance(entry, str) and entry != "_self_":
            under = merged(under, _file(group, entry, chosen, late))
    own = {key: value for key, value in node.items() if key != "defaults"}
    return merged(under, without_shorthand(own, under) if group == DATASET else own)


def without_shorthands(part: dict[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file sets, with the shorthands of its `dataset` node written out."""
    if not isinstance(part.get(DATASET), dict):
        return part
    return {**part, DATASET: without_shorthand(part[DATASET], dataset)}


def elsewhere(node: Mapping[str, Any]) -> Iterator[tuple[str, Choice]]:
    """What a file's defaults list chooses of other groups."""
    for entry in node.get("defaults", ()):
        for key, choice in entry.items() if isinstance(entry, dict) else ():
            yield key.removeprefix("override ").lstrip("/").partition("@")[0], choice


def names(choice: Choice) -> list[str]:
    """None, one or several options, as a list."""
    return (
        list(map(str, choice))
        if isinstance(choice, list)
        else []
        if choice is None
        else [str(choice)]
    )


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both, mapping by mapping; where they differ, the value of `over`."""
    both = under | over
    return both | {
        k: merged(under[k], v)
        for k, v in over.items()
        if isinstance(v, dict) and isinstance(under.get(k), dict)
    }
