"""Finds the folders that are splits, by names and structure, and the level of class folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from dltrain.data.io.layout.folders import folders_in, has_images, is_container, is_nested
from dltrain.data.io.layout.plan import Candidates, exclude, select
from dltrain.data.io.layout.split_names import (
    SplitName,
    group_by_split,
    meaningful_words,
    parse_name,
    split_names,
)
from dltrain.errors import InputError

MAX_FOLDERS_PROBED = 50  # among more folders, half names and structure are not looked at
MAX_DEPTH = 8  # of nested folders that hold only one folder each
GENERIC_NAMES = ("jpegimages", "unknown")  # say nothing about the content


@dataclass(frozen=True)
class Level:
    """The class folders of a split, {name: path}, in the folder `place`.

    `passed` are the folders between the split's folder and `place`.
    """

    place: str
    folders: dict[str, str]
    passed: list[str] = field(default_factory=list)


def candidates_in(place: str, class_names: Sequence[str] | None) -> Candidates:
    """Return the folders in `place`, with those that are splits by name or by structure."""
    folders = folders_in(place)
    return Candidates(place, folders, find_splits(folders, class_names), class_names)


def find_splits(folders: dict[str, str], class_names: Sequence[str] | None) -> dict[str, SplitName]:
    """Return the `folders` that are splits by their names, or by half a name and their structure.

    A lone pets_test is half a name. It is a split if it has folders with the names of its siblings
    in it, or with the names of the folders in them; or if it is the training set that other splits
    lack. A lone pets_val is always a split.
    """
    possible = exclude(folders, class_names or ())
    splits = split_names(possible)
    if len(folders) > MAX_FOLDERS_PROBED:
        return splits
    partial = partial_splits(exclude(possible, splits))
    frequency = Counter(name.split for name in (*splits.values(), *partial.values()))
    for name, split_name in partial.items():
        is_unique = frequency[split_name.split] == 1
        if is_unique and is_partial_split(name, split_name, folders, splits):
            splits[name] = split_name
    return splits


def partial_splits(folders: dict[str, str]) -> dict[str, SplitName]:
    """Return the folders that may be splits by half a name such as pets_test.

    Only validation sets may have no folders in them.
    """
    return {
        name: split_name
        for name, split_name in partial_split_names(list(folders)).items()
        if split_name.split == "val" or is_nested(folders[name])
    }


def is_partial_split(
    name: str, split_name: SplitName, folders: dict[str, str], splits: dict[str, SplitName]
) -> bool:
    """Return whether a folder with half a split's name is one, beside `splits` that are certain."""
    if split_name.split == "val":
        return True
    is_missing_train = split_name.split == "train" and bool(splits)
    return is_missing_train or shares_classes(name, folders)


def partial_split_names(names: Sequence[str]) -> dict[str, SplitName]:
    """Return the names that have a split and other words in them, such as pets_test."""
    parsed = {name: parse_name(name) for name in names}
    return {
        name: split_name
        for name, split_name in parsed.items()
        if split_name and split_name.others and split_name.split != "rest"
    }


def shares_classes(name: str, folders: dict[str, str]) -> bool:
    """Return whether a folder has folders named like its siblings, or like folders in those."""
    own_classes = find_level(folders[name], set(folders), None).folders.keys()
    siblings = exclude(folders, [name])
    levels = [find_level(path, set(folders), None) for path in siblings.values()]
    return bool(own_classes & siblings.keys()) or any(
        own_classes & level.folders.keys() for level in levels
    )


def find_levels(candidates: Candidates) -> dict[str, Level]:
    """Return the level of class folders in each folder that is a split, for those that have one.

    The training set comes first: the others have its classes.
    """
    splits = candidates.split_names
    known = set(candidates.class_names or ())
    levels: dict[str, Level] = {}
    for name in sorted(splits, key=lambda name: splits[name].split != "train"):
        known_here = known or candidates.others.keys()
        level = find_level(candidates.folders[name], known_here, candidates.class_names)
        if level.folders:
            levels[name] = level
            if splits[name].split == "train":
                known |= level.folders.keys()
    return levels


def find_level(folder: str, known: AbstractSet[str], class_names: Sequence[str] | None) -> Level:
    """Return where the class folders of a split are.

    They are in its `folder`, or deeper if that holds only one folder, perhaps several levels down.
    The level has no folders if the only one left is called like a split or has a generic name, such
    as images. `known` are names of classes: a level that has one of them is taken as it is.
    """
    level = Level(folder, class_folders(folder, class_names))
    for _ in range(MAX_DEPTH):
        inner = only_container(level)
        if inner is None or known & level.folders.keys():
            break
        level = Level(inner, class_folders(inner, class_names), [*level.passed, level.place])
    if known & level.folders.keys() or has_class_names(level):
        return level
    return Level(level.place, {}, level.passed)


def only_container(level: Level) -> str | None:
    """Return the only folder of a level if it is a container, else None.

    A container has folders in it, and neither it nor its parent has images.
    """
    if len(level.folders) != 1:
        return None
    (only,) = level.folders.values()
    if is_container(only) and not has_images(level.place):
        return only
    return None


def has_class_names(level: Level) -> bool:
    """Return whether the folders of a level may be classes by their names."""
    new_names = level.folders.keys() - {Path(level.place).name}
    if all(map(is_split_name, new_names)):
        return False
    return len(level.folders) > 1 or not all(map(is_container_name, new_names))


def class_folders(folder: str, class_names: Sequence[str] | None = None) -> dict[str, str]:
    """Return the folders of a split, except those with the names of splits, such as unsup."""
    folders = folders_in(folder)
    if class_names is not None:
        return select(folders, class_names) or folders
    splits = split_names(folders)
    others = exclude(folders, splits)
    is_lone_train = [name.split for name in splits.values()] == ["train"]
    if is_lone_train or not others:
        return folders
    return others


def is_split_name(name: str) -> bool:
    """Return whether a folder has the whole name of a split."""
    split_name = parse_name(name)
    return split_name is not None and not split_name.others


def is_container_name(name: str) -> bool:
    """Return whether a folder is called like a split or like images, not like a class."""
    is_empty_name = not meaningful_words(name) and not name.isdigit()
    return is_split_name(name) or is_empty_name or name.lower() in GENERIC_NAMES


def is_generic(name: str) -> bool:
    """Return whether a folder's name, such as images or test, says nothing about its content."""
    return (
        parse_name(name) is not None or not meaningful_words(name) or name.lower() in GENERIC_NAMES
    )


def one_folder_per_split(place: str, names: dict[str, SplitName]) -> dict[str, str]:
    """Return {split: folder's name}; InputError if two folders look like the same split."""
    chosen = {}
    for split, folders in group_by_split(names).items():
        if split == "rest":
            continue
        if len(folders) > 1:
            first, second = (f"{place}{os.sep}{name}" for name in sorted(folders)[:2])
            raise InputError(
                f"{first} and {second} both look like the {split} set: "
                "rename one of them or move it away"
            )
        chosen[split] = folders[0]
    return chosen
