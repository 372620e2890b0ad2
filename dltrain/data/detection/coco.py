"""Detection samples described by a json file in COCO's format."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dltrain.data.detection.annotated_files import AnnotatedFiles, BadBoxes, existing_path
from dltrain.data.detection.box_checks import flag_of
from dltrain.data.detection.image_names import ImageFiles
from dltrain.data.detection.samples import AnnotatedImage, AnnotatedSet, Box
from dltrain.errors import InputError
from dltrain.types import PositiveInt
from dltrain.types.boxes import COUNTED, CROWD, DIFFICULT

EXPECTED = "dataset.images=DIR dataset.annotations=FILE.json"


class COCO(AnnotatedFiles):
    """Images of a folder and the json file that describes their objects, here or in the data root.

    The format is that of Lin et al. 2014, "Microsoft COCO". A split for validation or testing may
    have files of its own; its folder is by default that of training. Classes are the file's
    categories by rising id. Regions of a crowd (`iscrowd`) and annotations with `ignore` are not
    scored, and in training they are neither objects nor background.
    """

    def __init__(
        self,
        root: Path,
        images: str | None = None,
        annotations: str | None = None,
        val_images: str | None = None,
        val_annotations: str | None = None,
        test_images: str | None = None,
        test_annotations: str | None = None,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 320,
        bad_boxes: BadBoxes = "refuse",
    ) -> None:
        super().__init__(image_size, bad_boxes)
        self.root = root
        self.images = images
        self.annotations = {
            "train": (images, annotations),
            "val": (val_images or images, val_annotations),
            "test": (test_images or images, test_annotations),
        }

    @property
    def named(self) -> bool:
        """False if the folder or the file for training is not named."""
        images, annotations = self.annotations["train"]
        return bool(images and annotations)

    @property
    def how_to_name(self) -> tuple[str, str]:
        """The setting that names no files, and what to write instead."""
        return "dataset=coco", f"name the images to train on and their annotations: {EXPECTED}"

    def read_annotations(self) -> AnnotatedSet:
        """Return the images and boxes of every split.

        The classes are those of the training file; the other files' classes are matched by name.
        """
        names: tuple[str, ...] = ()
        parts: dict[str, list[AnnotatedImage]] = {}
        problems: list[str] = []
        for part, (folder, file) in self.annotations.items():
            if not file:
                continue
            description = Description(existing_path(self.root, file))
            names = names or tuple(dict.fromkeys(description.categories.values()))
            images = existing_path(self.root, str(folder))
            parts[part] = description.annotated_images(images, names, problems)
        return AnnotatedSet(names, parts, problems)


class Description:
    """The content of a file in COCO's format, a mapping with lists of images, annotations and
    categories.

    Raises InputError for any other content, and for ids or names that two images or categories
    have. An id may be a number or text; 7 and "7" are the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_json(path)
        try:
            self.images = unique(content["images"], path, "images")
            self.annotations: list[Any] = content["annotations"]
            categories = unique(content["categories"], path, "categories")
            named = {
                key: category["name"] for key, category in sorted(categories.items(), key=by_id)
            }
        except (KeyError, TypeError, AttributeError) as e:
            what = f": no {e}" if isinstance(e, KeyError) else ""
            raise InputError(
                f"{path} is not of COCO's format, a mapping with lists of images, annotations and categories{what}"
            ) from e
        if not isinstance(self.annotations, list):
            raise InputError(f"{path} is not of COCO's format: annotations is not a list")
        written = {key: as_written(name, f"{path}: category {key}") for key, name in named.items()}
        self.categories = self.without_unused_twins(written)

    def without_unused_twins(self, categories: dict[str, str]) -> dict[str, str]:
        """Return the categories; of those that have the same name only the one that annotations are
        of, if it is one.
        """
        twins = {name for name, count in Counter(categories.values()).items() if count > 1}
        if not twins:
            return categories
        used = {identifier(a.get("category_id")) for a in self.annotations if isinstance(a, dict)}
        kept = {key: name for key, name in categories.items() if name not in twins or key in used}
        for name in sorted(twins):
            keys = [key for key, other in kept.items() if other == name]
            if len(keys) > 1:
                raise InputError(
                    f"{self.path}: the categories with the ids {', '.join(keys)} are all called {name}"
                )
        return kept

    def annotated_images(
        self, folder: Path, names: tuple[str, ...], problems: list[str]
    ) -> list[AnnotatedImage]:
        """Return the images, which lie in `folder`, with their boxes, whose classes are numbers of
        `names`; add what is wrong with others to `problems`.
        """
        files = ImageFiles(folder)
        found: dict[str, AnnotatedImage] = {}
        first: dict[Path, str] = {}
        for key, image in self.images.items():
            written = str(image.get("file_name", ""))
            path = files.find(written)
            if path is None:
                raise InputError(f"{self.path}: image {key}: {files.problem(written)}")
            if path in first:
                raise InputError(
                    f"{self.path}: the images with the ids {first[path]} and {key} are both {path}"
                )
            first[path] = key
            found[key] = AnnotatedImage(str(path), stated_size=stated_size(image))
        labels = {name: label for label, name in enumerate(names)}
        for number, annotation in enumerate(self.annotations, 1):
            own = (
                annotation.get("id", f"number {number}") if isinstance(annotation, dict) else number
            )
            at = f"{self.path}: annotation {own}"
            box = self.box_of(annotation, labels, at, problems)
            if box is None:
                continue
            key = identifier(annotation["image_id"])
            if key not in found:
                raise InputError(
                    f"{at} is for image {annotation['image_id']}, which the file does not list"
                )
            found[key].boxes.append(box)
        return list(found.values())

    def box_of(
        self, annotation: Any, labels: dict[str, int], at: str, problems: list[str]
    ) -> Box | None:
        """Return the box of an annotation, by the class number of each name; None for one that
        cannot be read, which is added to `problems`.
        """
        try:
            x, y, width, height = (
                float(v) if v is not None else math.nan for v in annotation["bbox"]
            )
            category = identifier(annotation["category_id"])
            _ = annotation["image_id"]
            flags = [flag_of(annotation.get(name, "")) for name in ("iscrowd", "ignore")]
        except (AttributeError, KeyError, TypeError, ValueError):
            problems.append(
                f"{at}: expected image_id, category_id and bbox, which is [x, y, width, height] in numbers"
            )
            return None
        name = self.categories.get(category)
        if name not in labels:
            known = f" ({name}) in the training file" if name is not None else ""
            problems.append(f"{at}: there is no category {annotation['category_id']}{known}")
            return None
        if None in flags:
            problems.append(f"{at}: expected iscrowd and ignore to be 0 or 1")
            return None
        flag = CROWD if flags[0] else DIFFICULT if flags[1] else COUNTED
        return Box((x, y, x + width, y + height), labels[name], at, flag)


def unique(entries: Any, path: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return a list of entries by their ids; InputError for an id that two have."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        key = identifier(entry["id"])
        if key in found:
            raise InputError(f"{path}: two {kind} have the id {key}")
        found[key] = entry
    return found


def identifier(value: Any) -> str:
    """Return an id as text: 7, 7.0 and "7" are the same."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def by_id(entry: tuple[str, Any]) -> tuple[bool, int, str]:
    """Return what to sort ids by: numbers by their value, before texts."""
    try:
        return False, int(entry[0]), ""
    except ValueError:
        return True, 0, entry[0]


def as_written(name: Any, at: str) -> str:
    """Return a name as the json file has it: `true`, not Python's True. InputError for what is no
    name.
    """
    if isinstance(name, str) and name.strip():
        return name.strip()
    if name is None or isinstance(name, str | list | dict):
        raise InputError(f"{at}: expected a name, got {json.dumps(name)[:60]}")
    return json.dumps(name)


def stated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the width and height that the file states for an image; None if it states none."""
    try:
        width, height = int(image.get("width", 0)), int(image.get("height", 0))
    except (TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise InputError(f"{path}:{e.lineno}: this is no JSON: {e.msg}") from e
    except (UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"{path} is no JSON: {e}") from e
