"""Scenes described by a text file for each image, as YOLO's programs read them."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import yaml

from dltrain.data.detection import Detection
from dltrain.data.folder import files_in
from dltrain.data.layout import IMAGE_ENDINGS as ENDINGS
from dltrain.data.layout import folders_in
from dltrain.data.layout import shown_names as some
from dltrain.data.scenes import BadBoxes, Box, Listing, Scene, SceneFiles, place
from dltrain.errors import InputError
from dltrain.types import BatchSize, Fraction, PositiveInt, Probability, Transform

log = logging.getLogger("dltrain")
EXPECTED = "dataset.path=DIR, with images/train/ and labels/train/ in it, and perhaps val and test"
PARTS = ("train", "val", "test")


class YOLO(Detection):
    """Images in `path`/images/<part>/, and beside each in `path`/labels/<part>/ a text file of the same name with a line an
    object: class number, and centre x, centre y, width and height as shares of the image. An image without one has none.

    Parts are the folders whose names begin with train, val and test, or that `train`, `val` and `test` name (the same for
    two is allowed: to test on the training images). Class names are those of a .yaml file in `path` (`names`) or of
    classes.txt, else numbers.
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
        listing = partial(read_yolo, root, str(path), {"train": train, "val": val, "test": test})
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


def read_yolo(root: Path, name: str, chosen: dict[str, str | None]) -> Listing:
    folder = place(root, name)
    if not (folder / "images").is_dir():
        raise InputError(f"{folder} has no folder images; expected {EXPECTED}")
    there = folders_in(folder / "images")
    parts: dict[str, list[Scene]] = {}
    problems: list[str] = []
    known: dict[str, list[Scene]] = {}  # of each folder: one may be for training and testing
    for part in PARTS:
        named = chosen[part]
        if named is not None and named not in there:
            raise InputError(f"dataset.{part}={named}: {folder / 'images'} has {', '.join(there) or 'no folders'}")
        found = [named] if named is not None else [n for n in there if n.lower().startswith(part)]
        if len(found) > 1:
            raise InputError(f"{folder / 'images'}: which is {part}? {', '.join(found)}: dataset.{part}={found[0]}")
        if found:
            if found[0] not in known:
                known[found[0]] = scenes_of(folder, found[0], problems)
            parts[part] = known[found[0]]
    if not there:
        parts = {"train": scenes_of(folder, "", problems)}
    if not parts.get("train"):
        raise InputError(f"{folder / 'images'} has no images to train on; expected {EXPECTED}")
    most = max((box.label for part in parts.values() for scene in part for box in scene.boxes), default=0)
    return Listing(class_names(folder) or tuple(map(str, range(most + 1))), parts, problems)


def scenes_of(folder: Path, part: str, problems: list[str]) -> list[Scene]:
    """The images of a part with their boxes; label files without an image are named in a warning."""
    labels = folder / "labels" / part
    images = [Path(path) for path in files_in(str(folder / "images" / part)) if path.lower().endswith(ENDINGS)]
    stems = {path.relative_to(folder / "images" / part).with_suffix("") for path in images}
    left = [
        path.relative_to(folder).as_posix()
        for path in sorted(labels.rglob("*.txt"))
        if path.relative_to(labels).with_suffix("") not in stems and path.name != "classes.txt"
    ]
    if left:
        log.warning(f"{len(left):,} label file{'s have' if len(left) > 1 else ' has'} no image: {some(left)}")
    found = []
    for image in images:
        text = labels / image.relative_to(folder / "images" / part).with_suffix(".txt")
        found.append(Scene(str(image), boxes_of(text, problems) if text.is_file() else [], relative=True))
    return found


def boxes_of(path: Path, problems: list[str]) -> list[Box]:
    """The boxes that a label file has, a line each; what is none is added to `problems`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path} cannot be read as text: {e}") from e
    found = []
    for number, line in enumerate(lines, 1):
        if not (words := line.split()):
            continue
        at = f"{path}:{number}"
        try:
            label, x, y, width, height = int(words[0]), *map(float, words[1:])
        except ValueError:
            problems.append(f"{at}: expected a class number, centre x, centre y, width and height, got {line[:60]!r}")
            continue
        found.append(Box((x - width / 2, y - height / 2, x + width / 2, y + height / 2), label, at))
    return found


def class_names(folder: Path) -> tuple[str, ...]:
    """By `names` of a .yaml file (a list, or a mapping of numbers), or the lines of classes.txt; empty without both."""
    for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            raise InputError(f"{path} cannot be read as YAML: {e}") from e
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            if sorted(names) != list(range(len(names))):
                raise InputError(f"{path}: names are numbered from 0 on, without gaps")
            names = [names[k] for k in range(len(names))]
        if isinstance(names, list) and names:
            return tuple(map(str, names))
    plain = folder / "classes.txt"
    return tuple(plain.read_text(encoding="utf-8").rstrip().splitlines()) if plain.is_file() else ()
