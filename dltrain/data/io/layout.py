"""Decides which folders below a data set's folder are splits and which are classes, by their names
and their structure.

It opens no file. What it leaves out or decides is put into notes, a line each; what is ambiguous is
refused.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dltrain.data.io.split_names import SplitName, by_split, meaningful_words, parse, split_names
from dltrain.errors import InputError, first_names
from dltrain.shell import setting

MAX_NAMES_SHOWN = 10
MAX_FOLDERS_PROBED = 50  # of the same level: a data set's own folder is not one of so many
MAX_DEPTH = 8  # of folders that hold nothing but one more folder
EXPECTED = "a folder for each class, or train/ and test/ with such folders in them"
GENERIC = ("jpegimages", "unknown")
HIDDEN = (".", "__MACOSX", "__pycache__", "@eaDir")
# Of the formats that dltrain.data.images.decode reads.
IMAGE_ENDINGS = (
    *(".apng", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
# Names of folders, by their letters, for the two parts of data for segmentation or detection.
IMAGE_PARTS = frozenset(["image", "images", "img", "imgs", "jpegimages", "photos"])
ANNOTATION_PARTS = frozenset(
    [
        "mask",
        "masks",
        "label",
        "labels",
        "annotation",
        "annotations",
        "gt",
        "groundtruth",
        "segmentation",
        "trimaps",
    ]
)


@dataclass
class Layout:
    """The folders of the classes in each split, {split: {class: folders}}, and lines on what was
    left out or decided.
    """

    parts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # the folder of each split
    notes: list[str] = field(default_factory=list)

    def put(self, split: str, place: str, classes: dict[str, str]) -> None:
        """Take over the class folders of a split."""
        self.places[split] = place
        self.parts[split] = {name: [folder] for name, folder in classes.items()}


@dataclass(frozen=True)
class Level:
    """The class folders of a split, {name: path}, the folder `place` that they are in, and the
    folders that were passed through to it.
    """

    place: str
    folders: dict[str, str]
    passed: list[str] = field(default_factory=list)


def arrange(path: Path, classes: Sequence[str] | None = None, known: Sequence[str] = ()) -> Layout:
    """Return what the folders below `path` are.

    With `classes` the folders of these names are the classes and no others, whatever their names
    look like. `known` are the classes of a run, if there is one. InputError where it cannot be
    known which folders are classes, and where there are none.
    """
    layout = Layout()
    root = descend(str(path), layout, classes, known)
    if root != str(path):
        layout.notes.append(f"{path}: the data set is the folder {root}")
    folders = folders_in(root)
    if not folders:
        files = files_beside(root)
        has = f"no folders in it, but {counted(files)}" if files else "no folders in it"
        raise InputError(f"{root} has {has}; expected {EXPECTED}")
    named = all_splits(folders, classes)
    levels = class_levels(folders, named, classes)
    if any(named[name].split != "rest" for name in levels):
        splits_of(root, folders, named, levels, layout)
    elif named:
        flat_splits(root, folders, named, layout, classes)
    else:
        classes_of(root, folders, layout, classes)
    absent = set(classes or ()).difference(*layout.parts.values())
    if absent:
        raise InputError(f"{root} has no folder of dataset.classes={shown_names(sorted(absent))}")
    if classes is None:
        refuse_annotations(layout)
    return layout


def refuse_annotations(layout: Layout) -> None:
    """Raise InputError where the classes are called images and masks, labels or the like: data of
    another task.
    """
    for split, place in layout.places.items():
        folders = layout.parts.get(split, {})
        images = [name for name in folders if letters_of(name) in IMAGE_PARTS]
        annotations = [name for name in folders if letters_of(name) in ANNOTATION_PARTS]
        if images and annotations and len(images) + len(annotations) == len(folders):
            within = folders[images[0]][0]
            alone = (
                f"; for the images alone: {setting('dataset.path', shown(within))}"
                if is_nested(within)
                else ""
            )
            raise InputError(
                f"{place}: {shown_names(list(folders))} look like images and their annotations, not like classes; "
                f"expected {EXPECTED}{alone}. To say which folders are classes: {overrule(list(folders))}"
            )


# The data set's own folder ----------------------------------------------------------------------------------------


def descend(
    folder: str, layout: Layout, classes: Sequence[str] | None, known: Sequence[str]
) -> str:
    """Return the folder that holds splits or classes: an archive's own folder may be `folder`'s
    only one, or the only one among others that has splits in it.
    """
    for _ in range(MAX_DEPTH):
        inner = inner_folder(folder, layout, classes, known)
        if inner is None:
            return folder
        folder = inner
    return folder


def inner_folder(
    folder: str, layout: Layout, classes: Sequence[str] | None, known: Sequence[str]
) -> str | None:
    """Return the folder within `folder` that the data set is in; None if it is `folder` itself."""
    folders = folders_in(folder)
    if any(name in (*(classes or ()), *known) for name in folders):
        return None
    if not 0 < len(folders) <= MAX_FOLDERS_PROBED:
        return None
    named = all_splits(folders, classes)
    if len(folders) > 1:
        return folder_beside_others(folder, folders, named, layout, classes)
    (inner,) = folders.values()
    if named and splits_within(inner, classes) is None:
        return None
    if not is_nested(inner) or has_images(folder) or has_images(inner):
        return None
    leave_files(folder, layout)
    return inner


def folder_beside_others(
    folder: str,
    folders: dict[str, str],
    named: dict[str, SplitName],
    layout: Layout,
    classes: Sequence[str] | None,
) -> str | None:
    """Return the one of several folders that the data set is in: the others are copies of it,
    splits without class folders, or have no splits in them. None if `folder` itself is the data
    set.
    """
    if any(one.split == "train" for one in named.values()) or class_levels(folders, named, classes):
        return None
    others, notes = without_respelled(
        {name: inner for name, inner in folders.items() if name not in named}
    )
    inner = only_data_set(folder, others, layout, classes)
    if inner is None and len(others) == 1:
        (only,) = others.values()
        inner = only if is_nested(only) and not has_images(only) else None
    if inner is not None:
        layout.notes += [f"{folder}: {note}" for note in notes]
        for name, one in named.items():
            leave_split(folder, name, folders[name], one.split, layout)
        leave_files(folder, layout)
    return inner


def without_respelled(folders: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return `folders` but those with the name and the files of one before, in another case or with
    other signs between the words, and a line on each of these: it is the data set once more.
    """
    kept: dict[str, str] = {}
    notes = []
    for name, inner in folders.items():
        like = [other for other in kept if letters_of(other) == letters_of(name)]
        if like and is_nested(inner) and files_below(inner) == files_below(kept[like[0]]):
            notes.append(f"{shown(name)} holds the same files as {shown(like[0])} and is left out")
        else:
            kept[name] = inner
    return kept, notes


