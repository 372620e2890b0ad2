"""Scenes described by an xml file for each image, as those of Pascal VOC are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from xml.parsers import expat

from dltrain.data.detection import Detection
from dltrain.data.scenes import BadBoxes, Box, Listing, Scene, SceneFiles, place
from dltrain.errors import InputError
from dltrain.types import BatchSize, Fraction, PositiveInt, Probability, Transform

EXPECTED = "dataset.path=DIR, with Annotations/*.xml and JPEGImages/ in it"
PARTS = ("train", "val", "test")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VOC(Detection):
    """Images in `path`/JPEGImages/ whose objects `path`/Annotations/*.xml describe (Everingham et al. 2010, "The Pascal VOC
    Challenge"); the parts are the lists `path`/ImageSets/Main/{train,val,test}.txt where they are.

    Classes are those of `classes`, or else all that the files name, sorted. Corners count from 1, and the right and
    bottom ones belong to the box, as the challenge has it.
    """

    def __init__(
        self,
        root: Path,
        path: str | None = None,
        classes: tuple[str, ...] = (),
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 320,
        bad_boxes: BadBoxes = "refuse",
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
        listing = partial(read_voc, root, str(path), classes)
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
            missing=("dataset.path=null", f"name the scenes to train on: {EXPECTED}"),
        )


@dataclass
class Element:
    """Of an xml file: its name, the line where it begins, its text and what is in it."""

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]

    def value(self, name: str) -> str:
        """The text of the first element `name` in this one; empty without one."""
        return next((child.text.strip() for child in self.all(name)), "")


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


def read_voc(root: Path, name: str, classes: tuple[str, ...]) -> Listing:
    folder = place(root, name)
    stems = {part: listed(folder / "ImageSets" / "Main" / f"{part}.txt") for part in PARTS}
    wanted = {part: found for part, found in stems.items() if found is not None}
    if "train" not in wanted:
        held = {stem for found in wanted.values() for stem in found}
        wanted["train"] = [p.stem for p in sorted((folder / "Annotations").glob("*.xml")) if p.stem not in held]
    if not wanted["train"]:
        raise InputError(f"{folder} has no annotations to train on; expected {EXPECTED}")
    files = {stem: folder / "Annotations" / f"{stem}.xml" for found in wanted.values() for stem in found}
    elements = {stem: read_xml(path) for stem, path in files.items()}
    names = classes or tuple(sorted({o.value("name") for e in elements.values() for o in e.all("object")} - {""}))
    if not names:
        raise InputError(f"{folder}: no annotation names an object")
    problems: list[str] = []
    scenes: dict[str, Scene] = {}
    for stem, element in elements.items():
        image = folder / "JPEGImages" / (Path(element.value("filename")).name or f"{stem}.jpg")
        if not image.is_file():
            at = next((child.line for child in element.all("filename")), element.line)
            raise InputError(f"{files[stem]}:{at}: its image is not there: {image}")
        boxes = [b for o in element.all("object") if (b := box_of(o, files[stem], names, problems))]
        scenes[stem] = Scene(str(image), boxes)
    return Listing(names, {part: [scenes[stem] for stem in found] for part, found in wanted.items()}, problems)


def box_of(element: Element, path: Path, names: tuple[str, ...], problems: list[str]) -> Box | None:
    at, name = f"{path}:{element.line}", element.value("name")
    if name not in names:
        problems.append(f"{at}: there is no class {name!r}")
        return None
    inner = next(iter(element.all("bndbox")), Element("", 0))
    try:
        x1, y1, x2, y2 = (float(inner.value(corner)) for corner in CORNERS)
    except ValueError:
        problems.append(f"{at}: it has no bndbox of four numbers {', '.join(CORNERS)}")
        return None
    return Box((x1 - 1, y1 - 1, x2, y2), names.index(name), at)


def listed(path: Path) -> list[str] | None:
    """The first word of each line of a list of images; None without the file."""
    if not path.is_file():
        return None
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
