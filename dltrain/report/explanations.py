"""`dltrain predict RUN IMAGE... --explain`: why a run answers as it does, a picture for each input."""

from __future__ import annotations

from collections.abc import Sequence
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

FOLDER = "explained"  # in the run's
AT_ONCE = 8  # gradients need the memory of a training step
LARGE = 448  # pixels of a picture's longer side, as far as whole multiples go


class Explainer:
    """Writes <folder>/<input>.png for every input: what the task shows for it, over its answer.

    Names come from those of the inputs; where two inputs of a command have the same, the later gets a number. UsageError
    for a task that explains nothing, and where nothing can be written.
    """

    def __init__(self, engine: Engine, run: Path) -> None:
        if not isinstance(engine.task, Explains):
            raise UsageError(
                f"--explain: a run of {type(engine.task).__name__} explains nothing; one of images does"
            )
        self.engine, self.task, self.folder = engine, engine.task, run / FOLDER
        self.taken: set[str] = set()

    def __call__(self, inputs: Tensor, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of inputs (B, C, H, W), each with the name of its picture."""
        try:
            with torch.no_grad(), self.engine.autocast:
                parts = [self.task.explain(part) for part in inputs.split(AT_ONCE)]
        except ValueError as e:
            raise UsageError(f"--explain: {e}") from e
        pictures = [picture for part in parts for picture in one_by_one(part)]
        notes = [note for part in parts for note in part.captions or ("",) * len(part.pixels)]
        explained = zip(pictures, notes, rows, strict=True)
        return [{**row, "explained": str(self.write(p, note, row))} for p, note, row in explained]

    def write(self, picture: Image, note: str, row: dict[str, Any]) -> Path:
        """Write one picture over its answer and the note that belongs to it; its file."""
        from PIL import Image as File

        answer = {key: value for key, value in row.items() if key not in ("input", "top")}
        plain = {
            key: value for key, value in answer.items() if not isinstance(value, list)
        }  # a list is drawn
        said = [f"{k} {number(v) if isinstance(v, float) else v}" for k, v in plain.items()]
        caption = ", ".join([*said, *([note] if note else [])])
        side = max(picture.pixels.shape[2:])
        zoom = max(1, LARGE // side)
        path = self.folder / f"{self.name(row['input'])}.png"
        drawn = (
            boxed_pictures(replace(picture, captions=(caption,)))
            if picture.boxes
            else grid(picture.pixels, (caption,), 1, zoom * side, picture.title, picture.scale)
        )
        with writing(path):
            self.folder.mkdir(exist_ok=True)
            File.fromarray(drawn).save(path)
        return path

    def name(self, told: str) -> str:
        """Of an input's picture: that of its file, or split and number."""
        path = Path(told)
        stem = path.stem if path.exists() else told.replace("/", "-")
        name, count = stem, 1
        while name.lower() in self.taken:
            count += 1
            name = f"{stem}-{count}"
        self.taken.add(name.lower())
        return name


def one_by_one(image: Image) -> list[Image]:
    """Return the pictures of an `Image`, each on its own."""
    pixels = image.pixels.float().cpu()
    return [
        replace(image, pixels=pixels[i : i + 1], boxes=image.boxes[i : i + 1])
        for i in range(len(pixels))
    ]
