"""`dltrain generate RUN [--samples N | TEXT... --tokens N]`: images or continued texts.

Images of a GAN or VAE go into a new folder, one by one and in a grid. A language model continues
each TEXT. The same seed (seed=N) gives the same images and texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from torch import Tensor

from dltrain.config.overrides import take
from dltrain.errors import UsageError
from dltrain.files import replacing, writing
from dltrain.options import Options, count_from
from dltrain.report.pictures import grid
from dltrain.runs.folder import RunFolder
from dltrain.runs.generate import continued, sampled
from dltrain.runs.open import find_run, open_trained, require_checkpoint_name, unknown_tokens

log = logging.getLogger("dltrain")
MAX_SAMPLES = 100_000
MAX_TOKENS = 100_000
NUM_SAMPLES = "64"
NUM_TOKENS = "200"
GRID = "grid.png"
MAX_IN_GRID = 256
MAX_COLUMNS = 16
SETTINGS = {"checkpoint": "best", "temperature": "0.8", "top_p": "0.95"}


def generate(options: Options) -> None:
    """Write images of a generator, or print texts that a language model continues."""
    run, overrides = find_run(options)
    typed, overrides = take(overrides, SETTINGS)
    settings = {**SETTINGS, **typed}
    require_checkpoint_name(settings["checkpoint"])
    prompts = options.names[1:]
    require_flags_that_fit(options, prompts)
    if prompts:
        length = count_from("--tokens", options.tokens or NUM_TOKENS, MAX_TOKENS)
        temperature, top_p = sampling_settings(settings)
        trained = open_trained(run, overrides, settings["checkpoint"])
        write_texts(continued(trained, prompts, length, temperature, top_p), options)
        options.outcome.update(unknown_tokens(trained.reader))
        return
    number = count_from("--samples", options.samples or NUM_SAMPLES, MAX_SAMPLES)
    images = sampled(open_trained(run, overrides, settings["checkpoint"]), number)
    write_images(images, run, options)


def require_flags_that_fit(options: Options, prompts: list[str]) -> None:
    """Raise UsageError for --samples with a text, and for --tokens without one."""
    if options.samples is not None and (prompts or options.tokens is not None):
        raise UsageError("generate: --samples cannot be combined with TEXT or --tokens")
    if options.tokens is not None and not prompts:
        raise UsageError('generate: --tokens continues a text: dltrain generate RUN "TEXT"')


def write_images(images: Tensor, run: RunFolder, options: Options) -> None:
    """Write images (N, C, H, W) as PNG, and a grid of them, into a new folder."""
    from PIL import Image

    folder = new_folder(options.out, run)
    shown = images[:MAX_IN_GRID]
    columns = min(MAX_COLUMNS, round(len(shown) ** 0.5))
    digits = len(str(len(images) - 1))
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    is_gray = pixels.shape[3] == 1
    with writing(folder):
        Image.fromarray(grid(shown, (), columns)).save(folder / GRID)
        for i, array in enumerate(pixels):
            picture = array.squeeze(2) if is_gray else array[..., :3]
            Image.fromarray(picture).save(folder / f"{i:0{digits}}.png")
    log.info(f"{folder}: {len(images):,} images, and {GRID}")
    options.outcome.update({"run": str(run.folder), "samples": len(images), "out": str(folder)})


def new_folder(out: str | None, run: RunFolder) -> Path:
    """Make the folder for images: `out`, which must be new or empty, or a new one in the run's."""
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"--out {out}: exists and is not an empty folder; samples go into a new one"
            )
    else:
        folder = run.folder / "samples"
        numbers = count(2)
        while folder.exists():
            folder = run.folder / f"samples-{next(numbers)}"
    with writing(folder, "--out FOLDER names another"):
        folder.mkdir(parents=out is not None, exist_ok=out is not None)
    return folder


def sampling_settings(settings: dict[str, str]) -> tuple[float, float]:
    """Return temperature and top_p as numbers; UsageError if they are not in their ranges."""
    temperature = as_number("temperature", settings["temperature"])
    top_p = as_number("top_p", settings["top_p"])
    if temperature < 0:
        raise UsageError(f"temperature={settings['temperature']}: expected a number >= 0")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p={settings['top_p']}: expected a number above 0 and at most 1")
    return temperature, top_p


def as_number(key: str, text: str) -> float:
    """Return the value of a setting as a number."""
    try:
        return float(text)
    except ValueError as e:
        raise UsageError(f"{key}={text}: expected a number") from e


def write_texts(texts: Iterator[str], options: Options) -> None:
    """Print each text as it comes, and write them to the file that --out names, if any."""
    written = []
    for text in texts:
        log.info(text)
        written.append(text)
    options.outcome["written"] = written
    if options.out is not None:
        what = f"--out {options.out}"
        with replacing(Path(options.out), what) as file, writing(what):
            file.write("\n".join(written) + "\n")
        options.outcome["out"] = options.out
