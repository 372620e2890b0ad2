"""Images to classify that are held in memory, as bytes."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import Tensor

from dltrain.data.fake import fake_batch_size, fake_samples
from dltrain.data.held_out.groups import Groups
from dltrain.data.images.decode import as_image
from dltrain.data.images.labeled import ImageTensors, LabeledImages, Scaling, size_in_bytes
from dltrain.data.images.moments import moments_of_images
from dltrain.data.images.pixel_rule import PixelRule
from dltrain.data.images.synthetic import Synthetic
from dltrain.data.split import Balance
from dltrain.errors import InputError
from dltrain.types import (
    BatchSize,
    Fraction,
    Ge,
    PackedSet,
    PositiveInt,
    Source,
    Spec,
    Transform,
)
from dltrain.types.own_code import MisfitError, described_class, is_of_library

PACKED_ROWS = 1024  # whose moments are computed at a time


class InMemory(LabeledImages):
    """The labeled images of a `source`, which is read once, when a split is first used.

    The settings are those of every data set of images (dltrain.data.images.labeled).
    """

    def __init__(
        self,
        source: Source,
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 64,
        val_fraction: Fraction = 0.1,
        folds: Annotated[int, Ge(2)] | None = None,
        fold: Annotated[int, Ge(0)] | None = None,
        split_seed: int = 0,
        epochs: PositiveInt = 5,
        scaling: Scaling = "standardize",
        balance: Balance = "none",
        transforms: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
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
        self.source = source
        self.own_rule = PixelRule()

    @property
    def source_spec(self) -> Spec:
        """The shape of the images as the source describes them."""
        return self.source.spec

    @property
    def rule(self) -> PixelRule:
        """The rule of the run, or else one that each image settles for itself."""
        return self.learned.rule if self.learned else self.own_rule

    def read(self) -> ImageTensors:
        """Return the images and class numbers of the source."""
        sets = ImageTensors(type(self.source).__name__.lower())
        for name, (images, targets) in self.source.read().items():
            require_images(self.source, name, images, targets)
            targets = self.as_trained(tuple(images.shape[1:]), targets)
            sets[name] = images.to(self.device), targets.to(self.device)
        require_sets(self.source, sets)
        return sets

    def training_groups(self) -> Groups | None:
        """Return None: the source names no groups."""

    def expected_size_in_bytes(self) -> int:
        """Return the bytes of all images and class numbers, as the source describes them."""
        return size_in_bytes(self.stored_spec)

    def file_description(self) -> dict[str, Any]:
        """Return nothing: the images came from no folder."""
        return {}

    def fake(self) -> InMemory:
        """Return a few small batches of random images of the same shape and classes."""
        return fake_images(self)

    def packed_sets(self) -> dict[str, PackedSet]:
        """Return the sets of the source, each image as a PNG file, which loses nothing."""
        return {name: packed_images(*pair) for name, pair in self.read().items()}

    def packed_spec(self) -> Spec:
        """Return the spec of the source."""
        return self.source.spec

    def packed_pixels(self) -> dict[str, Any]:
        """Return the rule of images that are bytes already."""
        return PixelRule().description()


def packed_images(images: Tensor, targets: Tensor) -> PackedSet:
    """Return images (N, C, H, W) and their classes (N,) as a set to pack.

    Raises:
        InputError: The images are neither gray nor in color.
    """
    if images.shape[1] not in (1, 3):
        raise InputError(
            f"images of {images.shape[1]} channels cannot be packed: shards hold gray and color "
            "images"
        )

    def content(row: int) -> tuple[str, bytes]:
        buffer = io.BytesIO()
        as_image(images[row]).save(buffer, "PNG")
        return f"{row}.png", buffer.getvalue()

    parts = [moments_of_images(part) for part in images.split(PACKED_ROWS)]
    return PackedSet(targets, content, torch.cat(parts).numpy())


def require_sets(source: Source, sets: Collection[str]) -> None:
    """Raise MisfitError unless a source has read a training and a test set."""
    missing = [name for name in ("train", "test") if name not in sets]
    if missing:
        raise MisfitError(
            f"{described_class(source)}: read() returns the sets {', '.join(sets) or 'none'}, and "
            f"no {missing[0]!r}",
            source,
        )


def require_images(source: Source, name: str, images: Any, targets: Any) -> None:
    """Raise an error unless a source gave images (N, C, H, W) and class numbers (N,).

    Raises:
        MisfitError: The source is a user's own.
        InputError: It is one of dltrain's: its files are broken.
    """
    problem = problem_of_images(source.spec, images, targets)
    if not problem:
        return
    if is_of_library(source):
        raise InputError(f"the {name} set {problem}")
    raise MisfitError(f"{described_class(source)}: the {name} set of read() {problem}", source)


def problem_of_images(spec: Spec, images: Any, targets: Any) -> str:
    """Return what is wrong with images and targets that `spec` describes; "" if nothing is."""
    if not isinstance(images, Tensor) or not isinstance(targets, Tensor):
        kinds = f"{type(images).__name__} and {type(targets).__name__}"
        return f"is of the types {kinds}, but two tensors are needed"
    if len(images) != len(targets):
        return f"has {len(images)} inputs and {len(targets)} targets"
    return problem_of_pixels(spec, images) or problem_of_classes(spec, targets)


def problem_of_pixels(spec: Spec, images: Tensor) -> str:
    """Return what is wrong with images that `spec` describes; "" if nothing is."""
    if images.is_floating_point():
        return f"has images of type {images.dtype}; uint8 in 0..255 is needed"
    if tuple(images.shape[1:]) != spec.input_shape:
        return f"has images {tuple(images.shape)}, but `spec` says {spec.input_shape} for each"
    return ""


def problem_of_classes(spec: Spec, targets: Tensor) -> str:
    """Return what is wrong with class numbers (N,) for the classes of `spec`; "" if nothing is."""
    if targets.ndim != 1 or targets.is_floating_point():
        shape = tuple(targets.shape)
        return f"has targets {shape} of type {targets.dtype}; class numbers (N,) are needed"
    highest = spec.num_classes - 1
    if bool(((targets >= 0) & (targets <= highest)).all()):
        return ""
    low, high = torch.aminmax(targets)
    return f"has class numbers from {int(low)} to {int(high)}; expected 0 to {highest}"


def fake_images(data: LabeledImages) -> InMemory:
    """Return a few small batches of random images of the shape and the classes of some data."""
    size = fake_batch_size(data.batch_size)
    count = fake_samples(size, data.spec.num_classes)
    spec = replace(data.stored_spec, train_samples=count, test_samples=count)
    fake = InMemory(
        Synthetic.like(spec),
        batch_size=size,
        eval_batch_size=size,
        val_fraction=0.5,
        balance=data.balance,
        transforms=data.transforms,
        seed=data.seed,
    )
    fake.to(data.device)
    return fake
