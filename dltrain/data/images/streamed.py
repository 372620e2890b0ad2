"""Batches of images that are decoded while those before are trained on: for sets that do not fit in memory."""

from __future__ import annotations

import ast
import hashlib
import logging
import math
import os
from collections import deque
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.data.images.decode import read_images
from dltrain.data.images.folder import Files, Folder, Progress
from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.pixel_rule import PixelRule, Values, rule_from
from dltrain.data.io.workers import CHUNK, Job, Workers, in_threads
from dltrain.data.split import Split, held_out
from dltrain.errors import InputError
from dltrain.rng import keyed
from dltrain.types import BatchSize

log = logging.getLogger("dltrain")
AHEAD = 4  # batches that are decoded before they are asked for


class Streamed:
    """The batches of `split`, whose rows are the images in `paths` of a `folder`, read as `shape`
    (C, H, W) when they are needed.

    They are the ones that the split would make of the same images in memory, whatever the number of
    threads. InputError with name and row for a file that cannot be read any more, or not within the
    folder's timeout.
    """

    def __init__(
        self, split: Split, paths: list[str], shape: tuple[int, ...], folder: Folder
    ) -> None:
        self.split = split
        self.paths = paths
        self.shape = shape
        self.rule = folder.rule
        self.threads, self.timeout = folder.threads, folder.timeout
        self.batch_size, self.samples = split.batch_size, split.samples

    def __len__(self) -> int:
        return len(self.split)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.split.order(number)
        workers = Workers(self.threads, self.timeout)
        waiting: deque[tuple[int, Tensor, Tensor, list[Job]]] = deque()
        try:
            for position in range(start, len(self)):
                rows = self.split.batch_rows(order, position)
                waiting.append((position, rows, *self.begin(rows, workers)))
                if len(waiting) > AHEAD:
                    yield self.finish(number, *waiting.popleft())
            while waiting:
                yield self.finish(number, *waiting.popleft())
        finally:
            workers.close()

    def begin(self, rows: Tensor, workers: Workers) -> tuple[Tensor, list[Job]]:
        """The images of a batch, to be, and what is to be waited for until they are."""
        images = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        parts = zip(rows.split(CHUNK), images.split(CHUNK), strict=True)
        return images, [
            workers.submit(partial(self.read, some.tolist(), out)) for some, out in parts
        ]

    def read(self, rows: list[int], out: Tensor, job: Job) -> None:
        odd = read_images([self.paths[row] for row in rows], out, job.at, self.rule)
        for i, why in odd.why.items():
            raise InputError(f"{why}; it could be read before (row {rows[i]} of the set)")

    def finish(
        self, number: int, position: int, rows: Tensor, images: Tensor, jobs: list[Job]
    ) -> tuple[Tensor, Tensor]:
        for job in jobs:
            job.result()
        targets = self.split.targets
        inputs = images.to(targets.device).to(torch.float32)
        generator = keyed(self.split.seed or 0, number, position)
        return self.split.transformed(
            inputs, targets.index_select(0, rows.to(targets.device)), generator
        )

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of samples of each class."""
        return self.split.class_counts(num_classes)

    def state_dict(self) -> dict[str, Any]:
        return {}  # a batch is a function of (seed, epoch, position)

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Streams:
    """The splits of `folder` with its images left in their files: those that `like` would make if it held them.

    Every file is looked at once before the first is used, for the statistics of the training images and for odd files;
    what is found is kept in the folder `cache`.
    """

    def __init__(self, folder: Folder, like: InMemory, cache: Path) -> None:
        self.folder, self.like, self.cache = folder, like, cache

    @cached_property
    def sets(self) -> dict[str, Files]:
        """The files of every split that are images, in the numbering of the classes of a restored run."""
        index = self.survey[0]
        found = {}
        for split, files in self.folder.files.items():
            kept = files[torch.tensor([path in index for path in files.paths], dtype=torch.bool)]
            if self.like.restored:
                empty = torch.empty((0, self.folder.channels, *self.folder.size))
                kept = Files(kept.paths, self.like.as_trained(empty, kept.targets))
            found[split] = kept
        return found

    @cached_property
    def survey(self) -> tuple[dict[str, int], Tensor]:
        """The place of each readable file in the moments (N, 2, C) of the images."""
        paths, moments = survey(self.folder, self.cache)
        return {path: i for i, path in enumerate(paths)}, moments

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of the training files for training and for validation."""
        targets, like = self.sets["train"].targets, self.like
        if "val" in self.sets:
            return torch.arange(len(targets)), torch.arange(len(self.sets["val"].targets))
        held = held_out(targets, like.val_fraction, like.split_seed, like.folds, like.fold)
        return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the training samples."""
        index, moments = self.survey
        rows = [index[self.sets["train"].paths[i]] for i in self.rows[0].tolist()]
        mean, square = moments[rows].sum(0) / max(1, len(rows) * math.prod(self.folder.size))
        std = (square - mean.square()).clamp_min(0).sqrt()
        return tuple(mean.tolist()), tuple((std if std > 0 else 1.0) for std in std.tolist())

    @cached_property
    def train(self) -> Streamed:
        if not len(self.rows[0]) and not self.like.restored:
            raise InputError(
                "there are no training samples: all of them went into validation (dataset.val_fraction)"
            )
        train = self.split("train", self.rows[0], self.like.batch_size, self.like.seed)
        if not self.like.restored:
            self.like.class_counts = train.split.class_counts(len(self.folder.class_names))
        return train

    @cached_property
    def val(self) -> Streamed:
        return self.split(
            "val" if "val" in self.sets else "train", self.rows[1], self.like.eval_batch_size, None
        )

    @cached_property
    def test(self) -> Streamed:
        rows = torch.arange(len(self.sets["test"].paths))
        return self.split("test", rows, self.like.eval_batch_size, None)

    def size_in_bytes(self) -> int:
        """Of the batches under way."""
        size = self.like.batch_size
        batches = (AHEAD + 1) * (self.folder.spec.train_samples if size == "all" else size)
        return batches * (self.folder.channels * math.prod(self.folder.size) + 8)

    def fingerprint(self) -> str:
        return self.folder.digest()

    def split(self, name: str, rows: Tensor, batch_size: BatchSize, seed: int | None) -> Streamed:
        shape = (self.folder.channels, *self.folder.size)
        if not self.like.restored:
            self.folder.statistics = self.statistics()
        files, device = self.sets[name], self.like.device
        empty = torch.empty((0, *shape), dtype=torch.uint8, device=device)
        split = self.like.split(empty, files.targets.to(device), rows, batch_size, seed)
        return Streamed(split, files.paths, shape, self.folder)


def survey(folder: Folder, cache: Path) -> tuple[list[str], Tensor]:
    """The files that are images, and sum and sum of squares of each one's values (N, 2, C); the
    others are judged.

    It decodes everything once, which settles the folder's rule for pixels, and keeps what it found
    in `cache`, by the names, sizes and times of the files.
    """
    shape = (folder.channels, *folder.size)
    paths = [path for _, files in sorted(folder.listed[1].items()) for path in files.paths]
    about = f"{folder.digest(times=True)} {shape} {folder.rule.description()}"
    kept = cache / f"image_folder-{hashlib.sha256(about.encode()).hexdigest()[:16]}.npy"
    moments = read_kept(kept, (len(paths), 2, folder.channels), folder)
    if moments is None:
        moments = measured(folder, paths, shape)
        save(kept, moments, folder)
    good = ~moments[:, 0, 0].isnan()
    odd = [paths[i] for i in (~good).nonzero().squeeze(1).tolist()]
    why = folder.decode(odd, Progress(folder.path, len(odd)))[1].why
    folder.judge({odd[i]: reason for i, reason in why.items()})
    return [paths[i] for i in good.nonzero().squeeze(1).tolist()], moments[good]


def measured(folder: Folder, paths: list[str], shape: tuple[int, ...]) -> Tensor:
    """Sum and sum of squares of each image and channel (N, 2, C), not a number where there is no image."""
    log.info(f"looking at all of {len(paths):,} images in {folder.path}, once")
    survey_rule = folder.rule.surveying()
    moments, unsettled = moments_of(folder, paths, shape, torch.arange(len(paths)), survey_rule)
    folder.settle(unsettled.values())
    again = torch.tensor(
        [i for i, values in unsettled.items() if folder.changed(values)], dtype=torch.int64
    )
    if len(again):
        moments[again] = moments_of(folder, paths, shape, again, folder.rule)[0]
    return moments


def moments_of(
    folder: Folder, paths: list[str], shape: tuple[int, ...], rows: Tensor, rule: PixelRule
) -> tuple[Tensor, dict[int, Values]]:
    """Return sum and sum of squares of the images in some `rows` of the paths (N, 2, C), not a
    number where there is no image, and by their row the values of those that the rule does not
    know.
    """
    progress = Progress(folder.path, len(rows))

    def work(part: slice, job: Job) -> tuple[Tensor, dict[int, Values]]:
        some = rows[part].tolist()
        images = torch.empty((len(some), *shape), dtype=torch.uint8)
        odd = read_images([paths[row] for row in some], images, job.at, rule)
        values = images.flatten(2).to(torch.float32)
        moments = torch.stack([values.sum(2), values.square_().sum(2)], dim=1).double()
        moments[list(odd.why)] = torch.nan
        return moments, {some[i]: values for i, values in odd.unsettled.items()}

    parts: list[Tensor] = []
    unsettled: dict[int, Values] = {}
    for moments, found in in_threads(work, len(rows), folder.threads, folder.timeout):
        parts.append(moments)
        unsettled |= found
        progress.step()
    return torch.cat(parts), unsettled


def read_kept(path: Path, shape: tuple[int, ...], folder: Folder) -> Tensor | None:
    """Return the moments of `shape` that `save` wrote, and let the folder's rule be what they were
    found by; None where there are none, or other content.
    """
    try:
        with path.open("rb") as file:
            moments = torch.from_numpy(np.load(file))
            rule = rule_from(ast.literal_eval(np.load(file).tobytes().decode()))
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, InputError):
        return None
    if moments.shape != shape or moments.dtype != torch.float64:
        return None
    folder.rule = rule
    return moments


def save(path: Path, values: Tensor, folder: Folder) -> None:
    """Write `values` and the folder's rule, whole or not at all; where nothing can be written, they
    are found again the next time.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, values.numpy())
            np.save(file, np.frombuffer(repr(folder.rule.description()).encode(), dtype=np.uint8))
        part.replace(path)
    except OSError as e:
        log.debug(f"{path} cannot be written: {e}")
