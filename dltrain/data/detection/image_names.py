"""Image files of a folder, found by the names that annotations give them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dltrain.data.images.listed.listing import files_in
from dltrain.data.io.layout.folders import IMAGE_ENDINGS as ENDINGS

MAX_FILES_SHOWN = 5


class ImageIndex:
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
        """Return the file that `name` means; None if no file fits, or several fit equally well."""
        paths = self.fitting(name)
        return paths[0] if len(paths) == 1 else None

    def fitting(self, name: str) -> list[Path]:
        """Return the files that fit a name best: one that has it, or those that almost have it."""
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            if written and (path := self.folder / written).is_file():
                return [path]
        base = base_name(name)
        best_first = (
            self.names.get(base),
            self.lower_names.get(base.lower()),
            self.lower_stems.get(base.lower()),
            self.lower_stems.get(stem_of(base).lower()),
        )
        for paths in best_first:
            if paths:
                return paths
        return []

    def problem(self, name: str) -> str:
        """Return why `find` does not find a name."""
        fitting = [str(path) for path in self.fitting(name)]
        if fitting:
            return f"its image may be any of {', '.join(fitting[:MAX_FILES_SHOWN])}"
        return f"its image is not there: {self.folder / name}"


def is_image(path: Path) -> bool:
    """Return whether a file has the ending of an image."""
    return path.name.lower().endswith(ENDINGS)


def base_name(name: str) -> str:
    """Return the last part of a path that is written with slashes or backslashes."""
    return PurePosixPath(name.replace("\\", "/")).name


def stem_of(name: str) -> str:
    """Return a file's name without its ending; 1.5 has no ending, 1.5.jpg has one."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in ENDINGS or path.suffix[1:].isalpha() else name
