"""The samples of every set (train, test, perhaps val) of an index, read when they are needed."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.images.decode import decode_image
from dltrain.data.images.jpeg import JpegDecoder
from dltrain.data.images.labeled import Statistics, mean_and_std
from dltrain.data.images.pixel_rule import PixelRule
from dltrain.data.images.streamed import AHEAD_BATCHES, ReadRows, Streamed
from dltrain.data.io.workers import Job, Workers
from dltrain.data.shards.index import Index
from dltrain.data.shards.opened import OpenShard, OpenShards, ShardOpener
from dltrain.data.shards.order import ByShard, ShardOrder, WholeOrder, WindowOrder
from dltrain.data.split import EpochOrder, Split
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
BLOCK_ROWS = 2**16  # whose statistics are added at a time
EVALUATION_WINDOW = 1  # shards


class ImageReader:
    """Reads and checks images of an index, and decodes them to one `shape` (C, H, W)."""

    def __init__(
        self,
        index: Index,
        shape: tuple[int, ...],
        rule: PixelRule,
        jpeg_decoder: JpegDecoder | None,
    ) -> None:
        self.index = index
        self.shape = shape
        self.rule = rule
        self.jpeg_decoder = jpeg_decoder

    def read(self, row: int, shard: OpenShard, job: Job) -> Tensor:
        """Return the image of a row as bytes (C, H, W).

        Raises InputError, with shard and member, for content that is not what the index says.
        """
        name = f"{shard.name}/{self.index.key(row)}"
        job.at(name)
        sample = self.index.samples[row]
        length = int(sample["length"])
        content = shard.read(int(sample["offset"]), length)
        if len(content) < length:
            raise InputError(f"{name}: the shard ends in the middle of this sample; {PUT_BACK}")
        if zlib.crc32(content) != int(sample["crc"]):
            raise InputError(
                f"{name}: the content is not the one that the index was made of (its CRC-32 is "
                f"another); {PUT_BACK}"
            )
        return decode_image(content, name, self.shape, self.rule, self.jpeg_decoder)


PUT_BACK = "put the old shard back, or make the shards again with `dltrain pack`"


class ShardContent:
    """The images of an index, left in their shards, with the classes of each set in memory.

    `rows` names the rows of the index that each set has, `moments` (N, 2, C) are the sums that
    statistics are made of, and `window` is the number of shards that are shuffled together. A
    `note` is logged where images are validated that were taken from the training set.
    """

    def __init__(
        self,
        reader: ImageReader,
        opener: ShardOpener,
        rows: Mapping[str, Tensor],
        as_trained: Callable[[Tensor], Tensor],
        moments: NDArray[np.float64],
        window: int,
        threads: int,
        timeout: float,
        device: torch.device,
        batch_bytes: int,
        note: str = "",
    ) -> None:
        self.reader = reader
        self.index = reader.index
        self.opener = opener
        self.rows = rows
        self.moments = moments
        self.window = window
        self.threads = threads
        self.timeout = timeout
        self.device = device
        self.batch_bytes = batch_bytes
        self.note = note
        targets = torch.from_numpy(self.index.samples["target"].astype(np.int64))
        self.classes = {name: as_trained(targets[some]).to(device) for name, some in rows.items()}

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def size_in_bytes(self) -> int:
        """Return how much memory the classes take, and the batches that are decoded at a time."""
        classes = sum(targets.numel() * 8 for targets in self.classes.values())
        return classes + (AHEAD_BATCHES + 1) * self.batch_bytes

    def fingerprint(self) -> str:
        """Return a name for the content, by the index."""
        return self.index.digest

    def images(self, name: str) -> Tensor:
        """Return no images (0, C, H, W): they stay in their shards."""
        return torch.empty((0, *self.reader.shape), dtype=torch.uint8, device=self.device)

    def targets(self, name: str) -> Tensor:
        """Return the class numbers (N,) of a set."""
        return self.classes[name]

    def statistics(self, rows: Tensor) -> Statistics:
        """Return mean and standard deviation of each channel over some rows of the set train."""
        sums = torch.zeros(2, self.reader.shape[0], dtype=torch.float64)
        for part in self.rows["train"][rows].split(BLOCK_ROWS):
            sums += torch.from_numpy(self.moments[part.numpy()]).sum(0)
        _, height, width = self.reader.shape
        mean, mean_of_squares = sums / max(1, len(rows) * height * width)
        return mean_and_std(mean, mean_of_squares)

    def row_names(self, name: str) -> Callable[[int], str]:
        """Return the function that names a row of a set: its shard, and its name there."""
        rows = self.rows[name]
        return lambda row: self.index.name_of(int(rows[row]))

    def batches(self, name: str, split: Split) -> Streamed:
        """Return the batches of a split, decoded ahead of their use."""
        rows = self.rows[name]
        if self.note and name == "train" and split.seed is None and split.samples:
            log.warning(self.note)
        window = self.window if split.seed is not None else EVALUATION_WINDOW
        source = ShardRows(self, split, rows, window)
        return Streamed(split, source, self.reader.shape, self.threads, self.timeout)


class ShardRows:
    """The images of a split, whose row r is row `rows[r]` of the index."""

    def __init__(self, content: ShardContent, split: Split, rows: Tensor, window: int) -> None:
        self.content = content
        self.split = split
        self.rows = rows
        own = split.rows.cpu()
        samples = content.index.samples[rows[own].numpy()]
        self.by_shard = ByShard.of(own, samples["shard"], samples["offset"])
        self.window = window
        count = len(self.by_shard.numbers)
        self.is_whole = split.seed is not None and (split.balanced or window >= count)
        capacity = count if self.is_whole else 2 * window
        self.opened = OpenShards(content.opener, max(1, capacity), content.timeout)

    def order(self, number: int) -> ShardOrder:
        """Return the rows of epoch `number` in their order.

        It is that of the same set in memory where all shards are shuffled together.
        """
        if self.is_whole:
            return WholeOrder(self.split.order(number))
        return WindowOrder(self.by_shard, self.window, self.split.seed, number)

    def reader(self, order: EpochOrder) -> EpochReader:
        """Return a reader for an epoch with such an order of rows."""
        assert isinstance(order, WindowOrder | WholeOrder)
        return EpochReader(self, order)


class EpochReader:
    """The reader of one epoch: opens the shards of the next window ahead."""

    def __init__(self, source: ShardRows, order: ShardOrder) -> None:
        self.source = source
        self.order = order
        self.shard_of = source.content.index.samples["shard"]
        self.workers: Workers = source.opened.workers()

    def begin(self, rows: Tensor) -> ReadRows:
        """Return the function that decodes images of the next batch."""
        shards = np.unique(self.shard_of[self.source.rows[rows].numpy()]).tolist()
        following = self.order.following(shards)
        jobs = self.source.opened.begin(shards, self.workers, following)
        return partial(self.read, jobs)

    def read(self, jobs: dict[int, Job], rows: list[int], images: Tensor, job: Job) -> None:
        """Decode the images of some rows into `images` (N, C, H, W)."""
        reader = self.source.content.reader
        for i, row in enumerate(self.source.rows[rows].tolist()):
            shard = job.wait_for(jobs[int(self.shard_of[row])])
            images[i] = reader.read(row, shard, job)

    def close(self) -> None:
        """Abandon the shards that are being opened."""
        self.workers.close()
