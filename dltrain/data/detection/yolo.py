"""Detection samples described by a text file for each image, in the format of YOLO's programs."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dltrain.data.detection.annotated_files import AnnotatedFiles, BadBoxes, existing_path
from dltrain.data.detection.samples import AnnotatedImage, AnnotatedSet, Box
from dltrain.data.detection.yolo_names import ClassNames, class_names
from dltrain.data.images.folder import files_in
from dltrain.data.io.layout.describe import printable_names as some
from dltrain.data.io.layout.folders import IMAGE_ENDINGS as ENDINGS
from dltrain.data.io.layout.folders import folders_in
from dltrain.data.io.plain_text import read_text
from dltrain.errors import InputError
from dltrain.types import PositiveInt

log = logging.getLogger("dltrain")
EXPECTED = "dataset.path=DIR, with images/train/ and labels/train/ in it, and perhaps val and test"
PARTS = ("train", "val", "test")
LABELS = ".txt"
BOX_NUMBERS = 4  # of a line after the class number
POLYGON_NUMBERS = 6  # at least: three corners
MAX_NUMBERED_CLASSES = 10_000  # where no names say how many there are
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
LINE = "a class number, center x, center y, width and height, or a class number and the corners of a polygon"


class YOLO(AnnotatedFiles):
    """Images in `path`/images/<part>/ with a text file for each of them in `path`/labels/<part>/.

    The text file has the image's name and a line for each object: class number, and center x,
    center y, width and height as fractions of the image, or the corners of a polygon around the
    object. An image without a text file has no object. Also `path`/<part>/images/ and
    `path`/<part>/labels/ are read.

    The splits are the folders whose names begin with train, val and test, or that `train`, `val`
    and `test` name (the same for two is allowed: to test on the training images). Class names are
    those of a .yaml file in `path` (`names`) or of classes.txt, else numbers.
    """

    def __init__(
        self,
        root: Path,
        path: str | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 320,
        bad_boxes: BadBoxes = "refuse",
    ) -> None:
        super().__init__(image_size, bad_boxes)
        self.root = root
        self.path = path
        self.chosen_folders = {"train": train, "val": val, "test": test}

    @property
    def named(self) -> bool:
        """False if no folder is named."""
        return bool(self.path)

    @property
    def how_to_name(self) -> tuple[str, str]:
        """The setting that names no files, and what to write instead."""
        return "dataset.path=null", f"name the images to train on: {EXPECTED}"

    def read_annotations(self) -> AnnotatedSet:
        """Return the images and boxes of every split; InputError for a broken or missing file."""
        folder = existing_path(self.root, str(self.path))
        folders = part_folders(folder)
        chosen = names_of_parts(folder, folders, self.chosen_folders)
        names = class_names(folder)
        problems: list[str] = []
        images: dict[str, list[AnnotatedImage]] = {}
        for name in dict.fromkeys(chosen.values()):
            images[name] = images_of_part(folder, folders[name], names, problems)
        parts = {part: images[name] for part, name in chosen.items()}
        report_unused(folder, folders, images)
        if not parts.get("train"):
            raise InputError(f"{folder} has no images to train on; expected {EXPECTED}")
        if not any(image.labelled for image in parts["train"]):
            train = folders[chosen["train"]]
            raise InputError(
                f"no image in {train.images} has a label file in {train.labels}; "
                f"expected {EXPECTED} (an empty .txt file for an image without objects)"
            )
        return AnnotatedSet(names.names or numbered_names(parts, names), parts, problems)


@dataclass(frozen=True)
class Part:
    """The folders with the images and the label files of a part."""

    images: Path
    labels: Path


def part_folders(folder: Path) -> dict[str, Part]:
    """Return the folders of images and labels by their names: images/NAME and labels/NAME, or
    NAME/images and NAME/labels; without folders in images, it is all for training.
    """
    images, labels = folder / "images", folder / "labels"
    if images.is_dir():
        names = folders_in(images)
        return {name: Part(images / name, labels / name) for name in names} or {
            "train": Part(images, labels)
        }
    found = {
        name: Part(Path(path, "images"), Path(path, "labels"))
        for name, path in folders_in(folder).items()
    }
    found = {name: part for name, part in found.items() if part.images.is_dir()}
    if not found:
        raise InputError(f"{folder} has no folder images; expected {EXPECTED}")
    return found


def names_of_parts(
    folder: Path, there: Collection[str], chosen: dict[str, str | None]
) -> dict[str, str]:
    """Return the name of the folder of each part that there is."""
    names: dict[str, str] = {}
    for part in PARTS:
        wanted = chosen[part]
        if wanted is not None and wanted not in there:
            raise InputError(f"dataset.{part}={wanted}: {folder} has {', '.join(there)}")
        found = [wanted] if wanted is not None else [n for n in there if n.lower().startswith(part)]
        if len(found) > 1:
            raise InputError(
                f"{folder}: several folders may be {part}, {', '.join(found)}; choose one, as dataset.{part}={found[0]}"
            )
        if found:
            names[part] = found[0]
    return names


def report_unused(folder: Path, there: Mapping[str, Part], read: Collection[str]) -> None:
    """Log which folders, and which images beside them, are of no part."""
    unused = [name for name in there if name not in read]
    images = folder / "images"
    if images.is_dir() and images not in {part.images for part in there.values()}:
        files = sorted(path for path in images.iterdir() if path.is_file())
        unused += [path.name for path in files if path.name.lower().endswith(ENDINGS)]
    if unused:
        log.warning(f"{folder}: not read, because they belong to no split: {some(unused)}")


def numbered_names(parts: dict[str, list[AnnotatedImage]], named: ClassNames) -> tuple[str, ...]:
    """Return numbers as names of classes that have none: as many as a file says, else as the boxes
    are of.
    """
    if named.count:
        return tuple(map(str, range(named.count)))
    boxes = (box for part in parts.values() for image in part for box in image.boxes)
    last = max(boxes, key=lambda box: box.label, default=None)
    most = last.label if last is not None else 0
    if last is not None and most >= MAX_NUMBERED_CLASSES:
        raise InputError(
            f"{last.place}: class {most}, and neither a .yaml file nor classes.txt names the classes"
        )
    return tuple(map(str, range(max(0, most) + 1)))


def images_of_part(
    folder: Path, part: Part, named: ClassNames, problems: list[str]
) -> list[AnnotatedImage]:
    """Return the images of a part of the set in `folder`, with their boxes."""
    images = [Path(path) for path in files_in(str(part.images)) if path.lower().endswith(ENDINGS)]
    stems = [path.relative_to(part.images).with_suffix("").as_posix() for path in images]
    labels = label_files(folder, part, set(stems))
    found = []
    for image, stem in zip(images, stems, strict=True):
        boxes = boxes_of(labels[stem], named, problems) if stem in labels else []
        found.append(AnnotatedImage(str(image), boxes, relative=True, labelled=stem in labels))
    if without := [image for image in found if not image.labelled]:
        have = "have" if len(without) > 1 else "has"
        log.info(
            f"{len(without):,} of {len(found):,} images in {part.images} {have} no label file, so no objects"
        )
    return found


def label_files(folder: Path, part: Part, stems: set[str]) -> dict[str, Path]:
    """Return the label file of each image of a part, by the image's name without its ending; warn
    of files without an image.

    A file whose name differs in case alone is taken, if it is the only one.
    """
    files = sorted(path for path in part.labels.rglob("*") if path.suffix.lower() == LABELS)
    files = [path for path in files if path.name != "classes.txt"]
    found: dict[str, Path] = {}
    left: list[Path] = []
    for path in files:
        stem = path.relative_to(part.labels).with_suffix("").as_posix()
        if stem in stems and stem not in found:
            found[stem] = path
        else:
            left.append(path)
    without = {stem.lower(): stem for stem in sorted(stems - found.keys())}
    unused: list[str] = []
    for path in left:
        stem = without.pop(path.relative_to(part.labels).with_suffix("").as_posix().lower(), "")
        if stem:
            found[stem] = path
        else:
            unused.append(path.relative_to(folder).as_posix())
    if unused:
        count = f"{len(unused):,} label file{'s have' if len(unused) > 1 else ' has'} no image"
        log.warning(f"{count}: {some(unused)}")
    return found


def boxes_of(path: Path, named: ClassNames, problems: list[str]) -> list[Box]:
    """Return the boxes of a label file, one for each line; add lines that are not boxes to
    `problems`.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not (words := words_of(line)):
            continue
        at = f"{path}:{number}"
        try:
            values = [float(word) for word in words[1:]]
            if named.keypoints and len(values) == BOX_NUMBERS + named.keypoints:
                values = values[:BOX_NUMBERS]
            found.append(Box(corners_of(values), class_number(words[0]), at))
        except (ValueError, OverflowError):
            problems.append(f"{at}: expected {LINE}, got {line[:60]!r}")
    return found


def words_of(line: str) -> list[str]:
    """Return the fields of a line, which spaces, tabs, commas or semicolons separate. With a
    decimal comma in a field (0,5) it is a point.
    """
    if "," not in line and ";" not in line:
        return line.split()
    words = [word.strip(",") for word in re.split(r"[;\s]+", line)]
    words = [word for word in words if word]
    commas = [word for word in words if "," in word]
    if len(words) > BOX_NUMBERS and all(DECIMAL_COMMA.fullmatch(word) for word in commas):
        return [word.replace(",", ".") for word in words]
    return [part for word in words for part in word.split(",") if part]


def class_number(word: str) -> int:
    """Return a class number, also of 1.0 or 1.000e+00. ValueError for what is not a whole number."""
    value = float(word)
    if value != round(value):
        raise ValueError(word)
    return int(value)


def corners_of(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the corners of a box: of its center, width and height, or of a polygon's x, y, x, y,
    ...

    ValueError for another number of values.
    """
    if len(values) == BOX_NUMBERS:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < POLYGON_NUMBERS or len(values) % 2:
        raise ValueError(len(values))
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)
