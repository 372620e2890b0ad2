"""Pictures for `dltrain predict RUN IMAGE... --explain`: why a run predicts what it predicts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.report.detections import boxed_pictures
from dltrain.report.pictures import grid
from dltrain.report.text import number
from dltrain.types import Explains, Image
from dltrain.types.boxes import HEIGHT, WIDTH, scale_to_fit

FOLDER = "explained"  # in the run's
IMAGES_AT_ONCE = 8  # gradients need the memory of a training step
MIN_SIDE = 448  # pixels of a picture's longer side, as far as whole multiples go
Row = dict[str, Any]


class Explainer:
    """Writes <folder>/<input>.png for every input: what the task shows, over its prediction.

    Names are those of the inputs; if two inputs have the same name, the later gets a number. Raises
    UsageError for a task that explains nothing, and if pictures cannot be written.
    """

    def __init__(self, engine: Engine, run: Path) -> None:
        if not isinstance(engine.task, Explains):
            raise UsageError(
                f"--explain: a run of {type(engine.task).__name__} explains nothing; "
                "one of images does"
            )
        self.engine = engine
        self.task = engine.task
        self.folder = run / FOLDER
        self.used_names: set[str] = set()

    def __call__(self, inputs: Tensor, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of inputs (B, C, H, W), each with the name of its picture."""
        try:
            with torch.no_grad(), self.engine.autocast:
                parts = [self.task.explain(part) for part in inputs.split(IMAGES_AT_ONCE)]
        except ValueError as e:
            raise UsageError(f"--explain: {e}") from e
        pictures = itertools.chain.from_iterable(map(single_pictures, parts))
        explained = []
        for (picture, note), row in zip(pictures, rows, strict=True):
            path = self.write(picture, note, row)
            explained.append({**row, "explained": str(path)})
        return explained

    def write(self, picture: Image, note: str, row: Row) -> Path:
        """Write one picture over its prediction and note, and return its path."""
        from PIL import Image as File

        path = self.folder / f"{self.name_for(row['input'])}.png"
        caption = caption_of(row, note)
        if picture.boxes:
            shown = without_padding(picture, row)
            pixels = boxed_pictures(replace(shown, captions=(caption,)))
        else:
            side = max(picture.pixels.shape[2:])
            shown_side = max(1, MIN_SIDE // side) * side
            pixels = grid(picture.pixels, (caption,), 1, shown_side, picture.title, picture.scale)
        with writing(path):
            self.folder.mkdir(exist_ok=True)
            File.fromarray(pixels).save(path)
        return path

    def name_for(self, input_name: str) -> str:
        """Return the name of an input's picture: that of its file, or split and number."""
        path = Path(input_name)
        stem = path.stem if path.exists() else input_name.replace("/", "-")
        name = stem
        count = 1
        while name.lower() in self.used_names:
            count += 1
            name = f"{stem}-{count}"
        self.used_names.add(name.lower())
        return name


def without_padding(picture: Image, row: Row) -> Image:
    """Return the picture of an image that was scaled to fit and padded, without its padding."""
    if WIDTH not in row or HEIGHT not in row:
        return picture
    height, width = picture.pixels.shape[2:]
    scale = scale_to_fit((row[HEIGHT], row[WIDTH]), (height, width))
    bottom = max(1, round(row[HEIGHT] * scale))
    right = max(1, round(row[WIDTH] * scale))
    return replace(picture, pixels=picture.pixels[..., :bottom, :right])


def caption_of(row: Row, note: str) -> str:
    """Return a row's values and the note as a caption; lists are drawn instead."""
    parts = []
    for key, value in row.items():
        if isinstance(value, float):
            value = number(value)
        if key not in ("input", "top") and not isinstance(value, list):
            parts.append(f"{key} {value}")
    if note:
        parts.append(note)
    return ", ".join(parts)


def single_pictures(image: Image) -> Iterator[tuple[Image, str]]:
    """Yield each picture of an `Image` with its caption."""
    pixels = image.pixels.float().cpu()
    captions = image.captions or ("",) * len(pixels)
    for i, caption in enumerate(captions):
        single = replace(image, pixels=pixels[i : i + 1], boxes=image.boxes[i : i + 1])
        yield single, caption
