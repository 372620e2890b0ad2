"""Defaults lists: how one file of a configuration chooses others, in Hydra's grammar.

An entry is NAME or /GROUP/NAME (another file that this one extends), /GROUP: NAME, /GROUP: [NAME,
NAME] or /GROUP: null (a choice), `override /GROUP: NAME` (a choice that config.yaml or a file has
made already), or `_self_` (the place of the file's own keys). A group may have a package,
/GROUP@PACKAGE, and the word `optional` before it. What Hydra has beyond this, dltrain's files have
no use for, and it is refused: options with interpolations, folders in folders, renamed packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.errors import UsageError

Choice = str | list[str] | None
SELF = "_self_"
GLOBAL = "_global_"
KEYWORDS = ("override", "optional")
EXPECTED = "expected NAME, GROUP: NAME or override GROUP: NAME"
OPTION_NAME = re.compile(r"[\w-]+")
PACKAGE_NAME = re.compile(r"[\w.-]+")
HEADER = re.compile(r"# *@package +(\S+)")
HYDRA_GROUPS = {  # of sweeps: what to write instead
    "hydra/launcher": "override /launcher: local",
    "hydra/sweeper": "override /sweep: tpe",
}
OTHER_HEADER = re.compile(r"# *@")


@dataclass(frozen=True)
class Entry:
    """One entry of a defaults list. `group` is the file's own group for one that it extends."""

    path: Path  # the file
    index: int  # the position in its list
    group: str = ""
    options: Choice = None
    package: str | None = None  # as it is written after the @
    extends: bool = False  # NAME, which goes where the file itself goes
    is_self: bool = False
    is_choice: bool = False
    is_override: bool = False
    is_optional: bool = False

    @property
    def place(self) -> str:
        """The file and the line."""
        return f"{self.path}, line {_line_of(self.path, self.index)}"

    def package_below(self, parent: str) -> str:
        """Return the package of what is chosen; `parent` is that of the file."""
        package = self.package
        if package is None:
            package = "" if self.extends else self.group
        elif package == "_here_":
            package = ""
        elif "_group_" in package:
            package = f"{GLOBAL}.{package.replace('_group_', self.group)}"
        return absolute_package(f"{parent}.{package}")

    def key_below(self, parent: str) -> str:
        """Return the key by which the choice is overridden: GROUP, or GROUP@PACKAGE elsewhere."""
        package = self.package_below(parent)
        if package == self.group:
            return self.group
        return f"{self.group}@{package or GLOBAL}"


def absolute_package(package: str) -> str:
    """Return a dotted package from the top: without what stands before the last `_global_`."""
    names = [name for name in package.split(".") if name]
    if GLOBAL in names:
        last = len(names) - 1 - names[::-1].index(GLOBAL)
        names = names[last + 1 :]
    return ".".join(names)


def option_names(choice: Choice) -> list[str]:
    """Return no, one or several options as a list."""
    if choice is None:
        return []
    if isinstance(choice, list):
        return [str(name) for name in choice]
    return [str(choice)]


def package_header(text: str) -> str | None:
    """Return the package that the first lines of a file name, as in `# @package _global_`."""
    for line in text.lstrip("\ufeff").splitlines():
        match = HEADER.fullmatch(line.strip())
        if match:
            return match[1]
        if line.strip() and not OTHER_HEADER.match(line.strip()):
            return None
    return None


def parse_defaults(path: Path, defaults: Any, groups: Iterable[str]) -> list[Entry]:
    """Return the entries of the defaults list of an option's file; `_self_` is last if not listed.

    Raises:
        UsageError: the list has what is not in the grammar above, with file and line.
    """
    if not isinstance(defaults, list | None):
        example = "[mlp, override /dataset: mnist]"
        raise UsageError(f"{path}: defaults: expected a list, such as {example}")
    parser = _Parser(path, sorted(groups))
    entries = [parser.entry(index, item) for index, item in enumerate(defaults or [])]
    parser.check_order(entries)
    if not any(entry.is_self for entry in entries):
        entries.append(Entry(path, len(entries), is_self=True))
    return entries


