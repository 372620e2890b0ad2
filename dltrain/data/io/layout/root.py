"""Finds the data set's own folder, which an archive may have put into other folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from dltrain.data.io.layout.describe import printable, printable_names
from dltrain.data.io.layout.folders import (
    files_below,
    folders_in,
    has_images,
    is_container,
    is_nested,
)
from dltrain.data.io.layout.levels import (
    MAX_DEPTH,
    MAX_FOLDERS_PROBED,
    candidates_in,
    find_levels,
)
from dltrain.data.io.layout.plan import Candidates, Layout, exclude
from dltrain.errors import InputError
from dltrain.shell import setting


def find_root(
    folder: str,
    layout: Layout,
    class_names: Sequence[str] | None,
    trained_classes: Collection[str],
) -> str:
    """Return the folder that holds splits or classes.

    An archive's own folder may be the only one in `folder`, or the only one among others that has
    splits in it.
    """
    for _ in range(MAX_DEPTH):
        inner = inner_root(folder, layout, class_names, trained_classes)
        if inner is None:
            return folder
        folder = inner
    return folder


def inner_root(
    folder: str,
    layout: Layout,
    class_names: Sequence[str] | None,
    trained_classes: Collection[str],
) -> str | None:
    """Return the folder within `folder` that the data set is in; None if it is `folder` itself."""
    folders = folders_in(folder)
    known_classes = {*(class_names or ()), *trained_classes}
    if not known_classes.isdisjoint(folders):
        return None
    if not 0 < len(folders) <= MAX_FOLDERS_PROBED:
        return None
    candidates = candidates_in(folder, class_names)
    if len(folders) > 1:
        return root_beside_others(candidates, layout)
    return only_folder(candidates, layout)


def only_folder(candidates: Candidates, layout: Layout) -> str | None:
    """Return the only folder in its parent if the data set is in it; None if it is the parent."""
    (inner,) = candidates.folders.values()
    is_split = bool(candidates.split_names)
    if is_split and data_set_within(inner, candidates.class_names) is None:
        return None
    if has_images(candidates.place) or not is_container(inner):
        return None
    layout.note_files(candidates.place)
    return inner


def root_beside_others(candidates: Candidates, layout: Layout) -> str | None:
    """Return the one of several folders that the data set is in; None if it is their parent.

    The other folders are copies of it, splits without class folders, or have no splits in them.
    """
    if "train" in candidates.splits or find_levels(candidates):
        return None
    others, notes = without_copies_by_name(candidates.others)
    inner = only_data_set(candidates, others, layout) or only_container_of(others)
    if inner is None:
        return None
    layout.notes += [f"{candidates.place}: {note}" for note in notes]
    for name in candidates.split_names:
        candidates.note_unused_split(name, layout)
    layout.note_files(candidates.place)
    return inner


def only_container_of(folders: dict[str, str]) -> str | None:
    """Return the path of a single folder that has folders and no images in it, else None."""
    if len(folders) != 1:
        return None
    (only,) = folders.values()
    if is_container(only):
        return only
    return None


def without_copies_by_name(folders: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the folders without second copies of the data set, and a line on each copy.

    A copy has the files of an earlier folder, and its name in another case or with other signs
    between the words.
    """
    kept: dict[str, str] = {}
    notes = []
    for name, path in folders.items():
        original = copied_folder(name, path, kept)
        if original is None:
            kept[name] = path
        else:
            notes.append(
                f"{printable(name)} holds the same files as {printable(original)} and is left out"
            )
    return kept, notes


def copied_folder(name: str, path: str, folders: dict[str, str]) -> str | None:
    """Return the name of the first of `folders` with the same letters if it has the same files."""
    same_letters = [other for other in folders if letters_of(other) == letters_of(name)]
    if not same_letters or not is_nested(path):
        return None
    original = same_letters[0]
    if files_below(path) == files_below(folders[original]):
        return original
    return None


def letters_of(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return "".join(c for c in name.casefold() if c.isalnum())


def only_data_set(candidates: Candidates, folders: dict[str, str], layout: Layout) -> str | None:
    """Return the data set in the one of the `folders` that has a training set and another split.

    They are in that folder, or in the only folder in it. None if no such folder exists;
    InputError where there are several.
    """
    within = {}
    for name, path in folders.items():
        inner = data_set_within(path, candidates.class_names)
        if inner is not None:
            within[name] = inner
    if not within:
        return None
    data_sets = list(within)
    place = candidates.place
    chosen = data_sets[0]
    if len(data_sets) > 1:
        path = f"{place}{os.sep}{chosen}"
        raise InputError(
            f"{place} has several data sets in it, {printable_names(data_sets)}: "
            f"name one of them, {setting('dataset.path', printable(path))}"
        )
    rest = list(exclude(folders, [chosen]))
    if rest:
        layout.notes.append(
            f"{place}: {printable_names(rest)} left out beside {printable(chosen)}, "
            "which has splits in it"
        )
    return within[chosen]


def data_set_within(folder: str, class_names: Sequence[str] | None) -> str | None:
    """Return the data set that a folder is, or that lies in it, alone at every level.

    None if there is none.
    """
    for _ in range(MAX_DEPTH):
        if is_data_set(folder, class_names):
            return folder
        inner = folders_in(folder)
        if len(inner) != 1:
            return None
        (folder,) = inner.values()
    return None


def is_data_set(folder: str, class_names: Sequence[str] | None) -> bool:
    """Return whether a folder has folders for training and for another split.

    One of them must have class folders in it.
    """
    candidates = candidates_in(folder, class_names)
    splits = set(candidates.splits)
    if len(splits) < 2 or "train" not in splits:
        return False
    return any(is_nested(candidates.folders[name]) for name in candidates.split_names)
