"""The inputs of `dltrain predict`: files, folders, globs and texts, and the samples of a split."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import Tensor

from dltrain.data.io.layout.describe import describe_files
from dltrain.data.io.layout.folders import IMAGE_ENDINGS, paths_below
from dltrain.data.text.text_folder import texts_below
from dltrain.errors import UsageError
from dltrain.report.predictions import INPUT, Row, free_name
from dltrain.runs.open import reading_data_set
from dltrain.runs.sample_scores import sample_names
from dltrain.types import Data, ReadsText, Sample, ScalesImages
from dltrain.types.boxes import HEIGHT, WIDTH

log = logging.getLogger("dltrain")
MAX_SHOWN_CHARS = 60  # of a text that was typed


def find_inputs(
    names: list[str], report: Callable[[str], None], reads_text: bool = False
) -> list[Path | str]:
    """Return the files and texts that `names` mean, each once.

    A name is a file, a folder (its images or texts, also in folders below) or a glob. Where texts
    are read, any other name is the text itself. `report` is called with a message for each name
    that means nothing.
    """
    inputs: list[Path | str] = []
    for name in names:
        if reads_text and not is_place(name):
            inputs.append(name)
            continue
        files, problem = files_of(name, reads_text)
        inputs += files
        if not files:
            report(problem)
    return list(dict.fromkeys(inputs))


def files_of(name: str, reads_text: bool) -> tuple[list[Path], str]:
    """Return the files that a name means, and the problem if there are none."""
    if not name:
        return [], "the name of a file is empty"
    path = Path(name)
    if path.is_dir():
        kind = "text" if reads_text else "image"
        return files_to_read(path, reads_text), f"{name} has no {kind} in it"
    if path.exists():
        return [path], ""
    if glob.has_magic(name):
        return matching_files(name), f"{name} matches no file"
    return [], f"{name}: no such file"


def matching_files(pattern: str) -> list[Path]:
    """Return the files that match a glob, in order."""
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  (Path.glob refuses absolute ones)
    return sorted(Path(match) for match in matches if Path(match).is_file())


def files_to_read(folder: Path, reads_text: bool) -> list[Path]:
    """Return the texts or the images in and below a folder, by their endings.

    A warning counts the files that are left out.
    """
    paths, others = texts_below(folder) if reads_text else images_below(folder)
    if paths and others:
        kind = "texts" if reads_text else "images"
        log.warning(f"{folder}: {describe_files(others)} left out: not {kind}, by their endings")
    return paths


def images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images in and below a folder, and the names of other files."""
    images = []
    others = []
    for path in paths_below(folder):
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file():
            images.append(path)
        elif path.is_file():
            others.append(path.name)
    return images, others


def is_place(name: str) -> bool:
    """Tell if `name` is a file, a folder, or a glob that matches one.

    A question mark alone does not make a glob: it may end a sentence.
    """
    if not name:
        return False
    try:
        if Path(name).exists():
            return True
        return "*" in name and bool(glob.glob(name, recursive=True))  # noqa: PTH207
    except (OSError, ValueError):  # too long for a name, or a null byte
        return False


def encoded(reader: Data, inputs: list[Path | str]) -> Iterator[Sample]:
    """Yield the samples of files and texts as the run's network takes them."""
    for one in inputs:
        if isinstance(one, Path):
            yield from reader.encode([one])
        else:
            assert isinstance(reader, ReadsText)
            name = one
            if len(one) > MAX_SHOWN_CHARS:
                name = f"{one[:MAX_SHOWN_CHARS]}..."
            yield Sample(name, reader.encode_text(one))


def readable(
    samples: Iterable[Sample], report: Callable[[str], None]
) -> Iterator[tuple[Row, Tensor]]:
    """Yield name and inputs of each sample that could be read; report the others."""
    for sample in samples:
        if sample.inputs is not None:
            yield known_about(sample), sample.inputs
        elif sample.problem.startswith(sample.name):
            report(sample.problem)
        else:
            report(f"{sample.name}: {sample.problem}")


def known_about(sample: Sample) -> Row:
    """Return the name of a sample and the columns that are known about it, before its prediction.

    A column that is called like that of the names gets a prefix.
    """
    row: Row = {INPUT: sample.name}
    for name, value in sample.about.items():
        row[free_name(name, row.keys())] = value
    return row


def image_size(data: Data, name: str) -> Row:
    """Return width and height of the image file that names a sample, if it is scaled to fit."""
    size = data.file_size(name) if isinstance(data, ScalesImages) else None
    return {} if size is None else dict(zip((WIDTH, HEIGHT), size, strict=True))


def of_split(data: Data, split: str) -> Iterator[tuple[Row, Tensor]]:
    """Yield name, class (if any) and inputs of each sample of a split, in the batches' order."""
    if data.spec.actions:
        raise UsageError(
            f"split={split}: an environment has no samples to predict; `dltrain evaluate RUN` "
            "scores its episodes, `dltrain rollout RUN` draws one"
        )
    with reading_data_set():
        part = getattr(data, split)
    class_names = data.spec.class_names
    names = sample_names(data, split)
    for inputs, targets in part.epoch(0):
        for x, target in zip(inputs, targets, strict=True):
            name = next(names)
            row: Row = {INPUT: name, **image_size(data, name)}
            if class_names and not target.ndim:
                row["label"] = class_names[int(target)]
            yield row, x