@dataclass
class _Parser:
    path: Path
    groups: list[str]

    @property
    def own_group(self) -> str:
        """The group of the file; empty for config.yaml, which is above all groups."""
        folder = self.path.parent.name
        if folder in self.groups:
            return folder
        return ""

    def entry(self, index: int, item: Any) -> Entry:
        if isinstance(item, str):
            return self.name(index, item)
        if not isinstance(item, dict) or len(item) != 1:
            raise self.refusal(index, f"{EXPECTED}, got {item}")
        ((key, options),) = item.items()
        return self.choice(index, str(key), options)

    def name(self, index: int, text: str) -> Entry:
        """Parse NAME, /GROUP/NAME or _self_."""
        if text == SELF:
            return Entry(self.path, index, is_self=True)
        name, package = self.without_package(index, text)
        group = self.own_group
        if name.startswith("/"):
            group, _, name = name[1:].rpartition("/")
            self.check_group(index, group)
        self.check_options(index, [name])
        return Entry(self.path, index, group, name, package, extends=not text.startswith("/"))

    def choice(self, index: int, key: str, options: Any) -> Entry:
        """Parse [override] [optional] /GROUP[@PACKAGE]: OPTIONS."""
        *keywords, written = key.split()
        for keyword in keywords:
            if keyword not in KEYWORDS:
                raise self.refusal(index, f"{keyword} is not a keyword: {', '.join(KEYWORDS)}")
        group, package = self.without_package(index, written)
        self.check_group(index, group.removeprefix("/"))
        if self.own_group and not group.startswith("/"):
            raise self.refusal(index, f"write /{group}: {group} alone is a group in this folder")
        self.check_options(index, option_names(options))
        return Entry(
            self.path,
            index,
            group.removeprefix("/"),
            options,
            package,
            is_choice=True,
            is_override="override" in keywords,
            is_optional="optional" in keywords,
        )

    def without_package(self, index: int, text: str) -> tuple[str, str | None]:
        name, at, package = text.partition("@")
        if not at:
            return name, None
        if not PACKAGE_NAME.fullmatch(package):
            raise self.refusal(index, f"{package[:60]!r} is not a package")
        return name, package

    def check_group(self, index: int, group: str) -> None:
        if group in self.groups:
            return
        why = "is not a group"
        if group in HYDRA_GROUPS:
            why = f"is Hydra's own: write `{HYDRA_GROUPS[group]}`"
        elif group.partition("/")[0] == "hydra":
            why = "is Hydra's own"
        raise self.refusal(index, f"{group} {why}; groups are {', '.join(self.groups)}")

    def check_options(self, index: int, names: Iterable[Any]) -> None:
        for name in names:
            if not OPTION_NAME.fullmatch(str(name)):
                why = f"{str(name)[:60]!r} is not the name of an option (dltrain list)"
                raise self.refusal(index, why)

    def check_order(self, entries: list[Entry]) -> None:
        """Check that overrides stand last, and `_self_` only once, as in Hydra."""
        has_self = False
        has_override = False
        for entry in entries:
            if entry.is_self:
                if has_self:
                    raise self.refusal(entry.index, f"{SELF} stands here for the second time")
                has_self = True
            elif entry.is_override:
                has_override = True
            elif has_override:
                raise self.refusal(entry.index, "overrides stand at the end of the list")

    def refusal(self, index: int, why: str) -> UsageError:
        line = _line_of(self.path, index)
        return UsageError(f"{self.path}, line {line}: defaults: {why}")


def _line_of(path: Path, index: int) -> int:
    """Return the line in which an entry of a file's defaults list begins."""
    import yaml

    root: Any = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    for key, value in root.value:
        if key.value == "defaults":
            return int(value.value[index].start_mark.line) + 1
    return 1
