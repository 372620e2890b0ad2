"""Lists the folders and files in a folder; hidden ones never appear."""

from __future__ import annotations

import os
from pathlib import Path

from dltrain.errors import InputError

HIDDEN_PREFIXES = (".", "__MACOSX", "__pycache__", "@eaDir")
# The formats that dltrain.data.images.decode reads.
IMAGE_ENDINGS = (
    *(".apng", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)


def folders_in(folder: Path | str) -> dict[str, str]:
    """Return {name: path} of the folders in `folder`, sorted by name.

    Raises InputError if the folder cannot be opened.
    """
    try:
        with os.scandir(folder) as entries:
            paths = {entry.name: entry.path for entry in entries if is_visible_folder(entry)}
    except OSError as e:
        raise InputError(f"{folder} cannot be opened: {e.strerror}") from e
    return dict(sorted(paths.items()))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_visible_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder that is not hidden."""
    return not is_hidden(entry.name) and is_folder(entry)


def is_hidden(name: str) -> bool:
    """Return whether a name is hidden, or one that macOS and NAS systems put beside files."""
    return name.startswith(HIDDEN_PREFIXES)


def is_nested(folder: str) -> bool:
    """Return whether a folder has folders in it; one that is named like an image does not count."""
    return any(not name.lower().endswith(IMAGE_ENDINGS) for name in folders_in(folder))


def is_container(folder: str) -> bool:
    """Return whether a folder has folders in it and no images beside them."""
    return is_nested(folder) and not has_images(folder)


def has_images(folder: str) -> bool:
    """Return whether a folder has image files in it."""
    return any(name.lower().endswith(IMAGE_ENDINGS) for name in files_in(folder))


def files_in(folder: str) -> list[str]:
    """Return the sorted names of the files in a folder; none if it cannot be opened."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not is_hidden(e.name) and not is_folder(e))
    except OSError:
        return []


def files_below(folder: str) -> list[str]:
    """Return the names of all files at any depth below a folder."""
    return [path.name for path in paths_below(folder)]


def paths_below(folder: Path | str) -> list[Path]:
    """Return the sorted paths of all files at any depth below a folder."""
    paths: list[Path] = []
    for place, folder_names, file_names in os.walk(folder):
        folder_names[:] = [name for name in folder_names if not is_hidden(name)]
        paths += [Path(place, name) for name in file_names if not is_hidden(name)]
    return sorted(paths)
