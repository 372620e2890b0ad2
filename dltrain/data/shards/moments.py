"""The sums of pixels of every image, from which statistics of any part of a set are made.

They come with an index that `dltrain pack` wrote. For other shards, and for images of another size,
every image is decoded once, and the sums are kept for the next time.
"""

from __future__ import annotations

import hashlib
import json
import logging
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
from dltrain.data.shards.index import MOMENTS, Index, again
from dltrain.data.shards.opened import OpenShards, ShardOpener
from dltrain.data.shards.scan import only_one
from dltrain.errors import InputError
from dltrain.files import replace_file, temporary_name, to_json

log = logging.getLogger("dltrain")
KEPT = "moments 2"  # begins the names of what is kept, and changes with its format
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


def surveyed(survey: Survey, rule: PixelRule, cache: Path, place: str) -> tuple[Moments, PixelRule]:
    """Return the moments (N, 2, C) of all images and the settled rule, kept in the folder `cache`.

    They are kept for the settled rule too, which a run that is trained passes as its `rule`.
    """
    kept = KeptMoments(survey, cache)
    complete = kept.read(rule)
    if complete is not None:
        return complete
    with only_one(kept.path(rule)):
        return kept.read(rule) or measured(survey, rule, kept, place)


class KeptMoments:
    """The moments of the images of an index in a folder, by the rule for their pixels.

    `NAME.json` has the rule that another settles to, and `NAME.npy` the moments of a settled one.
    """

    def __init__(self, survey: Survey, folder: Path) -> None:
        self.folder = folder
        self.digest = survey.index.digest
        self.image_shape = survey.reader.shape
        self.shape = (len(survey.index.samples), 2, survey.reader.shape[0])

    def path(self, rule: PixelRule) -> Path:
        """Return the file of moments."""
        text = f"{KEPT} {self.digest} {self.image_shape} {rule.description()}"
        return self.folder / f"shards-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"

    def read(self, rule: PixelRule) -> tuple[Moments, PixelRule] | None:
        """Return the moments and the rule that was settled; None if there are none that fit."""
        try:
            settled = rule_from(json.loads(rule_file(self.path(rule)).read_bytes()))
            moments = np.load(self.path(settled), mmap_mode="r")
        except (OSError, ValueError, EOFError, InputError):
            return None
        if moments.shape != self.shape or moments.dtype != np.float64:
            return None
        return moments, settled

    def write(self, rule: PixelRule, settled: PixelRule, part: Path) -> None:
        """Keep the moments in the file `part` and the rule that was settled."""
        part.replace(self.path(settled))
        content = to_json(settled.description()).encode()
        for one in (settled, rule):
            replace_file(rule_file(self.path(one)), content)


def measured(
    survey: Survey, rule: PixelRule, kept: KeptMoments, place: str
) -> tuple[Moments, PixelRule]:
    """Decode all images, and keep their moments and the rule that they settle."""
    count = len(survey.index.samples)
    log.info(f"{place}: reading all of {count:,} images once, for their statistics")
    path = kept.path(rule)
    part = temporary_name(path)
    try:
        moments = np.lib.format.open_memmap(part, mode="w+", dtype=np.float64, shape=kept.shape)
        survey.reader.rule = rule.surveying()
        survey.measure(moments, np.arange(count))
        settled = rule.settled(survey.unsettled.values(), place)
        survey.reader.rule = settled
        rows_again = np.array(sorted(survey.unsettled), dtype=np.int64)
        survey.measure(moments, rows_again)
        moments.flush()
        kept.write(rule, settled, part)
    except OSError as e:
        raise InputError(
            f"{path} cannot be written ({e.strerror or e}): point paths.data at another disk"
        ) from e
    finally:
        part.unlink(missing_ok=True)
    return np.load(kept.path(settled), mmap_mode="r"), settled


def packed_rule(index: Index, rule: PixelRule) -> PixelRule | None:
    """Return the rule that an index was packed with and `rule` in one; None if they differ.

    The packed rule covers all images of the index: a type of values that it lacks does not occur.
    """
    if not index.pixels:
        return None
    packed = rule_from(dict(index.pixels))
    ranges = {**packed.ranges, **rule.ranges}
    background = rule.background or packed.background
    differs = packed.background is not None and background != packed.background
    if differs or any(ranges[name] != limits for name, limits in packed.ranges.items()):
        return None
    return PixelRule(ranges, background)


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
    """Return the file that keeps the rule that was settled."""
    return path.with_suffix(".json")
