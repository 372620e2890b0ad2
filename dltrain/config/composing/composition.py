"""Composes the files of the chosen options, by the rules of Hydra's defaults lists.

The files are those of conf/ and of a user's own folder (--config-dir). Hydra itself takes a quarter
of a second for it, and would act on what a file says of `hydra`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.config.composing.defaults import (
    GLOBAL,
    Choice,
    Entry,
    absolute_package,
    option_names,
    package_header,
    parse_defaults,
)
from dltrain.config.composing.shared import shared
from dltrain.config.composing.source_keys import OWNER as DATASET
from dltrain.config.composing.source_keys import without_shorthand
from dltrain.config.groups import conf_dir, groups, option_file, read_option, read_ours
from dltrain.config.renamed import with_current_names
from dltrain.config.suggestions.other_programs import unknown_option
from dltrain.errors import UsageError, first_line

MAX_DEPTH = 20  # files that extend one another


@dataclass(frozen=True)
class ConfigFile:
    """A file of a configuration: its own keys, and what it chooses beside them."""

    path: Path
    content: dict[str, Any]
    entries: tuple[Entry, ...]
    header: str | None  # the package that it names for itself


@dataclass(frozen=True)
class Part:
    """The contribution of one file, and the package that it goes to."""

    file: ConfigFile
    package: str


def compose_files(typed: Mapping[str, Choice]) -> tuple[dict[str, Any], dict[str, Choice]]:
    """Compose the configuration of the `typed` choices, {group: option or options}.

    What is typed wins over what files choose, and of these the file that config.yaml's list has
    further down.

    Returns:
        The configuration as plain data of the caller's own, with interpolations as they stand, and
        {group: option or options} of all choices.

    Raises:
        UsageError: a file chooses what does not exist, or where it cannot.
    """
    choosing = _Choosing(groups(), dict(typed))
    parts = choosing.parts_of(_our_file(conf_dir() / "config.yaml"), "", 0)
    choosing.check_overrides()
    config: dict[str, Any] = {}
    for part in parts:
        config = merged(config, _placed(part, config))
    return copy.deepcopy(config), dict(reversed(choosing.choices.items()))


def _file_of(group: str, option: str) -> ConfigFile:
    """Return the file of an option."""
    path = option_file(group, option)
    if path.is_relative_to(conf_dir()):
        return _our_file(path)
    return _own_file(path, group, option)


@shared
def _own_file(path: Path, group: str, option: str) -> ConfigFile:
    """Return a file of the user's own folder."""
    node = with_current_names(read_option(group, option))
    _check_interpolations(path, node)
    return _parsed(path, node)


def _check_interpolations(path: Path, node: Mapping[str, Any]) -> None:
    """Raise a UsageError for a broken interpolation in a file, such as '${'."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.create(dict(node))
    except OmegaConfBaseException as e:
        raise UsageError(f"{path} cannot be read: {first_line(e)}") from e


@functools.cache
def _our_file(path: Path) -> ConfigFile:
    return _parsed(path, read_ours(path))


def _parsed(path: Path, node: Mapping[str, Any]) -> ConfigFile:
    content = {key: value for key, value in node.items() if key != "defaults"}
    entries = parse_defaults(path, node.get("defaults"), groups())
    header = package_header(path.read_text(encoding="utf-8-sig"))
    return ConfigFile(path, content, tuple(entries), header)


@dataclass
class _Choosing:
    """Follows the defaults lists from config.yaml on; the last entries of a list come first.

    So what an entry overrides is known before the entries that stand above it are reached.
    """

    groups: dict[str, list[str]]
    overridden: dict[str, Choice]  # by key, GROUP or GROUP@PACKAGE: typed, or by a file
    overrides: dict[str, Entry] = field(default_factory=dict)  # those that a file made
    applied: set[str] = field(default_factory=set)  # keys that were overridden
    chosen_by: dict[str, Entry] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)

    def parts_of(self, file: ConfigFile, package: str, depth: int) -> list[Part]:
        """Return what `file`, which goes to `package`, and the files that it chooses contribute."""
        if depth > MAX_DEPTH:
            raise UsageError(f"{file.path} chooses itself in its defaults")
        self.note_overrides(file, package)
        backward: list[Part] = []
        for entry in reversed(file.entries):
            if entry.is_self:
                backward.append(Part(file, package))
            elif not entry.is_override:
                for option in reversed(self.options_of(entry, package)):
                    chosen = self.parts_of_option(entry, option, package, depth)
                    backward.extend(reversed(chosen))
        return backward[::-1]

    def note_overrides(self, file: ConfigFile, package: str) -> None:
        for entry in file.entries:
            if not entry.is_override:
                continue
            key = entry.key_below(package)
            if key not in self.overridden:
                self.overridden[key] = entry.options
                self.overrides[key] = entry

    def options_of(self, entry: Entry, package: str) -> list[str]:
        """Return the options that an entry chooses, or those that were chosen in their place."""
        if not entry.is_choice:
            return option_names(entry.options)
        key = entry.key_below(package)
        if key in self.chosen_by:
            both = (entry, self.chosen_by[key])
            second = next((e for e in both if not e.path.is_relative_to(conf_dir())), entry)
            raise UsageError(f"{second.place}: {key} is chosen already: write override before it")
        self.chosen_by[key] = entry
        if key in self.overridden:
            self.applied.add(key)
        self.choices[key] = self.overridden.get(key, entry.options)
        return option_names(self.choices[key])

    def parts_of_option(self, entry: Entry, option: str, package: str, depth: int) -> list[Part]:
        if option not in self.groups[entry.group]:
            if entry.is_optional:
                return []
            why = unknown_option(entry.group, option)
            raise UsageError(f"{entry.place}: {entry.group}={option}: {why}")
        file = _file_of(entry.group, option)
        own_package = entry.package_below(package)
        if entry.package is None and file.header is not None:
            own_package = absolute_package(f"{GLOBAL}.{file.header}")
        return self.parts_of(file, own_package, depth + 1)

    def check_overrides(self) -> None:
        """Raise a UsageError for an override that found no choice, or came after it."""
        for key, entry in self.overrides.items():
            if key in self.applied:
                continue
            if key in self.choices:
                raise UsageError(f"{entry.place}: {entry.path.parent.name} chooses {key} too late")
            meant = f"override /{entry.group}@{GLOBAL}.{entry.group}"
            raise UsageError(f"{entry.place}: nothing chooses {key}; did you mean {meant}?")


def _placed(part: Part, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a file below the package that they go to.

    Shorthands for a dataset's source are written out, as `config` has it before this file.
    """
    tree = part.file.content
    for name in reversed(part.package.split(".") if part.package else []):
        tree = {name: tree}
    if "hydra" in tree:
        raise UsageError(f"{part.file.path}: hydra.* cannot be set")
    dataset = tree.get(DATASET)
    if not isinstance(dataset, dict):
        return tree
    under = config.get(DATASET)
    return {**tree, DATASET: without_shorthand(dataset, under if isinstance(under, dict) else {})}


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return both, mapping by mapping; where they differ, the value of `over`."""
    both = under | over
    for key, value in over.items():
        below = under.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            both[key] = merged(below, value)
    return both
