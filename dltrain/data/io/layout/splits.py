"""Fills a layout from folders with the names of splits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dltrain.data.io.layout.classes import use_classes
from dltrain.data.io.layout.describe import (
    EXPECTED,
    classes_setting,
    printable,
    printable_names,
)
from dltrain.data.io.layout.folders import folders_in
from dltrain.data.io.layout.levels import (
    Level,
    class_folders,
    find_level,
    is_generic,
    one_folder_per_split,
)
from dltrain.data.io.layout.plan import Candidates, Layout
from dltrain.data.io.layout.split_names import SplitName
from dltrain.errors import InputError


def use_splits(candidates: Candidates, levels: dict[str, Level], layout: Layout) -> None:
    """Fill `layout` from the folders that are splits and have `levels` of class folders."""
    root, folders = candidates.place, candidates.folders
    chosen = one_folder_per_split(root, {name: candidates.split_names[name] for name in levels})
    unused = list(candidates.others)
    if "train" not in chosen and unused:
        classes: set[str] = set().union(*(levels[name].folders for name in chosen.values()))
        train = find_training_folder(candidates, classes, chosen)
        if train is None:
            layout.set_split("train", root, candidates.others)
            unused = []
        else:
            note_training_folder(train, candidates, layout)
            chosen = {"train": train, **chosen}
            levels = {**levels, train: find_level(folders[train], classes, None)}
            unused.remove(train)
    for split in sorted(chosen, key="train".__ne__):  # train first: the others have its classes
        use_level(split, folders[chosen[split]], levels[chosen[split]], layout)
    note_unused_folders(candidates, list(chosen.values()), unused, layout)


def note_training_folder(train: str, candidates: Candidates, layout: Layout) -> None:
    """Note which folder without a split's name is the training set."""
    splits = printable_names(list(candidates.split_names))
    layout.notes.append(
        f"{candidates.place}: {printable(train)} is read as the training set of {splits}"
    )


def note_unused_folders(
    candidates: Candidates, used: list[str], unused: list[str], layout: Layout
) -> None:
    """Note the splits, other folders and files that are not used beside the `used` folders."""
    root = candidates.place
    for name in candidates.split_names:
        if name not in used:
            candidates.note_unused_split(name, layout)
    if unused:
        layout.notes.append(
            f"{root}: {printable_names(unused)} left out beside {printable_names(used)}"
        )
    layout.note_files(root)


def find_training_folder(
    candidates: Candidates, classes: set[str], chosen: dict[str, str]
) -> str | None:
    """Return the name of the training set where no folder is called so.

    It is the folder with the `classes` of the `chosen` splits in it, such as rps beside rps-test
    and rps-validation. None where the folders beside the splits are the classes; InputError where
    they are neither.
    """
    others = candidates.others
    if classes <= others.keys():
        return None
    with_classes = [
        name for name, path in others.items() if classes and classes <= class_folders(path).keys()
    ]
    if len(with_classes) == 1:
        return with_classes[0]
    raise InputError(
        f"{candidates.place}: {printable_names(sorted(chosen.values()))} looks like a split, and "
        f"there is no training set with the classes in it ({printable_names(sorted(classes))}) "
        f"beside {printable_names(list(others))}; call the training set train, or "
        f"{classes_setting(list(candidates.folders))}"
    )


def use_level(split: str, folder: str, level: Level, layout: Layout) -> None:
    """Use the class folders of a split, and note what is left out beside them."""
    for place in level.passed:
        layout.note_files(place)
    if level.passed and not is_generic(Path(level.place).name):
        layout.notes.append(f"{folder}: the classes are the folders in {level.place}")
    skipped = [name for name in folders_in(level.place) if name not in level.folders]
    if skipped:
        layout.notes.append(
            f"{level.place}: {printable_names(skipped)} left out: no class of the {split} set"
        )
    layout.note_files(level.place)
    layout.set_split(split, level.place, level.folders)


def use_flat_splits(candidates: Candidates, layout: Layout) -> None:
    """Fill `layout` where folders have the names of splits and no class folders in them.

    Folders such as cats_train and cats_test are splits of a class. A lone `train` among classes is
    one of them. Other splits are left out beside classes, or refused.
    """
    root, others = candidates.place, candidates.others
    names = list(candidates.split_names)
    by_class = folders_by_class(candidates.split_names)
    if by_class:
        use_splits_of_classes(candidates, by_class, layout)
    elif others and candidates.splits == ["train"]:
        layout.notes.append(
            f"{root}: {printable(names[0])} is read as a class, like "
            f"{printable_names(list(others))} beside it; if it is not one: "
            f"{classes_setting(list(others))}"
        )
        use_classes(root, candidates.folders, layout, candidates.class_names)
    elif len(others) < 2 or "train" in candidates.splits:
        raise flat_split_error(candidates)
    else:
        for name in names:
            candidates.note_unused_split(name, layout)
        layout.notes.append(
            f"if {printable_names(names)} should be a class: "
            f"{classes_setting(list(candidates.folders))}"
        )
        use_classes(root, others, layout, candidates.class_names)


def flat_split_error(candidates: Candidates) -> InputError:
    """Return the error for folders that are called like splits and have no class folders."""
    splits, others = list(candidates.split_names), list(candidates.others)
    looks = "look like splits"
    if len(splits) == 1:
        looks = "looks like a split"
    beside = ""
    if others:
        beside = f" beside {printable_names(others)}"
    possible_classes = others if len(others) > 1 else list(candidates.folders)
    return InputError(
        f"{candidates.place}: {printable_names(splits)} {looks} of a data set, without class "
        f"folders{beside}; expected {EXPECTED}. To say which folders are classes: "
        f"{classes_setting(possible_classes)}"
    )


def use_splits_of_classes(
    candidates: Candidates, by_class: dict[tuple[str, str], str], layout: Layout
) -> None:
    """Fill `layout` with folders such as cats_train and cats_test, {(split, class): name}."""
    root = candidates.place
    for (split, class_name), folder in by_class.items():
        layout.add_class(split, root, class_name, candidates.folders[folder])
    (split, class_name), example = next(iter(by_class.items()))
    layout.notes.append(
        f"{root}: each folder is read as a split of a class, {printable(example)} as {split} of "
        f"{printable(class_name)}"
    )
    unused = [name for name in candidates.folders if name not in by_class.values()]
    layout.note_folders(root, unused)
    layout.note_files(root)


def folders_by_class(splits: dict[str, SplitName]) -> dict[tuple[str, str], str]:
    """Return {(split, class): folder's name} of folders such as cats_train and cats_test.

    Empty unless there are two such classes or more, each with a training set.
    """
    folders = {
        (split_name.split, " ".join(split_name.others)): name
        for name, split_name in splits.items()
        if split_name.others
    }
    if len(folders) < len(splits) or not all_classes_are_trained(folders):
        return {}
    return {key: name for key, name in folders.items() if key[0] != "rest"}


def all_classes_are_trained(folders: Iterable[tuple[str, str]]) -> bool:
    """Return whether (split, class) are of two classes or more, each with a training set."""
    class_names = {class_name for _, class_name in folders}
    trained = {class_name for split, class_name in folders if split == "train"}
    return len(class_names) > 1 and trained == class_names
