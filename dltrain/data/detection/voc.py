"""Detection samples described by an xml file for each image, in the format of Pascal VOC."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from dltrain.data.detection.dataset import Detection
from dltrain.data.detection.image_names import ImageFiles, base_name, is_image, stem_of
from dltrain.data.detection.samples import (
    BadBoxes,
    Box,
    Listing,
    Scene,
    SceneFiles,
    flag_of,
    listed,
    place,
)
from dltrain.data.images.folder import files_in
from dltrain.data.io.plain_text import read_text
from dltrain.errors import InputError, first_names
from dltrain.types import BatchSize, Fraction, PositiveInt, Probability, Transform
from dltrain.types.boxes import COUNTED, DIFFICULT, TRAINED

log = logging.getLogger("dltrain")
MAX_NAMED = 10  # files that a message names
EXPECTED = "dataset.path=DIR, with Annotations/*.xml and JPEGImages/ in it"
PARTS = ("train", "val", "test")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VOC(Detection):
    """Images in `path`/JPEGImages/ whose objects `path`/Annotations/*.xml describe (Everingham et
    al. 2010, "The Pascal VOC Challenge"); the parts are the lists
    `path`/ImageSets/Main/{train,val,test}.txt where they are.

    An annotation's image is the one that its `filename` means, else the one of the annotation's own
    name; see `images_of`. Classes are those of `classes`, or else all that the files name, sorted.
    Corners count from 1, and the right and bottom ones belong to the box, as the challenge has it.

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
        batch_size: BatchSize = 8,
        eval_batch_size: PositiveInt = 16,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.1,
        split_seed: int = 0,
        epochs: PositiveInt = 10,
        repeats: PositiveInt = 1,
        flip: Probability = 0.5,
        jitter: Fraction = 0.0,
        transforms: tuple[Transform, ...] = (),
        seed: int = 0,
    ) -> None:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        flag = TRAINED if difficult == "train" else DIFFICULT
        listing = partial(read_voc, root, str(path), classes, flag)
        super().__init__(
            SceneFiles(listing, size, 3, bad_boxes, test_fraction, split_seed) if path else None,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            val_fraction=val_fraction,
            split_seed=split_seed,
            epochs=epochs,
            repeats=repeats,
            flip=flip,
            jitter=jitter,
            transforms=transforms,
            seed=seed,
            missing=("dataset.path=null", f"name the images to train on: {EXPECTED}"),
        )


@dataclass
class Element:
    """An element of an xml file: its name, the line where it begins, its text and its children."""

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]

    def value(self, name: str) -> str:
        """Return the text of the first element `name` in this one; empty if there is none."""
        return next((child.text.strip() for child in self.all(name)), "")

    def line_of(self, name: str) -> int:
        """Return the line of the first element `name` in this one; this one's line if there is
        none.
        """
        return next((child.line for child in self.all(name)), self.line)


def read_xml(path: Path) -> Element:
    """The root element of an xml file; InputError with the line for what is none."""
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


def read_voc(root: Path, name: str, classes: tuple[str, ...], difficult: float) -> Listing:
    """Return the images and boxes of every part; difficult objects get the flag `difficult`.
    InputError for a broken or missing file.
    """
    folder = place(root, name)
    if not (folder / "Annotations").is_dir():
        raise InputError(f"{folder} has no folder Annotations; expected {EXPECTED}")
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        raise InputError(f"dataset.classes names {', '.join(twice)} more than once")
    there = annotations_in(folder / "Annotations")
    parts = stems_of_parts(folder, there)
    if not parts["train"]:
        raise InputError(f"{folder} has no annotations to train on; expected {EXPECTED}")
    files = {stem: there[stem] for found in parts.values() for stem in found}
    elements = {stem: read_xml(path) for stem, path in files.items()}
    objects = [o for element in elements.values() for o in element.all("object")]
    names = classes or tuple(sorted({o.value("name") for o in objects} - {""}))
    if not names:
        raise InputError(f"{folder}: no annotation names an object")
    images = images_of(folder, files, elements)
    if len(files) == len(there):
        report_unused(folder / "JPEGImages", images)
    labels = {name: label for label, name in enumerate(names)}
    problems: list[str] = []
    scenes: dict[str, Scene] = {}
    for stem, element in elements.items():
        found = [box_of(o, files[stem], labels, problems) for o in element.all("object")]
        boxes = [replace(box, flag=box.flag and difficult) for box in found if box is not None]
        scenes[stem] = Scene(str(images[stem]), boxes, size=stated_size(element))
    return Listing(
        names, {part: [scenes[stem] for stem in found] for part, found in parts.items()}, problems
    )


def annotations_in(folder: Path) -> dict[str, Path]:
    """Return the xml files in a folder by their names without ending; warn of those in folders
    below it.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".xml")
    if below := [path for path in files if path.parent != folder]:
        names = first_names([path.relative_to(folder).as_posix() for path in below], MAX_NAMED)
        log.warning(f"{folder}: files in folders below it are not read: {names}")
    return {path.stem: path for path in files if path.parent == folder}


def stems_of_parts(folder: Path, there: dict[str, Path]) -> dict[str, list[str]]:
    """Return the names of the annotations of each part that there is, without their ending.

    Without a list of training images, all annotations that no other list names are for training.
    InputError, with the line, for a list that names an annotation that is not there.
    """
    parts: dict[str, list[str]] = {}
    for part in PARTS:
        path = folder / "ImageSets" / "Main" / f"{part}.txt"
        if not path.is_file():
            continue
        parts[part] = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip():
                continue
            name = base_name(line.split()[0])
            stem = name if name in there else stem_of(name)
            if stem not in there:
                raise InputError(f"{path}:{number}: there is no Annotations/{name}.xml")
            parts[part].append(stem)
    if "train" not in parts:
        held = {stem for found in parts.values() for stem in found}
        parts["train"] = [stem for stem in there if stem not in held]
    return parts


def images_of(
    folder: Path, files: dict[str, Path], elements: dict[str, Element]
) -> dict[str, Path]:
    """Return the image of each annotation. InputError, with file and line, where there is none, or
    two.
    """
    images = ImageFiles(folder / "JPEGImages")
    named = {stem: images.find(element.value("filename")) for stem, element in elements.items()}
    claims = Counter(path for path in named.values() if path is not None)
    found: dict[str, Path] = {}
    by_own_name: list[str] = []
    for stem, element in elements.items():
        at, name = f"{files[stem]}:{element.line_of('filename')}", element.value("filename")
        path, own = named[stem], images.find(stem)
        if path is None and own is None:
            raise InputError(f"{at}: {images.problem(base_name(name) or f'{stem}.jpg')}")
        if path is not None and own is not None and path != own:
            if claims[path] == 1:
                raise InputError(
                    f"{at}: its filename is {name}, but {own.name} in JPEGImages has the annotation's own name; "
                    "remove or rename one of the images, or correct the filename"
                )
            path = None  # several annotations claim that image: the name was copied
        if path is None and name:
            by_own_name.append(f"{at}: {name}")
        found[stem] = path or own or Path()
    if by_own_name:
        log.warning(
            f"{len(by_own_name):,} annotation{'s name' if len(by_own_name) > 1 else ' names'} an image that is not "
            f"theirs or not there; the image of the annotation's own name is read{listed(by_own_name)}"
        )
    return found


def report_unused(folder: Path, images: dict[str, Path]) -> None:
    """Log how many images of a folder no annotation belongs to."""
    used = set(images.values())
    unused = [
        path
        for name in files_in(str(folder))
        if (path := Path(name)) not in used and is_image(path)
    ]
    if unused:
        count = f"{len(unused):,} image{'s' if len(unused) > 1 else ''}"
        log.warning(
            f"{count} in {folder} without an annotation: not used, such as {unused[0].name}"
        )


def stated_size(element: Element) -> tuple[int, int] | None:
    """Return the width and height that an annotation says its image has; None if it does not say
    them.
    """
    inner = next(iter(element.all("size")), None)
    try:
        size = (
            (int(float(inner.value("width"))), int(float(inner.value("height"))))
            if inner
            else (0, 0)
        )
    except (ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def box_of(element: Element, path: Path, labels: dict[str, int], problems: list[str]) -> Box | None:
    """Return the box of an object, by the class number of each name; None for one that cannot be
    read, which is added to `problems`.
    """
    at, name = f"{path}:{element.line}", element.value("name")
    if name not in labels:
        problems.append(f"{at}: there is no class {name!r}")
        return None
    inner = next(iter(element.all("bndbox")), Element("", 0))
    try:
        x1, y1, x2, y2 = (float(inner.value(corner)) for corner in CORNERS)
    except ValueError:
        problems.append(f"{at}: it has no bndbox of four numbers {', '.join(CORNERS)}")
        return None
    difficult = flag_of(element.value("difficult"))
    if difficult is None:
        at = f"{path}:{element.line_of('difficult')}"
        problems.append(f"{at}: difficult is {element.value('difficult')!r}; expected 0 or 1")
        return None
    return Box((x1 - 1, y1 - 1, x2, y2), labels[name], at, DIFFICULT if difficult else COUNTED)
