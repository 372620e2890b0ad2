"""Fills a layout from folders that are classes."""

from __future__ import annotations

from collections.abc import Sequence

from dltrain.data.io.layout.describe import (
    EXPECTED,
    classes_setting,
    printable,
    printable_names,
)
from dltrain.data.io.layout.folders import folders_in
from dltrain.data.io.layout.levels import (
    MAX_FOLDERS_PROBED,
    one_folder_per_split,
    partial_split_names,
)
from dltrain.data.io.layout.plan import Layout, exclude, select
from dltrain.data.io.layout.split_names import SplitName, split_names
from dltrain.errors import InputError
from dltrain.shell import setting


def use_classes(
    root: str, folders: dict[str, str], layout: Layout, class_names: Sequence[str] | None
) -> None:
    """Fill `layout` with folders that are classes: of one set, or each with the same splits."""
    if class_names is None:
        note_partial_split(root, folders, layout)
    else:
        folders = chosen_classes(root, folders, layout, class_names)
    folders = without_copy_of_all(root, folders, layout)
    if use_splits_in_classes(root, folders, layout):
        return
    note_equal_parts(root, folders, layout)
    layout.note_files(root)
    layout.set_split("train", root, folders)


def chosen_classes(
    root: str, folders: dict[str, str], layout: Layout, class_names: Sequence[str]
) -> dict[str, str]:
    """Return the folders that the user calls classes; InputError if none of them exists."""
    chosen = select(folders, class_names)
    if not chosen:
        raise InputError(
            f"{root} has none of {setting('dataset.classes', class_names)}, but "
            f"{printable_names(list(folders))}"
        )
    layout.note_folders(root, list(exclude(folders, chosen)))
    return chosen


def note_partial_split(root: str, folders: dict[str, str], layout: Layout) -> None:
    """Note that a lone folder with half a split's name, such as pets_test, is used as a class."""
    partial = list(partial_split_names(list(folders)))
    if len(partial) == 1:
        others = list(exclude(folders, partial))
        layout.notes.append(
            f"{root}: {printable(partial[0])} is used as a class; if it is a split: "
            f"{classes_setting(others)}"
        )


def without_copy_of_all(root: str, folders: dict[str, str], layout: Layout) -> dict[str, str]:
    """Return the folders without one that is the data set a second time.

    Such a folder has folders with the names of all others in it.
    """
    if not 3 <= len(folders) <= MAX_FOLDERS_PROBED:
        return folders
    for name, path in folders.items():
        others = exclude(folders, [name])
        if others.keys() <= folders_in(path).keys():
            layout.notes.append(
                f"{root}: {printable(name)} has the same folders in it and is left out: "
                "it is a copy, not a class"
            )
            return others
    return folders


def use_splits_in_classes(root: str, folders: dict[str, str], layout: Layout) -> bool:
    """Fill `layout` with the splits in each class folder; return whether there are any.

    InputError where some classes have a training set in them and others have none.
    """
    first_folders = list(folders.values())[:MAX_FOLDERS_PROBED]
    if not any(split_names(folders_in(path)) for path in first_folders):
        return False
    splits = {name: split_names(folders_in(path)) for name, path in folders.items()}
    has_train = {name: includes_train(class_splits) for name, class_splits in splits.items()}
    if not any(has_train.values()):
        return False
    if not all(has_train.values()):
        raise partly_split_error(root, has_train)
    for name, path in folders.items():
        use_splits_of_class(root, name, path, splits[name], layout)
    split_list = ", ".join(sorted(layout.parts, key="train".__ne__))
    layout.notes.append(f"{root}: each class has folders of its own for {split_list}")
    layout.note_files(root)
    return True


def includes_train(splits: dict[str, SplitName]) -> bool:
    """Return whether one of the folders' names means the training set."""
    return any(split_name.split == "train" for split_name in splits.values())


def partly_split_error(root: str, has_train: dict[str, bool]) -> InputError:
    """Return the error for classes of which only some have a training set in them."""
    with_train = next(name for name, is_split in has_train.items() if is_split)
    without = next(name for name, is_split in has_train.items() if not is_split)
    return InputError(
        f"{root}: {printable(with_train)} has a training set in it and {printable(without)} has "
        f"none; expected {EXPECTED}"
    )


def use_splits_of_class(
    root: str, name: str, path: str, splits: dict[str, SplitName], layout: Layout
) -> None:
    """Fill `layout` with the folders in one class that are its splits."""
    inner = folders_in(path)
    for split, folder in one_folder_per_split(path, splits).items():
        layout.add_class(split, root, name, inner[folder])
    used = [folder for folder, split_name in splits.items() if split_name.split != "rest"]
    layout.note_folders(path, list(exclude(inner, used)))
    layout.note_files(path)


def note_equal_parts(root: str, folders: dict[str, str], layout: Layout) -> None:
    """Note which folders are used as classes if all of them hold the same two or more folders.

    The inner folders may be the classes that the user meant.
    """
    if not 2 <= len(folders) <= MAX_FOLDERS_PROBED:
        return
    contents = {frozenset(folders_in(path)) for path in folders.values()}
    parts = sorted(next(iter(contents)))
    if len(contents) == 1 and len(parts) > 1:
        layout.notes.append(
            f"{root}: {printable_names(list(folders))} are read as the classes; they have the same "
            f"folders in them, {printable_names(parts)}. If those are the classes, call the outer "
            "ones train and test"
        )
