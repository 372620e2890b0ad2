"""Image files of a folder, found by the names that annotations give them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dltrain.data.folder import files_in
from dltrain.data.layout import IMAGE_ENDINGS as ENDINGS


class ImageFiles:
    """The files of `folder`, at any depth.

    Annotations name images in many ways: with backslashes, in another folder, without an ending, or
    with another ending or another case than the file has. `find` takes all of these, but only if
    exactly one file fits.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, list[Path]] = {}
        self.lower_names: dict[str, list[Path]] = {}
        self.lower_stems: dict[str, list[Path]] = {}
        for path in map(Path, files_in(str(folder))):
            self.names.setdefault(path.name, []).append(path)
            self.lower_names.setdefault(path.name.lower(), []).append(path)
            if is_image(path):
                self.lower_stems.setdefault(stem_of(path.name).lower(), []).append(path)

    def find(self, name: str) -> Path | None:
        """Return the file that `name` means; None if there is none, or if several fit equally well."""
        if not name:
            return None
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            if (path := self.folder / written).is_file():
                return path
        base = base_name(name)
        for found in (
            self.names.get(base),
            self.lower_names.get(base.lower()),
            self.lower_stems.get(base.lower()),
            self.lower_stems.get(stem_of(base).lower()),
        ):
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def find_first(self, names: Iterable[str]) -> Path | None:
        """Return the file of the first of `names` that means one."""
        return next((path for name in names if (path := self.find(name)) is not None), None)


def is_image(path: Path) -> bool:
    """Return whether a file has the ending of an image."""
    return path.name.lower().endswith(ENDINGS)


def base_name(name: str) -> str:
    """Return the last part of a path that is written with slashes or backslashes."""
    return PurePosixPath(name.replace("\\", "/")).name


def stem_of(name: str) -> str:
    """Return a file's name without its ending: 1.5 is a name without an ending, 1.5.jpg is one with
    an ending.
    """
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in ENDINGS or path.suffix[1:].isalpha() else name
