"""Images that stay in their files and are decoded while earlier batches are trained on."""

from __future__ import annotations

import ast
import hashlib
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dltrain.data.images.decode import read_images
from dltrain.data.images.folder import Folder, ReadingProgress
from dltrain.data.images.labeled import Statistics, mean_and_std
from dltrain.data.images.listed.listing import Files
from dltrain.data.images.moments import moments_of_images
from dltrain.data.images.pixel_rule import PixelRule, Values, rule_from
from dltrain.data.io.workers import CHUNK, Job, Workers, in_threads
from dltrain.data.split import BatchPlace, EpochOrder, Split
from dltrain.errors import InputError
from dltrain.types import BatchSize, RowsOf
from dltrain.types.transfers import sent

log = logging.getLogger("dltrain")
AHEAD_BATCHES = 4  # that are decoded before they are asked for


ReadRows: TypeAlias = Callable[[list[int], Tensor, Job], None]
"""Decodes the images of some rows into a tensor (N, C, H, W); called on any thread.

Raises InputError, with name and row, for a file that cannot be read any more.
"""


class Reader(Protocol):
    """The reader of one epoch's images."""

    def begin(self, rows: Tensor) -> ReadRows:
        """Return the function that decodes images of the next batch, whose `rows` (B,) these are.

        It is called for every batch of the epoch in order, and returns before anything is read.
        """

    def close(self) -> None:
        """Abandon what is being read."""


class Rows(Protocol):
    """Images that stay in their files, and the order in which an epoch reads them."""

    def order(self, number: int) -> EpochOrder:
        """Return the rows of epoch `number` in their order."""

    def reader(self, order: EpochOrder) -> Reader:
        """Return a reader for an epoch with such an order of rows."""


