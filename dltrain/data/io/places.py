"""Files and folders that a setting names, here or in the data root."""

from __future__ import annotations

from pathlib import Path

from dltrain.errors import InputError


class AbsentDataError(InputError):
    """The file or folder that a setting of a data set names is not there."""

    @classmethod
    def at(cls, key: str, name: str, places: list[Path]) -> AbsentDataError:
        """Return the error for `key`=`name`, which was looked for in `places`."""
        looked_for = list(dict.fromkeys(str(place.absolute()) for place in places))
        where = f"{looked_for[0]} does not exist"
        for other in looked_for[1:]:
            where += f", nor does {other}"
        return cls(f"{key}={name}: {where}; {key}=PATH names the place of the data")


def existing_path(key: str, name: str, root: Path) -> Path:
    """Return the file or folder `name`, here or in the data root.

    Raises AbsentDataError, which says that `key` names another place, if there is neither.
    """
    places = [Path(name).expanduser(), Path(root) / name]
    for place in places:
        if place.exists():
            return place
    raise AbsentDataError.at(key, name, places)


def existing_paths(names: dict[str, str], root: Path) -> dict[str, Path]:
    """Return the file or folder of each split: those of dataset.path, val_path and test_path."""
    paths = {}
    for split, name in names.items():
        key = "dataset.path" if split == "train" else f"dataset.{split}_path"
        paths[split] = existing_path(key, name, root)
    return paths
