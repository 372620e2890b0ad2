"""`dltrain predict RUN --samples N [--out FOLDER]`: images that a run's generator draws, one by one and in a grid."""

from __future__ import annotations

import logging
from itertools import chain, count
from pathlib import Path

from torch import Tensor

from dltrain import rng
from dltrain.commands.options import Options
from dltrain.commands.resume import answering
from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.report.pictures import grid
from dltrain.types import GeneratesImages

log = logging.getLogger("dltrain")
GRID = "grid.png"
MOST = 100_000
IN_GRID = 256  # at most
COLUMNS = 16  # at most


def draw_samples(engine: Engine, options: Options, run: Path, seed: int) -> None:
    """Write images as PNG, and a grid of them, into a new folder: `--out`, or one in the run's own.

    The same seed (seed=N) gives the same images. UsageError for a task that draws none, a number that is none, and a
    folder that cannot be made.
    """
    number = str(options.samples)
    if not number.isdecimal() or not 0 < int(number) <= MOST:
        raise UsageError(f"--samples {number}: expected a whole number from 1 to {MOST:,}")
    if not isinstance(engine.task, GeneratesImages):
        raise UsageError(
            f"--samples: a run of {type(engine.task).__name__} draws no images; one of a GAN or VAE does"
        )
    images = drawn(engine, int(number), seed)
    folder = new_folder(Path(options.out) if options.out is not None else None, run)
    with writing(folder):
        write(images, folder)
    log.info(f"{folder}: {len(images):,} images, and {GRID}")
    options.outcome.update({"run": str(run), "samples": len(images), "out": str(folder)})


def drawn(engine: Engine, number: int, seed: int) -> Tensor:
    """Images (N, C, H, W) in 0..1, by averaged weights where the last stage averages."""
    assert isinstance(engine.task, GeneratesImages)
    rng.seed_all(seed)
    with answering(engine):
        try:
            return engine.task.sample(number).cpu()
        except ValueError as e:
            raise UsageError(f"--samples: {e}") from e


def new_folder(out: Path | None, run: Path) -> Path:
    """A folder that was not there, or was empty."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: exists and is no empty folder; samples go into a new one")
    names = chain(["samples"], (f"samples-{i}" for i in count(2)))
    folder = out or next(run / name for name in names if not (run / name).exists())
    with writing(folder, "--out FOLDER names another"):
        folder.mkdir(parents=out is not None, exist_ok=out is not None)
    return folder


def write(images: Tensor, folder: Path) -> None:
    from PIL import Image

    shown = images[:IN_GRID]
    columns = min(COLUMNS, round(len(shown) ** 0.5))
    Image.fromarray(grid(shown, (), columns)).save(folder / GRID)
    digits = len(str(len(images) - 1))
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for i, array in enumerate(pixels):
        Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array[..., :3]).save(
            folder / f"{i:0{digits}}.png"
        )
