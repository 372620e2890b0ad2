"""The group of a file, by its path below the folder of its class."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from dltrain.data.held_out.groups import Groups
from dltrain.data.tabular.table import column_name
from dltrain.errors import ConfigError, InputError
from dltrain.shell import setting

FOLDER, PREFIX = "folder", "prefix"
WORD = re.compile(r"[^\W\d_]+", re.ASCII)
# A word and the letters and digits after it, perhaps behind one mark: patient12, patient_12.
AFTER_WORD = r"[-_ ]?[0-9A-Za-z]+"
PREFIX_END = re.compile(r"[-_]")
HINT = (
    "folder (the first folder below that of the class), prefix (the file's name up to its first _ "
    "or -), a word that the group begins with, such as patient for patient12_3.png or "
    "patient12/3.png, or a regular expression with one group in parentheses, typed with both kinds "
    "of quotes: \"dataset.group='(case[0-9]+)'\""
)
GroupOf: TypeAlias = Callable[[str], str | None]
"""Returns the group of a path below the folder of a class; None for a path without one."""


class PathRule:
    """The rule by which files are in groups; ConfigError for one that is not valid.

    Args:
        rule: `folder`, `prefix`, a word, or a regular expression with one group in parentheses.
            Groups of the same name in several classes are one group.
    """

    def __init__(self, rule: str) -> None:
        self.setting = setting("dataset.group", rule)
        self.group_of = group_function(rule)

    def groups(self, paths: Sequence[str], class_folders: Collection[str]) -> Groups:
        """Return the groups of files, each below one of the folders of classes.

        Raises:
            InputError: A file has no group; the message names it.
        """
        folders = frozenset(class_folders)
        return Groups.from_names([self.name(path, folders) for path in paths], self.setting)

    def name(self, path: str, class_folders: frozenset[str]) -> str:
        """Return the group of one file; InputError if it has none."""
        name = self.group_of(path_below(path, class_folders))
        if name is None:
            raise InputError(f"{path}: {self.setting} finds no group in this path; choose {HINT}")
        return name


def path_rule(rule: object) -> PathRule | None:
    """Return the rule that the value of dataset.group is; None for null."""
    if rule is None:
        return None
    return PathRule(column_name(rule))


def group_function(rule: str) -> GroupOf:
    """Return the function that finds the group in a path; ConfigError for an invalid rule."""
    if rule == FOLDER:
        return first_folder
    if rule == PREFIX:
        return name_prefix
    if WORD.fullmatch(rule):
        return word_and_number(rule)
    return by_expression(rule)


def path_below(path: str, class_folders: Collection[str]) -> str:
    """Return a path from the folder of its class on, with / between its parts."""
    folder = os.path.dirname(path)  # noqa: PTH120 - a Path for each of many files takes seconds
    while folder and folder not in class_folders:
        parent = os.path.dirname(folder)  # noqa: PTH120
        if parent == folder:
            break
        folder = parent
    return os.path.relpath(path, folder or ".").replace(os.sep, "/")


def first_folder(path: str) -> str | None:
    """Return the first folder of a path; None for a file in no folder."""
    folder, slash, _ = path.partition("/")
    return folder if slash else None


def name_prefix(path: str) -> str | None:
    """Return the name of a file up to its first _ or -; None for a name without one."""
    name = path.rpartition("/")[2]
    parts = PREFIX_END.split(name, maxsplit=1)
    if len(parts) < 2 or not parts[0]:
        return None
    return parts[0]


def word_and_number(word: str) -> GroupOf:
    """Return the function that finds a word and the letters and digits after it in a path.

    Upper and lower case are the same, so that Patient12 and patient12 are one group.
    """
    expression = re.compile(rf"(?<![0-9A-Za-z]){word}{AFTER_WORD}", re.IGNORECASE)

    def group_of(path: str) -> str | None:
        match = expression.search(without_ending(path))
        return None if match is None else match[0].lower()

    return group_of


def without_ending(path: str) -> str:
    """Return a path without the ending of the file's name, such as .png."""
    return os.path.splitext(path)[0]  # noqa: PTH122


def by_expression(rule: str) -> GroupOf:
    """Return the function that finds what a regular expression has in parentheses."""
    try:
        expression = re.compile(rule)
    except re.error as e:
        raise invalid_rule(rule, f"is not a regular expression ({e})") from e
    if expression.groups != 1:
        raise invalid_rule(rule, f"has {expression.groups} groups in parentheses, not one")

    def group_of(path: str) -> str | None:
        match = expression.search(path)
        return None if match is None else match[1]

    return group_of


def invalid_rule(rule: str, problem: str) -> ConfigError:
    """Return the error for a rule that is not valid."""
    return ConfigError([(setting("dataset.group", rule), f"{problem}; choose {HINT}")])
