"""The result: which folders hold the classes of each split, and notes on what was left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from dltrain.data.io.layout.describe import describe_files, printable, printable_names
from dltrain.data.io.layout.folders import files_below, files_in
from dltrain.data.io.layout.split_names import SplitName


def select(folders: dict[str, str], names: Collection[str]) -> dict[str, str]:
    """Return the folders, {name: path}, with these names."""
    return {name: path for name, path in folders.items() if name in names}


def exclude(folders: dict[str, str], names: Collection[str]) -> dict[str, str]:
    """Return the folders, {name: path}, with other names than these."""
    return {name: path for name, path in folders.items() if name not in names}


@dataclass
class Layout:
    """The folders of the classes in each split, and lines on what was left out or decided.

    `parts` is {split: {class: folders}}, `places` the folder of each split.
    """

    parts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def set_split(self, split: str, place: str, classes: dict[str, str]) -> None:
        """Use the class folders {name: path} in `place` for a split."""
        self.places[split] = place
        self.parts[split] = {name: [folder] for name, folder in classes.items()}

    def add_class(self, split: str, place: str, name: str, folder: str) -> None:
        """Use one folder for a class of a split."""
        self.parts.setdefault(split, {})[name] = [folder]
        self.places[split] = place

    def note_files(self, folder: str) -> None:
        """Note which files in a folder are not used because they lie beside the class folders."""
        if files := files_in(folder):
            self.notes.append(f"{folder}: {describe_files(files)} left out beside the folders")

    def note_folders(self, folder: str, names: Sequence[str]) -> None:
        """Note which folders in a folder are not used."""
        if names:
            self.notes.append(f"{folder}: {printable_names(names)} left out: no class")

    def note_split(self, root: str, name: str, folder: str, split: str) -> None:
        """Note that a folder with the name of a split is not used."""
        looks = f"a {split} set without class folders"
        if split == "rest":
            looks = "a split without labels"
        files = describe_files(files_below(folder))
        self.notes.append(f"{root}: {printable(name)} looks like {looks} and is left out: {files}")


@dataclass(frozen=True)
class Candidates:
    """The folders {name: path} in one folder, the `place`, and what is known of them.

    `split_names` are those with the names of splits. `class_names` are what the user calls classes;
    None if the user says nothing.
    """

    place: str
    folders: dict[str, str]
    split_names: dict[str, SplitName]
    class_names: Sequence[str] | None

    @property
    def others(self) -> dict[str, str]:
        """The folders without the name of a split."""
        return exclude(self.folders, self.split_names)

    @property
    def splits(self) -> list[str]:
        """The splits that the folders' names mean."""
        return [split_name.split for split_name in self.split_names.values()]

    def note_unused_split(self, name: str, layout: Layout) -> None:
        """Note that the folder `name`, which has the name of a split, is not used."""
        split = self.split_names[name].split
        layout.note_split(self.place, name, self.folders[name], split)