class Streamed:
    """The batches of `split`, whose images are in files and decoded when they are needed.

    The images of the `source` have the `shape` (C, H, W). Batches equal those that the split would
    make of the same images in memory, whatever the number of threads. Raises InputError for a file
    that cannot be read any more, or not within `timeout` seconds.
    """

    def __init__(
        self, split: Split, source: Rows, shape: tuple[int, ...], threads: int, timeout: float
    ) -> None:
        self.split = split
        self.source = source
        self.shape = shape
        self.threads = threads
        self.timeout = timeout
        self.batch_size = split.batch_size
        self.samples = split.samples

    def __len__(self) -> int:
        return len(self.split)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of epoch `number` from position `start` on."""
        return self.shared_epoch(number, start, slice)

    def shared_epoch(
        self, number: int, start: int, rows: RowsOf
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the part `rows(B)` of each batch (B, ...) of epoch `number` from `start` on.

        The other images of a batch are not decoded, unless a transform may look at them.
        """
        order = self.source.order(number)
        reader = self.source.reader(order)
        workers = Workers(self.threads, self.timeout)
        waiting: deque[Decoding] = deque()
        try:
            for position in range(start, len(self)):
                batch_rows = self.split.batch_rows(order, position)
                part = rows(len(batch_rows))
                waiting.append(self.begin(position, batch_rows, part, reader, workers))
                if len(waiting) > AHEAD_BATCHES:
                    yield self.finish(number, waiting.popleft())
            while waiting:
                yield self.finish(number, waiting.popleft())
        finally:
            reader.close()
            workers.close()

    def begin(
        self, position: int, rows: Tensor, part: slice, reader: Reader, workers: Workers
    ) -> Decoding:
        """Let the workers decode the images of a part of a batch, or of all of it."""
        if not self.split.has_transforms:
            rows, part = rows[part], slice(len(rows))
        # A CUDA device copies without the host's help from page-locked memory alone.
        pinned = self.split.targets.is_cuda
        needed = part if self.split.changes_samples_alone else slice(len(rows))
        # Black images stand for those of other processes, which no transform looks at.
        images = torch.zeros((len(rows), *self.shape), dtype=torch.uint8, pin_memory=pinned)
        needed_rows = rows[needed]
        read = reader.begin(needed_rows)
        jobs = [
            workers.submit(partial(read, some_rows.tolist(), some_images))
            for some_rows, some_images in zip(
                needed_rows.split(CHUNK), images[needed].split(CHUNK), strict=True
            )
        ]
        return Decoding(position, rows, part, images, jobs)

    def finish(self, number: int, batch: Decoding) -> tuple[Tensor, Tensor]:
        """Wait for the images of a batch, and return its part after every transform."""
        for job in batch.jobs:
            job.result()
        stored_targets = self.split.targets
        device = stored_targets.device
        inputs = sent(batch.images, device).to(torch.float32)
        targets = stored_targets.index_select(0, sent(batch.rows, device))
        place = BatchPlace(number, batch.position, batch.rows)
        inputs, targets = self.split.transformed(inputs, targets, place)
        return inputs[batch.part], targets[batch.part]

    def order(self, number: int) -> Tensor:
        """Return the rows of epoch `number` in their order."""
        return self.source.order(number)[0 : self.samples]

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of samples of each class."""
        return self.split.class_counts(num_classes)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a batch is a function of (seed, epoch, position)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


class FileRows:
    """The images in `paths`, of the rows of `split`, which become pixels as those of `folder`."""

    def __init__(self, split: Split, paths: list[str], folder: Folder) -> None:
        self.split = split
        self.paths = paths
        self.rule = folder.rule
        self.jpeg_decoder = folder.jpeg_decoder

    def order(self, number: int) -> Tensor:
        """Return the rows of epoch `number` in their order."""
        return self.split.order(number)

    def reader(self, order: EpochOrder) -> FileRows:
        """Return a reader for an epoch; every file is opened when it is decoded."""
        return self

    def begin(self, rows: Tensor) -> ReadRows:
        """Return the function that decodes images of the next batch."""
        return self.read

    def read(self, rows: list[int], images: Tensor, job: Job) -> None:
        """Decode the images of some rows into `images` (N, C, H, W)."""
        paths = [self.paths[row] for row in rows]
        odd = read_images(paths, images, job.at, self.rule, self.jpeg_decoder)
        for i, why in odd.why.items():
            raise InputError(f"{why}; it could be read before (row {rows[i]} of the set)")

    def close(self) -> None:
        """Do nothing: no file is open."""


@dataclass(frozen=True)
class Decoding:
    """A batch whose images (B, C, H, W) are decoded by `jobs`, of which a `part` is needed."""

    position: int
    rows: Tensor
    part: slice
    images: Tensor
    jobs: list[Job]


class ImageFiles:
    """The images of a `folder`, left in their files, and the sums of their values.

    Every file is decoded once before the first is used, for the statistics of the training images
    and for files that cannot be read; the result is kept in the folder `cache`. `as_trained`
    renumbers classes, and `batch_size` is that of training.
    """

    def __init__(
        self,
        folder: Folder,
        cache: Path,
        as_trained: Callable[[Tensor], Tensor],
        batch_size: BatchSize,
        device: torch.device,
    ) -> None:
        paths, self.moments = survey(folder, cache)
        self.moment_rows = {path: row for row, path in enumerate(paths)}
        self.folder = folder
        self.shape = (folder.channels, *folder.size)
        self.batch_size = batch_size
        self.device = device
        self.sets: dict[str, Files] = {}
        for name, files in folder.files.items():
            readable = torch.tensor(
                [path in self.moment_rows for path in files.paths], dtype=torch.bool
            )
            kept = files[readable]
            self.sets[name] = Files(kept.paths, as_trained(kept.targets).to(device))

    def __contains__(self, name: object) -> bool:
        return name in self.sets

    def size_in_bytes(self) -> int:
        """Return how much memory the batches take that are decoded at one time."""
        return streamed_bytes(self.folder, self.batch_size)

    def fingerprint(self) -> str:
        """Return a name for the files, by their names and sizes."""
        return self.folder.digest()

    def images(self, name: str) -> Tensor:
        """Return no images (0, C, H, W): they stay in their files."""
        return torch.empty((0, *self.shape), dtype=torch.uint8, device=self.device)

    def targets(self, name: str) -> Tensor:
        """Return the class numbers (N,) of a set."""
        return self.sets[name].targets

    def statistics(self, rows: Tensor) -> Statistics:
        """Return mean and standard deviation of each channel over some rows of the set train."""
        paths = self.sets["train"].paths
        moment_rows = [self.moment_rows[paths[row]] for row in rows.tolist()]
        count = max(1, len(moment_rows) * math.prod(self.folder.size))
        mean, mean_of_squares = self.moments[moment_rows].sum(0) / count
        return mean_and_std(mean, mean_of_squares)

    def row_names(self, name: str) -> Callable[[int], str]:
        """Return the function that names a row of a set by its file."""
        return self.sets[name].paths.__getitem__

    def batches(self, name: str, split: Split) -> Streamed:
        """Return the batches of a split, decoded ahead of their use."""
        source = FileRows(split, self.sets[name].paths, self.folder)
        return Streamed(split, source, self.shape, self.folder.threads, self.folder.timeout)


def streamed_bytes(folder: Folder, batch_size: BatchSize) -> int:
    """Return how much memory the batches take that are decoded at one time."""
    samples = folder.spec.train_samples if batch_size == "all" else batch_size
    sample_bytes = folder.channels * math.prod(folder.size) + 8
    return (AHEAD_BATCHES + 1) * samples * sample_bytes


def survey(folder: Folder, cache: Path) -> tuple[list[str], Tensor]:
    """Decode every file once; return those that are images, and the moments (N, 2, C) of each.

    The moments are the sum and the sum of squares of the values of each channel. Files that are not
    images are reported, and the folder's rule for pixels is settled. The result is kept in `cache`,
    by the names, sizes and times of the files.
    """
    shape = (folder.channels, *folder.size)
    paths = [path for _, files in sorted(folder.own_files.items()) for path in files.paths]
    content = f"{folder.digest(times=True)} {shape} {folder.rule.description()}"
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    kept = cache / f"image_folder-{key}.npy"
    moments = read_kept(kept, (len(paths), 2, folder.channels), folder)
    if moments is None:
        moments = measured(folder, paths, shape)
        save(kept, moments, folder)
    is_image = ~moments[:, 0, 0].isnan()
    report_odd_files(folder, [paths[row] for row in (~is_image).nonzero().squeeze(1).tolist()])
    return [paths[row] for row in is_image.nonzero().squeeze(1).tolist()], moments[is_image]


def report_odd_files(folder: Folder, paths: list[str]) -> None:
    """Warn of the files in `paths`, which are not images, or refuse them, with the reasons."""
    _, odd = folder.decode(paths, ReadingProgress(folder.path, len(paths)))
    folder.report_odd_files({paths[row]: why for row, why in odd.why.items()})


def measured(folder: Folder, paths: list[str], shape: tuple[int, ...]) -> Tensor:
    """Return the moments (N, 2, C) of all files; not a number for those that are not images."""
    log.info(f"reading all of {len(paths):,} images in {folder.path} once, for their statistics")
    every_row = torch.arange(len(paths))
    moments, unsettled = moments_of(folder, paths, shape, every_row, folder.rule.surveying())
    folder.settle(unsettled.values())
    changed_rows = [row for row, values in unsettled.items() if folder.changed(values)]
    if changed_rows:
        again = torch.tensor(changed_rows, dtype=torch.int64)
        moments[again], _ = moments_of(folder, paths, shape, again, folder.rule)
    return moments


def moments_of(
    folder: Folder, paths: list[str], shape: tuple[int, ...], rows: Tensor, rule: PixelRule
) -> tuple[Tensor, dict[int, Values]]:
    """Return the moments (N, 2, C) of the images in some rows of `paths`.

    They are not a number for files that are not images. With them come the values of images that
    the rule does not know, by their row.
    """
    progress = ReadingProgress(folder.path, len(rows))
    jpeg_decoder = folder.jpeg_decoder

    def work(part: slice, job: Job) -> tuple[Tensor, dict[int, Values]]:
        some_rows = rows[part].tolist()
        images = torch.empty((len(some_rows), *shape), dtype=torch.uint8)
        some_paths = [paths[row] for row in some_rows]
        odd = read_images(some_paths, images, job.at, rule, jpeg_decoder)
        moments = moments_of_images(images)
        moments[list(odd.why)] = torch.nan
        return moments, {some_rows[i]: values for i, values in odd.unsettled.items()}

    parts: list[Tensor] = []
    unsettled: dict[int, Values] = {}
    for moments, some_unsettled in in_threads(work, len(rows), folder.threads, folder.timeout):
        parts.append(moments)
        unsettled |= some_unsettled
        progress.step()
    return torch.cat(parts), unsettled


def read_kept(path: Path, shape: tuple[int, ...], folder: Folder) -> Tensor | None:
    """Return the moments of `shape` that `save` wrote, and give the folder the rule of that time.

    None if the file is absent or has other content.
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


def save(path: Path, moments: Tensor, folder: Folder) -> None:
    """Write the moments and the folder's rule, completely or not at all.

    If nothing can be written, they are computed again the next time.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    rule = repr(folder.rule.description()).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, moments.numpy())
            np.save(file, np.frombuffer(rule, dtype=np.uint8))
        part.replace(path)
    except OSError as e:
        log.debug(f"{path} cannot be written: {e}")
