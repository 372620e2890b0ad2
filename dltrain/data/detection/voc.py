"""Detection samples described by an xml file for each image, in the format of Pascal VOC."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from dltrain.data.dataset import counted
from dltrain.data.detection.annotated_files import (
    AnnotatedFiles,
    BadBoxes,
    problem_lines,
)
from dltrain.data.detection.box_checks import flag_of
from dltrain.data.detection.image_names import ImageIndex, base_name, is_image, stem_of
from dltrain.data.detection.samples import AnnotatedImage, AnnotatedSet, Box
from dltrain.data.images.listed.listing import files_in
from dltrain.data.io.places import existing_path
from dltrain.data.io.text_encoding import read_text
from dltrain.errors import InputError, first_names
from dltrain.types import PositiveInt
from dltrain.types.boxes import COUNTED, DIFFICULT, TRAINED

log = logging.getLogger("dltrain")
MAX_FILES_SHOWN = 10
EXPECTED = "dataset.path=DIR, with Annotations/*.xml and JPEGImages/ in it"
PARTS = ("train", "val", "test")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VOC(AnnotatedFiles):
    """Images in `path`/JPEGImages/ whose objects `path`/Annotations/*.xml describe.

    The format is that of Everingham et al. 2010, "The Pascal VOC Challenge". The splits are the
    lists `path`/ImageSets/Main/{train,val,test}.txt if they are there. An annotation's image is the
    one that its `filename` means, else the one of the annotation's own name; see `images_of`.
    Classes are those of `classes`, or else all that the files name, sorted. Corners count from 1,
    and the right and bottom ones belong to the box, as the challenge has it.

    Objects with <difficult>1</difficult> are never scored (section 4.2). With `difficult` "ignore"
    they are not trained on either, neither as objects nor as background; with "train" they are
    trained on as all others.
    """

    def __init__(
        self,
        root: Path,
        path: str | None = None,
        classes: tuple[str, ...] = (),
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 320,
        bad_boxes: BadBoxes = "refuse",
        difficult: Literal["ignore", "train"] = "ignore",
    ) -> None:
        super().__init__(image_size, bad_boxes)
        self.root = root
        self.path = path
        self.classes = classes
        self.difficult_flag = TRAINED if difficult == "train" else DIFFICULT

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
        check_repeated(self.classes)
        paths = annotations_in(folder / "Annotations")
        parts = stems_of_parts(folder, paths)
        used = dict.fromkeys(chain.from_iterable(parts.values()))
        annotations = {stem: Annotation(paths[stem], read_xml(paths[stem])) for stem in used}
        names = self.classes or class_names(annotations.values())
        if not names:
            raise InputError(f"{folder}: no annotation names an object")
        image_paths = images_of(folder, annotations)
        if len(used) == len(paths):
            report_unused(folder / "JPEGImages", image_paths)
        problems: list[str] = []
        images = self.annotated_images(annotations, image_paths, names, problems)
        images_of_parts = {part: [images[stem] for stem in stems] for part, stems in parts.items()}
        return AnnotatedSet(names, images_of_parts, problems)

    def annotated_images(
        self,
        annotations: Mapping[str, Annotation],
        paths: Mapping[str, Path],
        names: Sequence[str],
        problems: list[str],
    ) -> dict[str, AnnotatedImage]:
        """Return the image of each annotation, with boxes whose classes are numbers of `names`.

        What is wrong with objects that are left out is added to `problems`.
        """
        labels = {name: label for label, name in enumerate(names)}
        images: dict[str, AnnotatedImage] = {}
        for stem, annotation in annotations.items():
            boxes = annotation.boxes(labels, self.difficult_flag, problems)
            size = annotation.stated_size()
            images[stem] = AnnotatedImage(str(paths[stem]), boxes, stated_size=size)
        return images


def check_repeated(classes: Sequence[str]) -> None:
    """Raise InputError for a name that two classes have."""
    repeated = [name for name, count in Counter(classes).items() if count > 1]
    if repeated:
        raise InputError(f"dataset.classes names {', '.join(repeated)} more than once")


@dataclass
class Element:
    """An element of an xml file: its name, the line where it begins, its text and its children."""

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        """Return the elements `name` in this one."""
        return [child for child in self.children if child.name == name]

    def value(self, name: str) -> str:
        """Return the text of the first element `name` in this one; empty if there is none."""
        return next((child.text.strip() for child in self.all(name)), "")

    def line_of(self, name: str) -> int:
        """Return the line of the first element `name` in this one, or else this one's line."""
        return next((child.line for child in self.all(name)), self.line)


def read_xml(path: Path) -> Element:
    """Return the root element of an xml file; InputError, with the line, if it is broken."""
    stack = [Element("", 0)]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name: str, _: object) -> None:
        element = Element(name, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def text(characters: str) -> None:
        stack[-1].text += characters

    parser.StartElementHandler, parser.CharacterDataHandler = start, text
    parser.EndElementHandler = lambda name: stack.pop()
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from e
    except expat.ExpatError as e:
        raise InputError(f"{path}:{e.lineno}: this is no XML: {expat.ErrorString(e.code)}") from e
    return stack[0].children[0]


@dataclass(frozen=True)
class Annotation:
    """An annotation file: its path and the root element of its XML."""

    path: Path
    root: Element

    @property
    def filename(self) -> str:
        """The name that the annotation gives its image."""
        return self.root.value("filename")

    @property
    def filename_place(self) -> str:
        """The place of that name, as file:line."""
        return f"{self.path}:{self.root.line_of('filename')}"

    def named_image(self, images: ImageIndex, claims: Mapping[Path | None, int]) -> Path | None:
        """Return the image that its filename means; None if there is none, or if it was copied.

        `claims` is how many annotations mean each image. Raises InputError if another image has the
        annotation's own name.
        """
        named, own = images.find(self.filename), images.find(self.path.stem)
        if named is None or own is None or named == own:
            return named
        if claims[named] > 1:
            return None
        raise InputError(
            f"{self.filename_place}: its filename is {self.filename}, but {own.name} in JPEGImages "
            "has the annotation's own name; "
            "remove or rename one of the images, or correct the filename"
        )

    def own_image(self, images: ImageIndex) -> Path:
        """Return the image of the annotation's own name; InputError if there is none."""
        own = images.find(self.path.stem)
        if own is None:
            name = base_name(self.filename) or f"{self.path.stem}.jpg"
            raise InputError(f"{self.filename_place}: {images.problem(name)}")
        return own

    @property
    def objects(self) -> list[Element]:
        """The objects in the image."""
        return self.root.all("object")

    def stated_size(self) -> tuple[int, int] | None:
        """Return the width and height that it gives for its image; None if it does not."""
        sizes = self.root.all("size")
        if not sizes:
            return None
        try:
            width = int(float(sizes[0].value("width")))
            height = int(float(sizes[0].value("height")))
        except (ValueError, OverflowError):
            return None
        if min(width, height) <= 0:
            return None
        return width, height

    def boxes(
        self, labels: Mapping[str, int], difficult_flag: float, problems: list[str]
    ) -> list[Box]:
        """Return the boxes of its objects, with the class number of each name from `labels`.

        What is wrong with an object that cannot be read is added to `problems`.
        """
        boxes = []
        for element in self.objects:
            try:
                boxes.append(self.box(element, labels, difficult_flag))
            except ValueError as e:
                problems.append(str(e))
        return boxes

    def box(self, element: Element, labels: Mapping[str, int], difficult_flag: float) -> Box:
        """Return the box of an object; ValueError, with file and line, for what is not one."""
        place = f"{self.path}:{element.line}"
        name = element.value("name")
        if name not in labels:
            raise ValueError(f"{place}: there is no class {name!r}")
        bndbox = next(iter(element.all("bndbox")), Element("", 0))
        try:
            x1, y1, x2, y2 = (float(bndbox.value(corner)) for corner in CORNERS)
        except ValueError as e:
            expected = f"four numbers {', '.join(CORNERS)}"
            raise ValueError(f"{place}: it has no bndbox of {expected}") from e
        is_difficult = flag_of(element.value("difficult"))
        if is_difficult is None:
            raise ValueError(
                f"{self.path}:{element.line_of('difficult')}: "
                f"difficult is {element.value('difficult')!r}; expected 0 or 1"
            )
        flag = difficult_flag if is_difficult else COUNTED
        return Box((x1 - 1, y1 - 1, x2, y2), labels[name], place, flag)


def annotations_in(folder: Path) -> dict[str, Path]:
    """Return the xml files in a folder by their names without ending; InputError without it."""
    if not folder.is_dir():
        raise InputError(f"{folder.parent} has no folder Annotations; expected {EXPECTED}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".xml")
    inside = {path.stem: path for path in files if path.parent == folder}
    warn_of_files_below(folder, sorted(set(files) - set(inside.values())))
    return inside


def warn_of_files_below(folder: Path, files: Sequence[Path]) -> None:
    """Warn of files in folders below the one that is read."""
    if files:
        below = [path.relative_to(folder).as_posix() for path in files]
        names = first_names(below, MAX_FILES_SHOWN)
        log.warning(f"{folder}: files in folders below it are not read: {names}")


def stems_of_parts(folder: Path, paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return the names of the annotations of each split that there is, without their ending.

    If there is no list of training images, all annotations that no other list names are for
    training. Raises InputError if none is for training.
    """
    lists = {part: folder / "ImageSets" / "Main" / f"{part}.txt" for part in PARTS}
    parts = {part: stems_in_list(path, paths) for part, path in lists.items() if path.is_file()}
    if "train" not in parts:
        held = set(chain.from_iterable(parts.values()))
        parts["train"] = [stem for stem in paths if stem not in held]
    if not parts["train"]:
        raise InputError(f"{folder} has no annotations to train on; expected {EXPECTED}")
    return parts


def stems_in_list(path: Path, paths: Mapping[str, Path]) -> list[str]:
    """Return the names of annotations, without their ending, in a list with one in each line.

    Raises InputError, with the line, for an annotation that is not there.
    """
    stems = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name = base_name(line.split()[0])
        stem = name if name in paths else stem_of(name)
        if stem not in paths:
            raise InputError(f"{path}:{number}: there is no Annotations/{name}.xml")
        stems.append(stem)
    return stems


def class_names(annotations: Iterable[Annotation]) -> tuple[str, ...]:
    """Return the sorted names of all objects."""
    names = {o.value("name") for annotation in annotations for o in annotation.objects}
    return tuple(sorted(names - {""}))


def images_of(folder: Path, annotations: Mapping[str, Annotation]) -> dict[str, Path]:
    """Return the image of each annotation, by the annotation's name without its ending.

    It is the image that `filename` means. If it means none, or one that several annotations claim
    (the name was copied), it is the image of the annotation's own name, with a warning. Raises
    InputError, with file and line, if there is no image, or if the two names mean different images.
    """
    images = ImageIndex(folder / "JPEGImages")
    claims = Counter(images.find(annotation.filename) for annotation in annotations.values())
    paths: dict[str, Path] = {}
    by_own_name: list[str] = []
    for stem, annotation in annotations.items():
        path = annotation.named_image(images, claims)
        if path is None:
            path = annotation.own_image(images)
            if annotation.filename:
                by_own_name.append(f"{annotation.filename_place}: {annotation.filename}")
        paths[stem] = path
    warn_of_own_names(by_own_name)
    return paths


def warn_of_own_names(annotations: Sequence[str]) -> None:
    """Warn of annotations whose image is the one of their own name, not the one that they name."""
    if annotations:
        subject = counted(len(annotations), "annotation names", "annotations name")
        log.warning(
            f"{subject} an image that is not theirs or not there; "
            f"the image of the annotation's own name is read{problem_lines(annotations)}"
        )


def report_unused(folder: Path, images: Mapping[str, Path]) -> None:
    """Log how many images of a folder no annotation belongs to."""
    files = {Path(name) for name in files_in(str(folder))}
    unused = sorted(filter(is_image, files - set(images.values())))
    if unused:
        count = counted(len(unused), "image", "images")
        log.warning(
            f"{count} in {folder} without an annotation: not used, such as {unused[0].name}"
        )
