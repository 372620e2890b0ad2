"""The part of each batch that one of several processes trains on, in memory and from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_pictures import data, lay
from torch import Tensor

from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory
from dltrain.preprocessing.alternating_flip import AlternatingFlip
from dltrain.preprocessing.color_jitter import ColorJitter
from dltrain.preprocessing.random_crop import RandomCrop
from dltrain.preprocessing.random_erasing import RandomErasing
from dltrain.preprocessing.transform import ImageTransform
from dltrain.regularization.cutmix import CutMix
from dltrain.regularization.mixup import Mixup
from dltrain.types import SharesRows


class LessThanTheMean(ImageTransform):
    """A user's own: what it makes of an image depends on the others of its batch."""

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images - images.mean(dim=0)


LessThanTheMean.__module__ = "users_own"
TRANSFORMS: dict[str, tuple[Any, ...]] = {
    "none": (),
    "alone": (RandomCrop(2), AlternatingFlip(), ColorJitter(), RandomErasing()),
    "mixup": (AlternatingFlip(), Mixup(0.4)),
    "cutmix": (CutMix(),),
    "own": (LessThanTheMean(), RandomCrop(1)),
}


def share(process: int, processes: int) -> Callable[[int], slice]:
    """Return the function that gives a process's rows of a batch."""

    def rows(total: int) -> slice:
        return slice(total * process // processes, total * (process + 1) // processes)

    return rows


def digits(transforms: tuple[Any, ...]) -> Any:
    return InMemory(Digits(), batch_size=100, transforms=transforms, seed=4).train


def streamed(transforms: tuple[Any, ...]) -> Any:
    lay(Path("pets"), count=24)
    return data("pets", memory=False, batch_size=7, transforms=transforms, seed=4).train


SPLITS = {"memory": digits, "files": streamed}


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize("transforms", TRANSFORMS)
@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_the_parts_of_all_processes_make_the_batch(
    kind: str, transforms: str, processes: int
) -> None:
    """Parts are equal to the batch bit for bit, from any start, and may be empty."""
    split = SPLITS[kind](TRANSFORMS[transforms])
    assert isinstance(split, SharesRows)
    parts = [split.shared_epoch(1, 2, share(one, processes)) for one in range(processes)]
    count = 0
    for (inputs, targets), *some in zip(split.epoch(1, 2), *parts, strict=True):
        assert torch.equal(torch.cat([x for x, _ in some]), inputs)
        assert torch.equal(torch.cat([y for _, y in some]), targets)
        count += 1
    assert count == len(split) - 2 > 2


@pytest.mark.parametrize(("transforms", "decoded"), [("alone", 2), ("none", 2), ("own", 7)])
def test_images_of_other_processes_are_decoded_only_where_needed(
    transforms: str, decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dltrain.data.images import streamed as module

    split = streamed(TRANSFORMS[transforms])
    counts = []
    read = module.read_images

    def counted(paths: Any, *more: Any) -> Any:
        counts.append(len(paths))
        return read(paths, *more)

    monkeypatch.setattr(module, "read_images", counted)
    batches = list(split.shared_epoch(0, 0, lambda total: slice(1, min(3, total))))
    assert {len(inputs) for inputs, _ in batches[:-1]} == {2}
    assert set(counts[:4]) == {decoded}