def letters_of(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return "".join(c for c in name.casefold() if c.isalnum())


def only_data_set(
    folder: str, folders: dict[str, str], layout: Layout, classes: Sequence[str] | None
) -> str | None:
    """Return the one folder among several that has a training set and another split in it, or in
    the only folder in it; None if there is none.

    InputError where several of them are data sets.
    """
    found = {name: splits_within(inner, classes) for name, inner in folders.items()}
    sets = [name for name, inner in found.items() if inner is not None]
    if not sets:
        return None
    if len(sets) > 1:
        raise InputError(
            f"{folder} has several data sets in it, {shown_names(sets)}: name one of them, "
            + setting("dataset.path", shown(os.path.join(folder, sets[0])))  # noqa: PTH118 - a string, as all paths here
        )
    if rest := [name for name in folders if name != sets[0]]:
        layout.notes.append(
            f"{folder}: {shown_names(rest)} left out beside {shown(sets[0])}, which has splits in it"
        )
    return found[sets[0]]


def splits_within(folder: str, classes: Sequence[str] | None) -> str | None:
    """Return the data set that a folder is, or that lies in it, alone at every level; None if there
    is none.
    """
    for _ in range(MAX_DEPTH):
        if is_data_set(folder, classes):
            return folder
        inner = folders_in(folder)
        if len(inner) != 1:
            return None
        (folder,) = inner.values()
    return None


def is_data_set(folder: str, classes: Sequence[str] | None) -> bool:
    """Return whether a folder has folders for training and for another split, with class folders in
    one of them.
    """
    folders = folders_in(folder)
    named = all_splits(folders, classes)
    splits = {one.split for one in named.values()}
    return len(splits) > 1 and "train" in splits and any(is_nested(folders[name]) for name in named)


# Splits -----------------------------------------------------------------------------------------------------------


def splits_of(
    root: str,
    folders: dict[str, str],
    named: dict[str, SplitName],
    levels: dict[str, Level],
    layout: Layout,
) -> None:
    """Fill `layout` from the folders `named` as splits that have `levels` of class folders."""
    chosen = one_of_each(root, {name: named[name] for name in levels})
    others = [name for name in folders if name not in named]
    if "train" not in chosen and others:
        wanted = {name for split in chosen.values() for name in levels[split].folders}
        train = training_folder(root, folders, wanted, chosen, others)
        if train is None:
            known = {name: folders[name] for name in others}
            layout.put("train", root, known)
            others = []
        else:
            layout.notes.append(
                f"{root}: {shown(train)} is read as the training set of {shown_names(list(named))}"
            )
            chosen = {"train": train, **chosen}
            levels = {**levels, train: class_level(folders[train], wanted, None)}
            others = [name for name in others if name != train]
    for split in sorted(chosen, key="train".__ne__):  # train first: the others have its classes
        put_split(split, folders[chosen[split]], levels[chosen[split]], layout)
    for name in named:
        if name not in chosen.values():
            leave_split(root, name, folders[name], named[name].split, layout)
    if others:
        layout.notes.append(
            f"{root}: {shown_names(others)} left out beside {shown_names(list(chosen.values()))}"
        )
    leave_files(root, layout)


def one_of_each(root: str, named: dict[str, SplitName]) -> dict[str, str]:
    """Return the folder of each split; InputError where two are of the same one."""
    chosen = {}
    for split, names in by_split(named).items():
        if len(names) > 1 and split != "rest":
            first, second = (f"{root}{os.sep}{name}" for name in sorted(names)[:2])
            raise InputError(
                f"{first} and {second} both look like the {split} set: rename one of them or move it away"
            )
        if split != "rest":
            chosen[split] = names[0]
    return chosen


def training_folder(
    root: str, folders: dict[str, str], wanted: set[str], chosen: dict[str, str], others: list[str]
) -> str | None:
    """Return the name of the training set where no folder is called so: that of the data set beside
    rps-test and rps-validation, with the `wanted` classes in it. None where the `others` are the
    classes. InputError where they are neither.
    """
    if wanted <= set(others):
        return None
    alike = [name for name in others if wanted and wanted <= set(class_folders(folders[name]))]
    if len(alike) == 1:
        return alike[0]
    looks = shown_names(sorted(chosen.values()))
    raise InputError(
        f"{root}: {looks} looks like a split, and there is no training set with the classes in it "
        f"({shown_names(sorted(wanted))}) beside {shown_names(others)}; call the training set train, or "
        f"{overrule(list(folders))}"
    )


def class_levels(
    folders: dict[str, str], named: dict[str, SplitName], classes: Sequence[str] | None
) -> dict[str, Level]:
    """Return where the class folders are in each of the folders `named` as splits, for those that
    have some. The training set is looked at first: the others have its classes.
    """
    levels: dict[str, Level] = {}
    known = set(classes or ())
    for name in sorted(named, key=lambda name: named[name].split != "train"):
        level = class_level(folders[name], known or set(folders) - set(named), classes)
        if level.folders:
            levels[name] = level
            known |= set(level.folders) if named[name].split == "train" else set()
    return levels


def class_level(folder: str, known: set[str], classes: Sequence[str] | None) -> Level:
    """Return where the class folders of a split are: in its folder, or in the only one in that, and
    so on. There are none if the last one's name says nothing, such as images, or is a split's.
    """
    level = Level(folder, class_folders(folder, classes))
    for _ in range(MAX_DEPTH):
        if len(level.folders) != 1 or known & level.folders.keys():
            break
        (only,) = level.folders.values()
        if not is_nested(only) or has_images(level.place) or has_images(only):
            break
        level = Level(only, class_folders(only, classes), [*level.passed, level.place])
    names = [name for name in level.folders if name not in known and name != Path(level.place).name]
    lone = len(level.folders) == 1 and all(map(says_no_class, names))
    if not known & level.folders.keys() and (lone or all(map(is_split, names))):
        return Level(level.place, {}, level.passed)
    return level


def is_split(name: str) -> bool:
    """Return whether a folder has the whole name of a split."""
    one = parse(name)
    return one is not None and not one.others


def says_no_class(name: str) -> bool:
    """Return whether the only folder in a split has the name of a split, or one such as images."""
    nothing = not meaningful_words(name) and not name.isdigit()
    return is_split(name) or nothing or name.lower() in GENERIC


def put_split(split: str, folder: str, level: Level, layout: Layout) -> None:
    """Take over the class folders of a split, and say what is left out beside them."""
    for place in level.passed:
        leave_files(place, layout)
    if level.passed and not is_generic(Path(level.place).name):
        layout.notes.append(f"{folder}: the classes are the folders in {level.place}")
    skipped = [name for name in folders_in(level.place) if name not in level.folders]
    if skipped:
        layout.notes.append(
            f"{level.place}: {shown_names(skipped)} left out: no class of the {split} set"
        )
    leave_files(level.place, layout)
    layout.put(split, level.place, level.folders)


def is_generic(name: str) -> bool:
    """Return whether a folder's name, such as images or test, says nothing of the class of what is
    in it.
    """
    return parse(name) is not None or not meaningful_words(name) or name.lower() in GENERIC


def leave_split(root: str, name: str, folder: str, split: str, layout: Layout) -> None:
    """Say that a folder with the name of a split is not used."""
    what = "a split without labels" if split == "rest" else f"a {split} set without class folders"
    layout.notes.append(
        f"{root}: {shown(name)} looks like {what} and is left out: {counted(files_below(folder))}"
    )


def flat_splits(
    root: str,
    folders: dict[str, str],
    named: dict[str, SplitName],
    layout: Layout,
    classes: Sequence[str] | None,
) -> None:
    """Fill `layout` where folders have the names of splits and no class folders in them.

    Files lie beside a class's others in cats_train and cats_test. A lone `train` among classes is
    one of them. All else is left out beside classes, or refused.
    """
    others = {name: folder for name, folder in folders.items() if name not in named}
    splits = {one.split for one in named.values()}
    if by_class := classes_by_split(named):
        put_by_class(root, folders, by_class, layout)
    elif others and len(named) == 1 and splits == {"train"}:
        layout.notes.append(
            f"{root}: {shown(next(iter(named)))} is read as a class, like {shown_names(list(others))} beside it; "
            f"if it is not one: {overrule(list(others))}"
        )
        classes_of(root, folders, layout, classes)
    elif len(others) < 2 or "train" in splits:
        looks = "looks like a split" if len(named) == 1 else "look like splits"
        beside = f" beside {shown_names(list(others))}" if others else ""
        raise InputError(
            f"{root}: {shown_names(list(named))} {looks} of a data set, without class folders{beside}; expected {EXPECTED}. "
            f"To say which folders are classes: {overrule(list(others if len(others) > 1 else folders))}"
        )
    else:
        for name, one in named.items():
            leave_split(root, name, folders[name], one.split, layout)
        layout.notes.append(
            f"if {shown_names(list(named))} should be a class: {overrule(list(folders))}"
        )
        classes_of(root, others, layout, classes)


def put_by_class(
    root: str, folders: dict[str, str], by_class: dict[tuple[str, str], str], layout: Layout
) -> None:
    """Fill `layout` with folders such as cats_train and cats_test, {(split, class): name}."""
    for (split, name), folder in by_class.items():
        layout.parts.setdefault(split, {})[name] = [folders[folder]]
        layout.places[split] = root
    example, (split, name) = next((folder, key) for key, folder in by_class.items())
    layout.notes.append(
        f"{root}: each folder is read as a split of a class, {shown(example)} as {split} of {shown(name)}"
    )
    leave_folders(root, [folder for folder in folders if folder not in by_class.values()], layout)
    leave_files(root, layout)


def overrule(names: Sequence[str]) -> str:
    """Return the setting that says which folders are classes."""
    before, bracket, after = setting(
        "dataset.classes", list(map(shown, names[:MAX_NAMES_SHOWN]))
    ).rpartition("]")
    more = ",..." if len(names) > MAX_NAMES_SHOWN else ""
    return f"{before}{more}{bracket}{after}"


def classes_by_split(named: dict[str, SplitName]) -> dict[tuple[str, str], str]:
    """Return {(split, class): folder's name} of folders such as cats_train and cats_test,
    dogs_train and dogs_test; nothing unless there are two such classes or more, each with a
    training set.
    """
    found = {(one.split, " ".join(one.others)): name for name, one in named.items() if one.others}
    classes = {name for _, name in found}
    if (
        len(classes) < 2
        or len(found) < len(named)
        or any(("train", name) not in found for name in classes)
    ):
        return {}
    return {key: name for key, name in found.items() if key[0] != "rest"}


# Classes ----------------------------------------------------------------------------------------------------------


def classes_of(
    root: str, folders: dict[str, str], layout: Layout, classes: Sequence[str] | None
) -> None:
    """Fill `layout` with folders that are classes, of one set or each with the same splits in it."""
    if classes is not None:
        absent = [name for name in classes if name not in folders]
        if len(absent) == len(classes):
            raise InputError(
                f"{root} has none of dataset.classes=[{','.join(classes)}], but {shown_names(list(folders))}"
            )
        leave_folders(root, [name for name in folders if name not in classes], layout)
        folders = {name: folder for name, folder in folders.items() if name in classes}
    halves = half_names(list(folders))
    if classes is None and len(halves) == 1:
        (half,) = halves
        layout.notes.append(
            f"{root}: {shown(half)} is used as a class; if it is a split: "
            f"{overrule([name for name in folders if name != half])}"
        )
    folders = without_copies(root, folders, layout)
    if splits_in_classes(root, folders, layout):
        return
    note_equal_parts(root, folders, layout)
    leave_files(root, layout)
    layout.put("train", root, folders)


def without_copies(root: str, folders: dict[str, str], layout: Layout) -> dict[str, str]:
    """Return the folders but one that has folders of the names of all others in it: the data set
    once more.
    """
    if not 3 <= len(folders) <= MAX_FOLDERS_PROBED:
        return folders
    for name, folder in folders.items():
        if set(folders) - {name} <= set(folders_in(folder)):
            layout.notes.append(
                f"{root}: {shown(name)} has the same folders in it and is left out: it is a copy, not a class"
            )
            return {other: one for other, one in folders.items() if other != name}
    return folders


def splits_in_classes(root: str, folders: dict[str, str], layout: Layout) -> bool:
    """Return whether each class has folders of splits in it, after filling `layout` with them;
    InputError where some classes have and others have not, or none for training.
    """
    sample = list(folders.values())[:MAX_FOLDERS_PROBED]
    if not any(named_splits(folders_in(folder), None) for folder in sample):
        return False
    found = {name: named_splits(folders_in(folder), None) for name, folder in folders.items()}
    trains = [
        name for name, named in found.items() if any(one.split == "train" for one in named.values())
    ]
    if not trains:
        return False
    if len(trains) < len(folders):
        without = next(name for name in folders if name not in trains)
        raise InputError(
            f"{root}: {shown(trains[0])} has a training set in it and {shown(without)} has none; expected {EXPECTED}"
        )
    for name, named in found.items():
        inner = folders_in(folders[name])
        for split, split_folder in one_of_each(folders[name], named).items():
            layout.parts.setdefault(split, {})[name] = [inner[split_folder]]
            layout.places[split] = root
        leave_folders(
            folders[name],
            [one for one in inner if one not in named or named[one].split == "rest"],
            layout,
        )
        leave_files(folders[name], layout)
    layout.notes.append(
        f"{root}: each class has folders of its own for {', '.join(sorted(layout.parts, key='train'.__ne__))}"
    )
    leave_files(root, layout)
    return True


def note_equal_parts(root: str, folders: dict[str, str], layout: Layout) -> None:
    """Log which folders are used as classes if all of them hold the same two or more folders.

    The inner folders may be the classes that the user meant.
    """
    if not 2 <= len(folders) <= MAX_FOLDERS_PROBED:
        return
    inner = {frozenset(folders_in(folder)) for folder in folders.values()}
    parts = sorted(next(iter(inner)))
    if len(inner) == 1 and len(parts) > 1:
        layout.notes.append(
            f"{root}: {shown_names(list(folders))} are read as the classes; they have the same folders in them, "
            f"{shown_names(parts)}. If those are the classes, call the outer ones train and test"
        )


# Folders and files ------------------------------------------------------------------------------------------------


def named_splits(folders: dict[str, str], classes: Sequence[str] | None) -> dict[str, SplitName]:
    """Return which of the `folders` have the names of splits, but those that the user calls
    classes.
    """
    return split_names([name for name in folders if name not in (classes or ())])


def all_splits(folders: dict[str, str], classes: Sequence[str] | None) -> dict[str, SplitName]:
    """Return which of the `folders` are splits by their names, or by half a name and their
    structure.

    A lone pets_test is half a name. It is a split if it has folders of the names of its siblings in
    it, or of what is in them; or if it is the training set that other splits lack. A lone pets_val
    is always one.
    """
    named = named_splits(folders, classes)
    if len(folders) > MAX_FOLDERS_PROBED:
        return named
    halves = half_names(
        [name for name in folders if name not in named and name not in (classes or ())]
    )
    halves = {
        name: one for name, one in halves.items() if one.split == "val" or is_nested(folders[name])
    }
    taken = [one.split for one in (*named.values(), *halves.values())]
    for name, one in halves.items():
        lacking = one.split == "val" or (one.split == "train" and bool(named))
        if taken.count(one.split) == 1 and (lacking or shares_classes(name, folders)):
            named[name] = one
    return named


def half_names(names: Sequence[str]) -> dict[str, SplitName]:
    """Return which of the names are those of a split with words of their own, such as pets_test."""
    parsed = {name: parse(name) for name in names}
    return {name: one for name, one in parsed.items() if one and one.others and one.split != "rest"}


def shares_classes(name: str, folders: dict[str, str]) -> bool:
    """Return whether a folder has folders in it that have the names of its siblings, or of folders
    in those.
    """
    own = set(class_level(folders[name], set(folders), None).folders)
    siblings = [
        class_level(folder, set(folders), None)
        for other, folder in folders.items()
        if other != name
    ]
    return bool(own & (set(folders) - {name})) or any(
        own & level.folders.keys() for level in siblings
    )


def class_folders(folder: str, classes: Sequence[str] | None = None) -> dict[str, str]:
    """Return the folders of a split, but those with the names of splits, such as unsup."""
    folders = folders_in(folder)
    if classes is not None:
        return {name: one for name, one in folders.items() if name in classes} or folders
    named = split_names(folders)
    kept = {name: one for name, one in folders.items() if name not in named}
    only_train = len(named) == 1 and next(iter(named.values())).split == "train" and len(kept) > 0
    return folders if only_train or not kept else kept


def is_nested(folder: str) -> bool:
    """Return whether a folder has folders in it."""
    return any(not name.lower().endswith(IMAGE_ENDINGS) for name in folders_in(folder))


def folders_in(folder: Path | str) -> dict[str, str]:
    """Return {name: path} of the folders in `folder` that are not hidden, by name; InputError if it
    cannot be opened.
    """
    try:
        with os.scandir(folder) as entries:
            found = {e.name: e.path for e in entries if not is_hidden(e.name) and is_folder(e)}
    except OSError as e:
        raise InputError(f"{folder} cannot be opened: {e.strerror}") from e
    return dict(sorted(found.items()))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; not a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def files_beside(folder: str) -> list[str]:
    """Return the names of the files in a folder that are not hidden."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not is_hidden(e.name) and not is_folder(e))
    except OSError:
        return []


def files_below(folder: str) -> list[str]:
    """Return the names of all files below a folder that are not hidden."""
    return [path.name for path in paths_below(folder)]


def paths_below(folder: Path | str) -> list[Path]:
    """Return the paths of all files below a folder that are not hidden, in their order."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(place, name) for name in names if not is_hidden(name)]
    return sorted(found)


def has_images(folder: str) -> bool:
    """Return whether a folder has image files in it."""
    return any(name.lower().endswith(IMAGE_ENDINGS) for name in files_beside(folder))


def is_hidden(name: str) -> bool:
    """Return whether a name is one that a person does not see, or what macOS puts into archives."""
    return name.startswith(HIDDEN)


def leave_files(folder: str, layout: Layout) -> None:
    """Say which files in a folder are not used, for they lie beside the class folders."""
    if files := files_beside(folder):
        layout.notes.append(f"{folder}: {counted(files)} left out beside the folders")


def leave_folders(folder: str, names: Sequence[str], layout: Layout) -> None:
    """Say which folders in a folder are not used."""
    if names:
        layout.notes.append(f"{folder}: {shown_names(names)} left out: no class")


def counted(names: Sequence[str]) -> str:
    """Return how many files there are, with the name of a single one or the most frequent endings."""
    if not names:
        return "it has no file in it"
    if len(names) == 1:
        return f"1 file ({shown(names[0])})"
    endings = Counter(ending(name) for name in names).most_common()
    listed = ", ".join(f"{count:,} {name}" for name, count in endings[:5])
    return f"{len(names):,} files ({listed}{', ...' if len(endings) > 5 else ''})"


def ending(name: str) -> str:
    """Return the ending of a file's name for a message."""
    return shown(os.path.splitext(name)[1]) or "without ending"  # noqa: PTH122 - a Path for each file takes seconds


def shown_names(names: Sequence[str]) -> str:
    """Return the first of `names`, and how many more there are."""
    return first_names([shown(name) for name in names], MAX_NAMES_SHOWN)


def shown(name: str) -> str:
    """Return a file's name as text that any screen takes: bytes that are not UTF-8 become question
    marks.
    """
    return name.encode("utf-8", "replace").decode()
