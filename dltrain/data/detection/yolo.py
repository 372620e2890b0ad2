"""Detection samples described by a text file for each image, in the format of YOLO's programs."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from dltrain.data.dataset import counted
from dltrain.data.detection.annotated_files import AnnotatedFiles, BadBoxes
from dltrain.data.detection.image_names import is_image
from dltrain.data.detection.samples import AnnotatedImage, AnnotatedSet, Box, Corners
from dltrain.data.detection.yolo_names import ClassNames, class_names
from dltrain.data.images.listed.listing import files_in
from dltrain.data.io.layout.describe import printable_names
from dltrain.data.io.layout.folders import folders_in
from dltrain.data.io.places import existing_path
from dltrain.data.io.text_encoding import read_text
from dltrain.errors import InputError
from dltrain.types import PositiveInt

log = logging.getLogger("dltrain")
EXPECTED = "dataset.path=DIR, with images/train/ and labels/train/ in it, and perhaps val and test"
PARTS = ("train", "val", "test")
LABEL_ENDING = ".txt"
BOX_NUMBERS = 4  # of a line after the class number
MIN_POLYGON_NUMBERS = 6  # three corners
MAX_NUMBERED_CLASSES = 10_000  # if no names say how many there are
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
LINE = (
    "a class number, center x, center y, width and height, "
    "or a class number and the corners of a polygon"
)


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
        folder = existing_path("dataset.path", str(self.path), self.root)
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
        if not any(image.labeled for image in parts["train"]):
            train = folders[chosen["train"]]
            raise InputError(
                f"no image in {train.images} has a label file in {train.labels}; "
                f"expected {EXPECTED} (an empty .txt file for an image without objects)"
            )
        return AnnotatedSet(names.names or numbered_names(parts, names), parts, problems)


@dataclass(frozen=True)
class SplitFolders:
    """The folders with the images and the label files of a split."""

    images: Path
    labels: Path


def part_folders(folder: Path) -> dict[str, SplitFolders]:
    """Return the folders of images and labels by their names.

    They are images/NAME and labels/NAME, or NAME/images and NAME/labels. Without folders in images,
    all of it is for training.
    """
    images, labels = folder / "images", folder / "labels"
    if images.is_dir():
        parts = {name: SplitFolders(images / name, labels / name) for name in folders_in(images)}
        return parts or {"train": SplitFolders(images, labels)}
    return inner_part_folders(folder)


def inner_part_folders(folder: Path) -> dict[str, SplitFolders]:
    """Return the folders NAME/images and NAME/labels by their names; InputError without any."""
    parts = {}
    for name, path in folders_in(folder).items():
        part = SplitFolders(Path(path, "images"), Path(path, "labels"))
        if part.images.is_dir():
            parts[name] = part
    if not parts:
        raise InputError(f"{folder} has no folder images; expected {EXPECTED}")
    return parts


def names_of_parts(
    folder: Path, names: Collection[str], chosen: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the name of the folder of each split that there is."""
    by_part = {part: name_of_part(folder, part, names, chosen[part]) for part in PARTS}
    return {part: name for part, name in by_part.items() if name}


def name_of_part(folder: Path, part: str, names: Collection[str], chosen: str | None) -> str:
    """Return the name of the folder of a split; empty if there is none.

    It is the `chosen` one, or the only one of the `names` that begins with the split's name.
    """
    if chosen is not None:
        if chosen not in names:
            raise InputError(f"dataset.{part}={chosen}: {folder} has {', '.join(names)}")
        return chosen
    fitting = [name for name in names if name.lower().startswith(part)]
    if len(fitting) > 1:
        raise InputError(
            f"{folder}: several folders may be {part}, {', '.join(fitting)}; "
            f"choose one, as dataset.{part}={fitting[0]}"
        )
    return "".join(fitting)


def report_unused(folder: Path, parts: Mapping[str, SplitFolders], used: Collection[str]) -> None:
    """Log which folders, and which images beside them, belong to no split."""
    unused = [name for name in parts if name not in used]
    images = folder / "images"
    if images not in {part.images for part in parts.values()}:
        unused += images_beside_folders(images)
    if unused:
        names = printable_names(unused)
        log.warning(f"{folder}: not read, because they belong to no split: {names}")


def images_beside_folders(folder: Path) -> list[str]:
    """Return the names of the images that lie in a folder itself, if it is there."""
    if not folder.is_dir():
        return []
    return [path.name for path in sorted(folder.iterdir()) if path.is_file() and is_image(path)]


def numbered_names(
    parts: Mapping[str, Sequence[AnnotatedImage]], names: ClassNames
) -> tuple[str, ...]:
    """Return numbers as names of classes that have none.

    There are as many as a file says, else as the labels of boxes need.
    """
    if names.count:
        return tuple(map(str, range(names.count)))
    images = chain.from_iterable(parts.values())
    boxes = list(chain.from_iterable(image.boxes for image in images))
    if not boxes:
        return ("0",)
    last = max(boxes, key=lambda box: box.label)
    if last.label >= MAX_NUMBERED_CLASSES:
        raise InputError(
            f"{last.place}: class {last.label}, "
            "and neither a .yaml file nor classes.txt names the classes"
        )
    return tuple(map(str, range(max(0, last.label) + 1)))


