"""Detection samples described by a json file in COCO's format."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dltrain.data.detection.annotated_files import AnnotatedFiles, BadBoxes
from dltrain.data.detection.box_checks import flag_of
from dltrain.data.detection.image_names import ImageIndex
from dltrain.data.detection.samples import AnnotatedImage, AnnotatedSet, Box
from dltrain.data.io.places import existing_path
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
            prefix = "" if part == "train" else f"{part}_"
            key = f"dataset.{prefix}annotations"
            description = Description(existing_path(key, file, self.root))
            names = names or tuple(dict.fromkeys(description.categories.values()))
            images = existing_path(f"dataset.{prefix}images", str(folder), self.root)
            parts[part] = description.annotated_images(images, names, problems)
        return AnnotatedSet(names, parts, problems)


class Description:
    """The content of a file in COCO's format, a mapping with images, annotations and categories.

    Raises InputError for any other content, and for ids or names that two images or categories
    have. An id may be a number or text; 7 and "7" are the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_json(path)
        expected = "a mapping with lists of images, annotations and categories"
        try:
            self.images = unique(content["images"], path, "images")
            self.annotations: list[Any] = content["annotations"]
            categories = unique(content["categories"], path, "categories")
            names = {key: categories[key]["name"] for key in sorted(categories, key=id_order)}
        except KeyError as e:
            raise InputError(f"{path} is not of COCO's format, {expected}: no {e}") from e
        except (TypeError, AttributeError) as e:
            raise InputError(f"{path} is not of COCO's format, {expected}") from e
        if not isinstance(self.annotations, list):
            raise InputError(f"{path} is not of COCO's format: annotations is not a list")
        written = {key: as_written(name, f"{path}: category {key}") for key, name in names.items()}
        self.categories = self.without_unused_twins(written)

    def without_unused_twins(self, categories: dict[str, str]) -> dict[str, str]:
        """Return the categories without unused ones that share their name with another.

        Raises InputError if several of the same name have annotations.
        """
        counts = Counter(categories.values())
        used = self.used_categories()
        kept = {key: name for key, name in categories.items() if counts[name] == 1 or key in used}
        self.check_names(kept)
        return kept

    def check_names(self, categories: dict[str, str]) -> None:
        """Raise InputError for a name that several categories have."""
        keys: dict[str, list[str]] = {}
        for key, name in categories.items():
            keys.setdefault(name, []).append(key)
        for name, same in sorted(keys.items()):
            if len(same) > 1:
                raise InputError(
                    f"{self.path}: the categories with the ids {', '.join(same)} "
                    f"are all called {name}"
                )

    def used_categories(self) -> set[str]:
        """Return the ids of the categories that annotations have."""
        annotations = [one for one in self.annotations if isinstance(one, dict)]
        return {identifier(annotation.get("category_id")) for annotation in annotations}

    def annotated_images(
        self, folder: Path, names: tuple[str, ...], problems: list[str]
    ) -> list[AnnotatedImage]:
        """Return the images in `folder`, with boxes whose classes are numbers of `names`.

        What is wrong with annotations that are left out is added to `problems`.
        """
        images = self.images_in(folder)
        labels = {name: label for label, name in enumerate(names)}
        for number, annotation in enumerate(self.annotations, 1):
            place = f"{self.path}: annotation {annotation_name(annotation, number)}"
            try:
                box = self.box(annotation, labels, place)
            except ValueError as e:
                problems.append(str(e))
                continue
            key = identifier(annotation["image_id"])
            if key not in images:
                raise InputError(
                    f"{place} is for image {annotation['image_id']}, which the file does not list"
                )
            images[key].boxes.append(box)
        return list(images.values())

    def images_in(self, folder: Path) -> dict[str, AnnotatedImage]:
        """Return the images by their ids, without boxes; InputError for one absent or repeated."""
        files = ImageIndex(folder)
        images: dict[str, AnnotatedImage] = {}
        ids: dict[Path, str] = {}
        for key, image in self.images.items():
            name = str(image.get("file_name", ""))
            path = files.find(name)
            if path is None:
                raise InputError(f"{self.path}: image {key}: {files.problem(name)}")
            if path in ids:
                raise InputError(
                    f"{self.path}: the images with the ids {ids[path]} and {key} are both {path}"
                )
            ids[path] = key
            images[key] = AnnotatedImage(str(path), stated_size=stated_size(image))
        return images

    def box(self, annotation: Any, labels: Mapping[str, int], place: str) -> Box:
        """Return the box of an annotation, with the class number of each name from `labels`.

        Raises ValueError, with the `place`, for an annotation that cannot be read.
        """
        try:
            x, y, width, height = map(number_or_nan, annotation["bbox"])
            category = identifier(annotation["category_id"])
            _ = annotation["image_id"]
            is_crowd = flag_of(annotation.get("iscrowd", ""))
            is_ignored = flag_of(annotation.get("ignore", ""))
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise ValueError(
                f"{place}: expected image_id, category_id and bbox, "
                "which is [x, y, width, height] in numbers"
            ) from e
        name = self.categories.get(category)
        if name is None:
            raise ValueError(f"{place}: there is no category {annotation['category_id']}")
        if name not in labels:
            raise ValueError(
                f"{place}: there is no category {annotation['category_id']} ({name}) "
                "in the training file"
            )
        if is_crowd is None or is_ignored is None:
            raise ValueError(f"{place}: expected iscrowd and ignore to be 0 or 1")
        flag = COUNTED
        if is_crowd:
            flag = CROWD
        elif is_ignored:
            flag = DIFFICULT
        return Box((x, y, x + width, y + height), labels[name], place, flag)


def annotation_name(annotation: Any, number: int) -> Any:
    """Return the id of an annotation, or else its number in the file."""
    if not isinstance(annotation, dict):
        return number
    return annotation.get("id", f"number {number}")


def number_or_nan(value: Any) -> float:
    """Return a number of a bbox; null is not a number, which is refused later with the corners."""
    return math.nan if value is None else float(value)


def unique(entries: Any, path: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return a list of entries by their ids; InputError for an id that two have."""
    by_id: dict[str, dict[str, Any]] = {}
    for entry in entries:
        key = identifier(entry["id"])
        if key in by_id:
            raise InputError(f"{path}: two {kind} have the id {key}")
        by_id[key] = entry
    return by_id


def identifier(value: Any) -> str:
    """Return an id as text: 7, 7.0 and "7" are the same."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def id_order(key: str) -> tuple[bool, int, str]:
    """Return the place of an id in the order: numbers by their value, then texts."""
    try:
        return False, int(key), ""
    except ValueError:
        return True, 0, key


def as_written(name: Any, place: str) -> str:
    """Return a name as the json file has it: `true`, not Python's True.

    Raises InputError for what is not a name.
    """
    if isinstance(name, str) and name.strip():
        return name.strip()
    if name is None or isinstance(name, str | list | dict):
        raise InputError(f"{place}: expected a name, got {json.dumps(name)[:60]}")
    return json.dumps(name)


def stated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the width and height that the file states for an image; None if it states none."""
    try:
        width, height = int(image.get("width", 0)), int(image.get("height", 0))
    except (TypeError, ValueError, OverflowError):
        return None
    if min(width, height) <= 0:
        return None
    return width, height


def read_json(path: Path) -> Any:
    """Return the content of a json file; InputError, with the line, if it is broken."""
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise InputError(f"{path}:{e.lineno}: this is no JSON: {e.msg}") from e
    except (UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"{path} is no JSON: {e}") from e
