"""The image files of a folder with a folder for each class, and what it calls them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, filterfalse
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.path_groups import PathRule
from dltrain.data.io.layout.arrange import arrange
from dltrain.data.io.layout.describe import EXPECTED, printable, printable_names
from dltrain.data.io.layout.folders import IMAGE_ENDINGS, is_hidden
from dltrain.data.io.layout.plan import Layout
from dltrain.data.io.places import AbsentDataError
from dltrain.errors import InputError


@dataclass(frozen=True)
class Files:
    """The image files of one split and the class number of each (N,)."""

    paths: list[str]
    targets: Tensor

    def __getitem__(self, chosen: Tensor) -> Files:
        """Return the files where `chosen` (N,) is true."""
        rows: list[int] = chosen.nonzero().squeeze(1).tolist()
        return Files([self.paths[row] for row in rows], self.targets[chosen])


class Listing(Protocol):
    """The image files of a data set with their classes.

    Attributes:
        expected: What the user is expected to have, for messages.
        group_setting: The setting by which files are in groups; "" without groups.
        is_of_another_run: True if a finished run is scored on the files, which was trained on
            others: the classes need not have a file each.
    """

    expected: str
    group_setting: str
    is_of_another_run: bool

    @property
    def path(self) -> Path:
        """The file or folder that names the images; AbsentDataError if it is not there."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def own_files(self) -> dict[str, Files]:
        """The files of train and of every split that the data has; InputError without any."""

    def notes(self) -> list[str]:
        """Return lines on what is left out and what was decided."""

    def groups(self, paths: Sequence[str]) -> Groups | None:
        """Return the groups of files, which stay on one side of a split; None without groups.

        Raises:
            InputError: A file has no group; the message names it.
        """

    def name_of(self, path: str) -> str:
        """Return the part of a path that stays the same where the data is moved."""


class FolderListing:
    """Files in DIR/<class>/ or DIR/{train,val,test}/<class>/, at any depth below.

    DIR is the first of `places` that exists; hidden files do not count. Classes are the names of
    the folders, sorted; those with the usual names of splits are not classes, unless `classes`
    names them: see dltrain.data.io.layout. Files of one group, by the `path_rule`, stay on one side
    of a split. `known_classes` are those of a run.
    """

    expected = EXPECTED

    def __init__(
        self,
        places: Sequence[Path],
        classes: Sequence[str] | None = None,
        path_rule: PathRule | None = None,
        known_classes: tuple[str, ...] = (),
    ) -> None:
        self.places = places
        self.classes = classes
        self.path_rule = path_rule
        self.group_setting = path_rule.setting if path_rule is not None else ""
        self.known_classes = known_classes
        self.is_of_another_run = False

    @cached_property
    def path(self) -> Path:
        """The folder; AbsentDataError if it is in none of its places."""
        for place in self.places:
            if place.is_dir():
                return place
        for place in self.places:
            if place.exists():
                raise InputError(f"dataset.path: {place} is not a folder; expected {EXPECTED}")
        raise AbsentDataError.at("dataset.path", str(self.places[0]), list(self.places))

    @cached_property
    def layout(self) -> Layout:
        """The folders that are classes and splits."""
        return arrange(self.path, self.classes, self.known_classes)

    @cached_property
    def class_folders(self) -> list[str]:
        """The sorted names of the folders that are classes."""
        parts = self.layout.parts
        training = parts.get("train")
        if training:
            return sorted(training)
        return sorted({name for classes in parts.values() for name in classes})

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; InputError for a folder without files."""
        _ = self.own_files
        return tuple(printable(name) for name in self.class_folders)

    @cached_property
    def own_files(self) -> dict[str, Files]:
        """The files of train and of every split that the folder has; InputError without any."""
        own = {"train": Files([], torch.zeros(0, dtype=torch.int64))}
        for split, classes in self.layout.parts.items():
            self.check_known(split, classes)
            own[split] = files_of_classes([classes.get(name, ()) for name in self.class_folders])
        if "train" in self.layout.parts and not self.is_of_another_run:
            self.check_not_empty(own["train"])
        if not sum(len(files.paths) for files in own.values()):
            raise InputError(f"{self.path}: there is no file in its folders; expected {EXPECTED}")
        return own

    def check_known(self, split: str, classes: Iterable[str]) -> None:
        """Raise InputError for class folders of a split that training does not have."""
        unknown = sorted(set(classes) - set(self.class_folders))
        if unknown:
            places = self.layout.places
            raise InputError(
                f"{places[split]} has the classes {printable_names(unknown)}, "
                f"which {places['train']} does not have"
            )

    def check_not_empty(self, train: Files) -> None:
        """Raise InputError for training classes without a file."""
        empty = self.empty_classes(train)
        if empty:
            place = self.layout.places["train"]
            raise InputError(f"{place}: there is no file in {printable_names(empty)}")

    def empty_classes(self, files: Files) -> list[str]:
        """Return the class folders without a file in a split."""
        counts = torch.bincount(files.targets, minlength=len(self.class_folders)).tolist()
        return [name for name, count in zip(self.class_folders, counts, strict=True) if not count]

    @cached_property
    def folders_of_classes(self) -> frozenset[str]:
        """The paths of the class folders of every split."""
        by_class = chain.from_iterable(classes.values() for classes in self.layout.parts.values())
        return frozenset(chain.from_iterable(by_class))

    def groups(self, paths: Sequence[str]) -> Groups | None:
        """Return the groups of files, which stay on one side of a split; None without a rule.

        Raises:
            InputError: A file has no group; the message names it.
        """
        if self.path_rule is None:
            return None
        return self.path_rule.groups(paths, self.folders_of_classes)

    def notes(self) -> list[str]:
        """Return lines on what of the folder is left out and what was decided about its folders."""
        return [printable(note) for note in [*self.layout.notes, *self.empty_folders()]]

    def empty_folders(self) -> list[str]:
        """Return a line on the class folders of a split that have no file in them.

        Training refuses its own.
        """
        lines = []
        for split, files in self.own_files.items():
            classes = self.layout.parts.get(split, ())
            empty = [name for name in self.empty_classes(files) if name in classes]
            if empty and files.paths:
                place = self.layout.places[split]
                lines.append(f"{place}: there is no file in {printable_names(empty)}")
        return lines

    def name_of(self, path: str) -> str:
        """Return a path below the folder."""
        return path.removeprefix(f"{self.path}{os.sep}")


def files_of_classes(folders: Sequence[Iterable[str]]) -> Files:
    """Return the files below the folders of each class, with the number of the class."""
    by_class = [[path for folder in some for path in files_in(folder)] for some in folders]
    counts = torch.tensor([len(paths) for paths in by_class], dtype=torch.int64)
    return Files([path for paths in by_class for path in paths], torch.repeat_interleave(counts))


def files_in(folder: str) -> list[str]:
    """Return the sorted paths of all files below `folder` that are not hidden.

    Folders that are called like images count as files.
    """
    paths = []
    for place, folders, names in os.walk(folder):
        visible_folders = [name for name in folders if not is_hidden(name)]
        called_like_images = list(filter(is_image_name, visible_folders))
        folders[:] = filterfalse(is_image_name, visible_folders)
        visible = [name for name in names if not is_hidden(name)]
        paths += [f"{place}{os.sep}{name}" for name in visible + called_like_images]
    return sorted(paths)


def is_image_name(name: str) -> bool:
    """Return whether a name has the ending of an image."""
    return name.lower().endswith(IMAGE_ENDINGS)
