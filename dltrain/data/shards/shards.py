"""Images to classify in shards: tar or Parquet files of many images, here or at a URL."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.rule import describe_random_split, held_out_mask
from dltrain.data.images.decode import cores, reason
from dltrain.data.images.in_memory import InMemory, fake_images
from dltrain.data.images.jpeg import MIN_FILES, JpegDecoder, torchvision_decoder
from dltrain.data.images.labeled import FOLDER_DIGEST, PIXELS, LabeledImages, Scaling
from dltrain.data.images.listed.listed_images import STAND_IN, square
from dltrain.data.images.opening import open_image
from dltrain.data.images.pixel_rule import Background, PixelRule, given_rule
from dltrain.data.images.streamed import AHEAD_BATCHES
from dltrain.data.io.cache import CACHE
from dltrain.data.io.workers import Job, in_thread
from dltrain.data.shards.content import ImageReader, ShardContent
from dltrain.data.shards.index import PARQUET, Index
from dltrain.data.shards.moments import Moments, Survey, packed_moments, packed_rule, surveyed
from dltrain.data.shards.opened import OpenShards, ShardOpener, require_size
from dltrain.data.shards.parquet_file import require_pyarrow
from dltrain.data.shards.scan import EXPECTED, FoundIndex, index_of
from dltrain.data.shards.storage import Storage, is_url, storage_of
from dltrain.data.split import Balance
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, Fraction, Ge, PositiveFloat, PositiveInt, Spec, Transform

log = logging.getLogger("dltrain")
MAX_HEADERS = 64  # images whose size is read if the user names none
TARGET_BYTES = 8


class Shards(LabeledImages):
    """Images in the shards of the folder or URL `path`: WebDataset's tar files, or Parquet files.

    Shards whose names say val or test are those sets, the others are for training. Without test
    shards, `test_fraction` of the training images are for testing, and without val shards
    `val_fraction` of the rest for validation, or the `fold`-th of k equal parts, as for a folder of
    images (dltrain.data.images.image_folder).

    An epoch shuffles the order of the shards, and the images of every `shuffle_shards` shards among
    them; all shards together make the order of a set in memory. `workers` threads (0: one a CPU
    core) decode images ahead of their use. Shards at a URL, and the images of Parquet files, are
    copied for as long as they are needed: those of two windows of `shuffle_shards` shards, and of
    the batches that are decoded ahead; all of them with `balance` sampler.

    `image_size` and `channels` are those of the index by default. A shard that does not answer for
    `timeout` seconds ends the run (InputError).
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        root: Path,
        path: str | None = None,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        channels: Literal[1, 3] | None = None,
        shuffle_shards: PositiveInt = 16,
        value_range: tuple[float, float] | None = None,
        background: Background = "auto",
        workers: Annotated[int, Ge(0)] = 0,
        timeout: PositiveFloat = 60.0,
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 64,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.2,
        folds: Annotated[int, Ge(2)] | None = None,
        fold: Annotated[int, Ge(0)] | None = None,
        split_seed: int = 0,
        epochs: PositiveInt = 10,
        scaling: Scaling = "standardize",
        balance: Balance = "none",
        transforms: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(
                f"dataset.value_range={list(value_range)}: "
                "the first value, black, must be below the second"
            )
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            val_fraction=val_fraction,
            folds=folds,
            fold=fold,
            split_seed=split_seed,
            epochs=epochs,
            scaling=scaling,
            balance=balance,
            transforms=transforms,
            seed=seed,
        )
        self.root = Path(root)
        self.path = path
        self.image_size = square(image_size)
        self.channels = channels
        self.shuffle_shards = shuffle_shards
        self.value_range = value_range
        self.background = background
        self.threads = workers or cores()
        self.timeout = timeout
        self.test_fraction = test_fraction

    @cached_property
    def rule(self) -> PixelRule:
        """The rule of the settings, over that of the run; images settle what it lacks."""
        trained = self.learned.rule if self.learned else None
        return given_rule(self.value_range, self.background, trained)

    @cached_property
    def is_absent(self) -> bool:
        """True if there is no folder, named or not: `debug=smoke` needs none."""
        if self.path is None:
            return True
        if is_url(self.path):
            return False
        return not any(
            place.exists() for place in (Path(self.path).expanduser(), self.root / self.path)
        )

    @cached_property
    def storage(self) -> Storage:
        """The folder or URL of the shards; ConfigError where none is named."""
        if self.path is None:
            why = f"name the folder or URL of the shards: dataset.path=DIR, {EXPECTED}"
            raise ConfigError([("dataset.path=null", why)])
        return storage_of(self.path, self.root)

    @cached_property
    def cache(self) -> Path:
        """The folder for indexes and for copies of shards."""
        return self.root / CACHE

    @cached_property
    def found_index(self) -> FoundIndex:
        """The index of the shards, and the folder that has its files."""
        return index_of(self.storage, self.cache, self.timeout)

    @property
    def index(self) -> Index:
        """The index of the shards."""
        return self.found_index.index

    @property
    def kept_index(self) -> str:
        """The folder of an index that was made now; "" if there was one before."""
        return str(self.found_index.folder) if self.found_index.is_new else ""

    @cached_property
    def opener(self) -> ShardOpener:
        """Opens the shards."""
        if self.index.kind == PARQUET:
            require_pyarrow(self.storage.place)
        return ShardOpener(self.index, self.storage, self.cache)

    @cached_property
    def stored_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of every image before all transforms.

        ConfigError if it is not set and the images do not agree on it.
        """
        if self.learned is not None:
            channels, height, width = self.learned.spec.input_shape
            return channels, height, width
        known = self.index.image_shape
        channels = self.channels or (known[0] if known else 3)
        if self.image_size is not None:
            return channels, *self.image_size
        if known:
            return channels, known[1], known[2]
        return channels, *self.common_size()

    def common_size(self) -> tuple[int, int]:
        """Return the height and width of some images of the set, by their headers."""
        count = len(self.index.samples)
        rows = range(0, count, max(1, count // MAX_HEADERS))
        sizes = in_thread(partial(self.sizes_of, rows), self.timeout)
        if len(sizes) > 1:
            examples = [f"{height}x{width} ({name})" for (height, width), name in sizes.items()]
            why = (
                f"the images are of several sizes, such as {examples[0]} and {examples[1]}: "
                "set the size that they are brought to, dataset.image_size=64 or [48,64]"
            )
            raise ConfigError([("dataset.image_size=null", why)])
        return next(iter(sizes))

    def sizes_of(self, rows: Iterable[int], job: Job) -> dict[tuple[int, int], str]:
        """Return the heights and widths in the headers of some images, and an image of each."""
        sizes = {}
        opened = OpenShards(self.opener, 1, self.timeout)
        workers = opened.workers()
        try:
            for row in rows:
                sample = self.index.samples[row]
                number = int(sample["shard"])
                shard = job.wait_for(opened.begin([number], workers)[number])
                name = self.index.name_of(row)
                job.at(name)
                content = shard.read(int(sample["offset"]), int(sample["length"]))
                sizes[size_in(content, name)] = name
        finally:
            workers.close()
        return sizes

    @cached_property
    def jpeg_decoder(self) -> JpegDecoder | None:
        """A faster decoder for small JPEG files, if there are many images."""
        return torchvision_decoder() if len(self.index.samples) >= MIN_FILES else None

    @cached_property
    def is_of_another_run(self) -> bool:
        """True if these are not the shards that the run was trained on."""
        return self.learned is not None and self.learned.digest != self.index.digest

    @property
    def other_shards(self) -> str:
        """The beginning of a line about shards that are not those of the run."""
        return f"{self.storage.place}: the shards are not those that the run was trained on:"

    def validation_note(self) -> str:
        """Return a line on the validation images of other shards than the run was trained on."""
        if not self.is_of_another_run:
            return ""
        return (
            f"{self.other_shards} the validation images are chosen among all training images, also "
            "any that it was trained on"
        )

    @cached_property
    def set_rows(self) -> dict[str, Tensor]:
        """The rows of the index that every set has, with a test set."""
        index = self.index
        rows = {
            name: torch.arange(index.first_row(name), index.first_row(name) + count)
            for name, count in index.counts.items()
        }
        train = rows.setdefault("train", torch.zeros(0, dtype=torch.int64))
        if not len(train) and self.learned is None:
            sets = ", ".join(name for name in rows if name != "train")
            raise InputError(
                f"{self.storage.place} has no training shards, only {sets}; {EXPECTED}"
            )
        if "test" not in rows:
            targets = torch.from_numpy(index.samples["target"][train.numpy()].astype(np.int64))
            held = torch.ones(len(train), dtype=torch.bool)
            if self.is_of_another_run:
                log.warning(
                    f"{self.other_shards} all {len(train):,} images are scored, also any that it "
                    "was trained on"
                )
            else:
                held = held_out_mask(targets, self.test_fraction, self.split_seed)
            rows |= {"train": train[~held], "test": train[held]}
        return rows

    @property
    def source_spec(self) -> Spec:
        """The shape, classes and numbers of samples, by the index; a stand-in's without shards."""
        if self.is_absent:
            return STAND_IN
        index = self.index
        if len(index.class_names) < 2 and self.learned is None:
            raise InputError(
                f"{self.storage.place} has one class, {index.class_names[0]}; "
                "classification needs two"
            )
        keeps_statistics = len(index.mean) == self.stored_shape[0]
        return Spec(
            input_shape=self.stored_shape,
            class_names=index.class_names,
            train_samples=len(self.set_rows["train"]),
            test_samples=len(self.set_rows["test"]),
            mean=index.mean if keeps_statistics else (),
            std=index.std if keeps_statistics else (),
        )

    def find_files(self) -> None:
        """Raise ConfigError where no folder is named and InputError where a shard is absent."""
        if not self.storage.is_local:
            _ = self.index
            return
        in_thread(self.find_shards, self.timeout)

    def find_shards(self, job: Job) -> None:
        """Raise InputError where a shard in a folder is absent or of another size."""
        for shard in self.index.shards:
            name = self.storage.file(shard.name)
            job.at(name)
            with self.storage.open(shard.name) as file:
                file.seek(0, 2)
                require_size(file.tell(), shard, name)

    def read(self) -> ShardContent:
        """Look at the index, and at every image once where their statistics are not known."""
        shape = self.stored_shape
        reader = ImageReader(self.index, shape, self.rule, self.jpeg_decoder)
        moments, reader.rule = self.moments(reader)
        self.rule = reader.rule
        return ShardContent(
            reader,
            self.opener,
            self.set_rows,
            partial(self.as_trained, shape),
            moments,
            self.shuffle_shards,
            self.threads,
            self.timeout,
            self.device,
            self.batch_bytes(),
            self.validation_note(),
        )

    def moments(self, reader: ImageReader) -> tuple[Moments, PixelRule]:
        """Return the sums of all images' values, and the rule for pixels that belongs to them."""
        packed = packed_rule(self.index, self.rule)
        if packed is not None and reader.shape == self.index.image_shape:
            return packed_moments(self.found_index.folder, reader), packed
        survey = Survey(reader, self.opener, self.threads, self.timeout)
        return surveyed(survey, self.rule, self.cache, self.storage.place)

    def batch_bytes(self) -> int:
        """Return the bytes of a training batch."""
        shape = self.stored_spec.input_shape
        samples = len(self.set_rows["train"]) if self.batch_size == "all" else self.batch_size
        return samples * (math.prod(shape) + TARGET_BYTES)

    def expected_size_in_bytes(self) -> int:
        """Return the bytes of the batches under way, and of the classes of all samples."""
        if self.is_absent:
            return 0
        return (AHEAD_BATCHES + 1) * self.batch_bytes() + TARGET_BYTES * len(self.index.samples)

    def training_groups(self) -> Groups | None:
        """Return None: shards name no groups."""

    def test_rule(self) -> str:
        """Describe how the test split was chosen; "" for test shards."""
        if self.is_absent or "test" in self.index.counts or self.is_of_another_run:
            return ""
        return describe_random_split(
            self.test_fraction, "the images of each class", self.split_seed
        )

    def file_description(self) -> dict[str, Any]:
        """Return a name for the content, and the rule by which pixels become bytes."""
        digest = "" if self.is_absent else self.index.digest
        return {FOLDER_DIGEST: digest, PIXELS: self.rule.description()}

    def fake(self) -> InMemory:
        """Return a few small batches of random images of the same shape and classes."""
        return fake_images(self)


def size_in(content: bytes, name: str) -> tuple[int, int]:
    """Return the height and width in an image's header; InputError for other content."""
    try:
        with open_image(content) as image:
            return image.height, image.width
    except Exception as e:  # Pillow raises nearly anything on a broken file
        raise InputError(f"{name} cannot be read as an image: {reason(e)}") from e
