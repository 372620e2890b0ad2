"""Scenes described in COCO's json format."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dltrain.data.detection import Detection
from dltrain.data.scenes import BadBoxes, Box, Listing, Scene, SceneFiles, place
from dltrain.errors import InputError
from dltrain.types import BatchSize, Fraction, PositiveInt, Probability, Transform

EXPECTED = "dataset.images=DIR dataset.annotations=FILE.json"


class COCO(Detection):
    """Images of a folder and the json file that describes their objects (Lin et al. 2014, "Microsoft COCO"), here or in the
    data root; a part for validation or testing may have both of its own (the folder is by default that of training).

    Classes are the file's categories by rising id. Regions that stand for a crowd are left out.
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
        named = {
            "train": (images, annotations),
            "val": (val_images, val_annotations),
            "test": (test_images, test_annotations),
        }
        files = {part: (i or images, a) for part, (i, a) in named.items() if a}
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        listing = partial(read_coco, root, files)
        found = images and annotations
        super().__init__(
            SceneFiles(listing, size, 3, bad_boxes, test_fraction, split_seed) if found else None,
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
            missing=("dataset=coco", f"name the images to train on and their annotations: {EXPECTED}"),
        )


def read_coco(root: Path, files: Mapping[str, tuple[str | None, str]]) -> Listing:
    """The scenes of every part; the classes are those of the training file, and the others' are matched by name."""
    names: tuple[str, ...] = ()
    parts: dict[str, list[Scene]] = {}
    problems: list[str] = []
    for part, (folder, file) in files.items():
        path, where = place(root, file), place(root, str(folder))
        content = read_json(path)
        try:
            categories = {c["id"]: str(c["name"]) for c in sorted(content["categories"], key=lambda c: c["id"])}
            names = names or tuple(categories.values())
            scenes = {i["id"]: Scene(str(where / i["file_name"])) for i in content["images"]}
            boxes = content["annotations"]
        except (KeyError, TypeError) as e:
            what = f": no {e}" if isinstance(e, KeyError) else ""
            raise InputError(
                f"{path} is not of COCO's format, a mapping with lists of images, annotations and categories{what}"
            ) from e
        for k, box in enumerate(boxes):
            at = f"{path}: annotation {box.get('id', f'number {k + 1}') if isinstance(box, dict) else k + 1}"
            try:
                if box.get("iscrowd"):
                    continue
                if box["image_id"] not in scenes:
                    raise InputError(f"{at} is of image {box['image_id']}, which the file does not list")
                x, y, width, height = (float(v) if v is not None else math.nan for v in box["bbox"])
                name = categories.get(box["category_id"])
                label = names.index(name) if name in names else -1
            except (AttributeError, KeyError, TypeError, ValueError):
                problems.append(
                    f"{at}: expected image_id, category_id and bbox, which is [x, y, width, height] in numbers"
                )
                continue
            if label < 0:
                problems.append(f"{at}: there is no category {box['category_id']}")
            else:
                scenes[box["image_id"]].boxes.append(Box((x, y, x + width, y + height), label, at))
        parts[part] = list(scenes.values())
        if absent := next((scene.path for scene in parts[part] if not Path(scene.path).is_file()), None):
            raise InputError(f"{path} lists an image that is not there: {absent}")
    return Listing(names, parts, problems)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise InputError(f"{path}:{e.lineno}: this is no JSON: {e.msg}") from e
    except (UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"{path} is no JSON: {e}") from e