def images_of_part(
    folder: Path, part: SplitFolders, names: ClassNames, problems: list[str]
) -> list[AnnotatedImage]:
    """Return the images of a split of the set in `folder`, with their boxes.

    What is wrong with lines that are not boxes is added to `problems`.
    """
    files = [Path(path) for path in files_in(str(part.images))]
    paths = [path for path in files if is_image(path)]
    stems = [stem_in(path, part.images) for path in paths]  # a.jpg and a.png may have the same
    label_paths = label_files(folder, part, set(stems))
    images = []
    for stem, path in zip(stems, paths, strict=True):
        if stem in label_paths:
            boxes = boxes_of(label_paths[stem], names, problems)
            images.append(AnnotatedImage(str(path), boxes, relative=True))
        else:
            images.append(AnnotatedImage(str(path), relative=True, labeled=False))
    log_unlabeled(images, part)
    return images


def log_unlabeled(images: Sequence[AnnotatedImage], part: SplitFolders) -> None:
    """Log how many images have no label file."""
    count = sum(not image.labeled for image in images)
    if count:
        have = "has" if count == 1 else "have"
        log.info(
            f"{count:,} of {len(images):,} images in {part.images} {have} no label file, "
            "so no objects"
        )


def stem_in(path: Path, folder: Path) -> str:
    """Return a file's path within a folder, without its ending."""
    return path.relative_to(folder).with_suffix("").as_posix()


def label_files(folder: Path, part: SplitFolders, stems: set[str]) -> dict[str, Path]:
    """Return the label file of each image of a split, by the image's path without its ending.

    A file whose name differs in case alone is taken if it is the only one. Files without an image
    are named in a warning.
    """
    by_stem: dict[str, Path] = {}
    others: list[Path] = []
    for path in filter(is_label_file, sorted(part.labels.rglob("*"))):
        stem = stem_in(path, part.labels)
        if stem in stems and stem not in by_stem:
            by_stem[stem] = path
        else:
            others.append(path)
    lower_stems = {stem.lower(): stem for stem in sorted(stems - by_stem.keys())}
    unused: list[str] = []
    for path in others:
        stem = lower_stems.pop(stem_in(path, part.labels).lower(), "")
        if stem:
            by_stem[stem] = path
        else:
            unused.append(path.relative_to(folder).as_posix())
    warn_of_unused_labels(unused)
    return by_stem


def warn_of_unused_labels(names: Sequence[str]) -> None:
    """Warn of label files without an image."""
    if names:
        count = counted(len(names), "label file has", "label files have")
        log.warning(f"{count} no image: {printable_names(names)}")


def is_label_file(path: Path) -> bool:
    """Return whether a path has the name of a label file."""
    return path.suffix.lower() == LABEL_ENDING and path.name != "classes.txt"


def boxes_of(path: Path, names: ClassNames, problems: list[str]) -> list[Box]:
    """Return the boxes of a label file, one for each line that is not empty.

    What is wrong with lines that are not boxes is added to `problems`.
    """
    boxes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = words_of(line)
        if not words:
            continue
        place = f"{path}:{number}"
        try:
            boxes.append(box_in_words(words, names.keypoints, place))
        except (ValueError, OverflowError):
            problems.append(f"{place}: expected {LINE}, got {line[:60]!r}")
    return boxes


def box_in_words(words: Sequence[str], keypoints: int, place: str) -> Box:
    """Return the box in the fields of a line; ValueError for fields that are not one.

    The last `keypoints` numbers after those of a box are left out.
    """
    values = [float(word) for word in words[1:]]
    if keypoints and len(values) == BOX_NUMBERS + keypoints:
        values = values[:BOX_NUMBERS]
    return Box(corners_of(values), class_number(words[0]), place)


def words_of(line: str) -> list[str]:
    """Return the fields of a line, which spaces, tabs, commas or semicolons separate.

    With a decimal comma in a field (0,5) the comma becomes a point.
    """
    words = [word.strip(",") for word in line.replace(";", " ").split()]
    words = list(filter(None, words))
    if len(words) > BOX_NUMBERS and all(map(is_number, words)):
        return [word.replace(",", ".") for word in words]
    return " ".join(words).replace(",", " ").split()


def is_number(word: str) -> bool:
    """Return whether a word has no comma but a decimal one."""
    return "," not in word or DECIMAL_COMMA.fullmatch(word) is not None


def class_number(word: str) -> int:
    """Return a class number, also of 1.0 or 1.000e+00; ValueError if it is not a whole number."""
    value = float(word)
    if value != round(value):
        raise ValueError(word)
    return int(value)


def corners_of(values: Sequence[float]) -> Corners:
    """Return the corners of a box by its center, width and height, or of a polygon x, y, x, y, ...

    Raises ValueError for another number of values.
    """
    if len(values) == BOX_NUMBERS:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < MIN_POLYGON_NUMBERS or len(values) % 2:
        raise ValueError(len(values))
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)
