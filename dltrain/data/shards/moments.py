"""The sums of pixels of every image, from which statistics of any part of a set are made.

They come with an index that `dltrain pack` wrote. For other shards, and for images of another size,
every image is decoded once, and the sums are kept for the next time.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.data.images.folder import PROGRESS_SECONDS
from dltrain.data.images.moments import moments_of_images
from dltrain.data.images.pixel_rule import PixelRule, Unsettled, Values, rule_from
from dltrain.data.io.workers import CHUNK, Job, Workers
from dltrain.data.shards.content import ImageReader
from dltrain.data.shards.index import MOMENTS, again
from dltrain.data.shards.opened import OpenShards, ShardOpener
from dltrain.data.shards.scan import only_one
from dltrain.errors import InputError
from dltrain.files import replace_file, to_json

log = logging.getLogger("dltrain")
Moments = NDArray[np.float64]


class Survey:
    """Decodes every image of an index once, in the order of the shards."""

    def __init__(
        self, reader: ImageReader, opener: ShardOpener, threads: int, timeout: float
    ) -> None:
        self.reader = reader
        self.index = reader.index
        self.opened = OpenShards(opener, 2, timeout)
        self.threads = threads
        self.timeout = timeout
        self.unsettled: dict[int, Values] = {}

    def measure(self, out: Moments, rows: NDArray[np.int64]) -> None:
        """Write the moments of the images in some rows to `out` (N, 2, C).

        Raises InputError for one that is not an image.
        """
        done, last_line = 0, time.monotonic()
        for part, moments in self.in_threads(rows):
            out[part] = moments
            done += len(part)
            if time.monotonic() - last_line > PROGRESS_SECONDS:
                log.info(f"reading shards: {done:,} of {len(rows):,} images")
                last_line = time.monotonic()

    def in_threads(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Yield some rows and their moments; a few chunks are decoded at a time."""
        samples = self.index.samples
        order = rows[np.lexsort((samples["offset"][rows], samples["shard"][rows]))]
        opening = self.opened.workers()
        workers = Workers(self.threads, self.timeout)
        waiting: deque[tuple[NDArray[np.int64], Job]] = deque()
        try:
            for start in range(0, len(order), CHUNK):
                part = order[start : start + CHUNK]
                shards = self.opened.begin(np.unique(samples["shard"][part]).tolist(), opening)
                waiting.append((part, workers.submit(partial(self.chunk, part, shards))))
                if len(waiting) > 2 * self.threads:
                    done, job = waiting.popleft()
                    yield done, job.result()
            while waiting:
                done, job = waiting.popleft()
                yield done, job.result()
        finally:
            opening.close()
            workers.close()

    def chunk(self, rows: NDArray[np.int64], shards: dict[int, Job], job: Job) -> Any:
        """Return the moments of the images in some rows."""
        images = torch.empty((len(rows), *self.reader.shape), dtype=torch.uint8)
        for i, row in enumerate(rows.tolist()):
            shard = job.wait_for(shards[int(self.index.samples["shard"][row])])
            try:
                images[i] = self.reader.read(row, shard, job)
            except Unsettled as e:
                self.unsettled[row] = e.values
                if e.pixels is not None:
                    images[i] = e.pixels
        return moments_of_images(images).numpy()


def surveyed(survey: Survey, rule: PixelRule, path: Path, place: str) -> tuple[Moments, PixelRule]:
    """Return the moments (N, 2, C) of all images and the settled rule, which are kept at `path`."""
    with only_one(path):
        kept = read_kept(path, survey)
        if kept is not None:
            return kept
        return measured(survey, rule, path, place)


def measured(survey: Survey, rule: PixelRule, path: Path, place: str) -> tuple[Moments, PixelRule]:
    """Decode all images, and keep their moments and the rule that they settle at `path`."""
    count = len(survey.index.samples)
    log.info(f"{place}: reading all of {count:,} images once, for their statistics")
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (count, 2, survey.reader.shape[0])
        moments = np.lib.format.open_memmap(part, mode="w+", dtype=np.float64, shape=shape)
        survey.reader.rule = rule.surveying()
        survey.measure(moments, np.arange(count))
        settled = rule.settled(survey.unsettled.values(), place)
        survey.reader.rule = settled
        again = np.array(sorted(survey.unsettled), dtype=np.int64)
        survey.measure(moments, again)
        moments.flush()
        replace_file(rule_file(path), to_json(settled.description()).encode())
        part.replace(path)
    except OSError as e:
        raise InputError(
            f"{path} cannot be written ({e.strerror or e}): point paths.data at another disk"
        ) from e
    finally:
        part.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r"), settled


def packed_moments(folder: Path, reader: ImageReader) -> Moments:
    """Return the moments (N, 2, C) that lie with an index."""
    path = folder / MOMENTS
    try:
        moments: Moments = np.load(path, mmap_mode="r")
    except FileNotFoundError as e:
        raise InputError(f"{path} is missing; {again()}") from e
    except (OSError, ValueError, EOFError) as e:
        raise InputError(f"{path} cannot be read ({e}); {again()}") from e
    if moments.shape != (len(reader.index.samples), 2, reader.shape[0]):
        raise InputError(f"{path} has the shape {moments.shape}, not that of the index; {again()}")
    return moments


def rule_file(path: Path) -> Path:
    """Return the file that keeps the rule of moments."""
    return path.with_suffix(".json")


def read_kept(path: Path, survey: Survey) -> tuple[Moments, PixelRule] | None:
    """Return the moments and the rule that were kept; None if there are none that fit."""
    shape = (len(survey.index.samples), 2, survey.reader.shape[0])
    try:
        moments = np.load(path, mmap_mode="r")
        rule = rule_from(json.loads(rule_file(path).read_bytes()))
    except (OSError, ValueError, EOFError, InputError):
        return None
    if moments.shape != shape or moments.dtype != np.float64:
        return None
    return moments, rule
