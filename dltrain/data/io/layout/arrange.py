"""Decides which folders below a data set's folder are splits and which are classes.

It looks at names and structure and opens no file. What it leaves out or decides is noted in the
`Layout`; ambiguous folders are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dltrain.data.io.layout.classes import use_classes
from dltrain.data.io.layout.describe import (
    EXPECTED,
    classes_setting,
    describe_files,
    printable,
    printable_names,
)
from dltrain.data.io.layout.folders import files_in, is_nested
from dltrain.data.io.layout.levels import candidates_in, find_levels
from dltrain.data.io.layout.plan import Layout
from dltrain.data.io.layout.root import find_root, letters_of
from dltrain.data.io.layout.splits import use_flat_splits, use_splits
from dltrain.errors import InputError
from dltrain.shell import setting

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


def arrange(path: Path, classes: Sequence[str] | None = None, known: Sequence[str] = ()) -> Layout:
    """Return which folders below `path` are classes and splits.

    With `classes`, exactly the folders with these names are the classes, even if they look like
    splits. `known` are the classes that a run was trained on, if there is one.

    Raises:
        InputError: the folders are ambiguous, or there are none.
    """
    layout = Layout()
    root = find_root(str(path), layout, classes, known)
    if root != str(path):
        layout.notes.append(f"{path}: the data set is the folder {root}")
    candidates = candidates_in(root, classes)
    if not candidates.folders:
        raise no_folders_error(root)
    levels = find_levels(candidates)
    if any(candidates.split_names[name].split != "rest" for name in levels):
        use_splits(candidates, levels, layout)
    elif candidates.split_names:
        use_flat_splits(candidates, layout)
    else:
        use_classes(root, candidates.folders, layout, classes)
    absent = set(classes or ()).difference(*layout.parts.values())
    if absent:
        names = printable_names(sorted(absent))
        raise InputError(f"{root} has no folders for dataset.classes={names}")
    if classes is None:
        refuse_annotations(layout)
    return layout


def no_folders_error(root: str) -> InputError:
    """Return the error for a data set's folder without folders in it."""
    files = files_in(root)
    content = "no folders in it"
    if files:
        content += f", but {describe_files(files)}"
    return InputError(f"{root} has {content}; expected {EXPECTED}")


def refuse_annotations(layout: Layout) -> None:
    """Raise InputError if the classes are called images and masks, or images and labels.

    Such folders are data for segmentation or detection.
    """
    for split, place in layout.places.items():
        folders = layout.parts.get(split, {})
        images = [name for name in folders if letters_of(name) in IMAGE_PARTS]
        annotations = [name for name in folders if letters_of(name) in ANNOTATION_PARTS]
        has_others = len(images) + len(annotations) < len(folders)
        if images and annotations and not has_others:
            image_folder = folders[images[0]][0]
            raise annotations_error(place, list(folders), image_folder)


def annotations_error(place: str, names: list[str], image_folder: str) -> InputError:
    """Return the error for folders that hold images and their annotations."""
    hint = ""
    if is_nested(image_folder):
        hint = f"; for the images alone: {setting('dataset.path', printable(image_folder))}"
    return InputError(
        f"{place}: {printable_names(names)} look like images and their annotations, not like "
        f"classes; expected {EXPECTED}{hint}. To say which folders are classes: "
        f"{classes_setting(names)}"
    )
