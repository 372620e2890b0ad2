"""Batches from shards: equal to those in memory, from any start, for any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shard_files import folder, packed, shards
from small_pictures import everything

from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.synthetic import Synthetic
from dltrain.data.shards.index import KINDS
from dltrain.data.shards.order import ByShard, WindowOrder
from dltrain.data.shards.pack import Packing, pack
from dltrain.preprocessing.alternating_flip import AlternatingFlip
from dltrain.preprocessing.random_crop import RandomCrop
from dltrain.regularization.mixup import Mixup
from dltrain.types import SharesRows, Spec

TRANSFORMS: dict[str, tuple[Any, ...]] = {
    "plain": (),
    "augmented": (RandomCrop(2), AlternatingFlip()),
    "mixup": (AlternatingFlip(), Mixup(0.4)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_all_shards_shuffled_together_are_the_set_in_memory(kind: str, transforms: str) -> None:
    """The same batches of every epoch and split, and the same description."""
    packed(kind)
    more: dict[str, Any] = {"batch_size": 7, "seed": 3, "transforms": TRANSFORMS[transforms]}
    ours, theirs = shards(**more), folder(memory=True, **more)
    assert len(ours.index.shards) > 6
    for epoch, start in ((0, 0), (1, 3)):
        pairs = list(
            zip(ours.train.epoch(epoch, start), theirs.train.epoch(epoch, start), strict=True)
        )
        for (x, y), (a, b) in pairs:
            assert torch.allclose(x, a, rtol=0, atol=1e-6)
            assert torch.equal(y, b)
    assert torch.allclose(everything(ours.test)[0], everything(theirs.test)[0], rtol=0, atol=1e-6)
    mine, other = ours.description(), theirs.description()
    assert mine.pop("digest") != other.pop("digest")
    assert {key: mine.pop(key) for key in ("mean", "std")} == {
        key: pytest.approx(other.pop(key), abs=1e-9) for key in ("mean", "std")
    }
    assert mine == other


def test_the_validation_samples_are_those_in_memory() -> None:
    """They come in the order of the shards."""
    packed()
    ours, theirs = shards(val_fraction=0.3), folder(memory=True, val_fraction=0.3)
    mine, other = everything(ours.val)[0], everything(theirs.val)[0]
    assert len(mine) == len(other) == 14
    distances = (mine[:, None] - other[None]).abs().amax(dim=(2, 3, 4))
    assert (distances < 1e-5).sum(0).tolist() == [1] * 14


def test_a_set_in_memory_is_packed_without_loss() -> None:
    spec = Spec((1, 9, 7), ("a", "b", "c"), 50, 20, (12.0,), (50.0,))
    source = InMemory(Synthetic.like(spec), batch_size=8, seed=5)
    Path("packed").mkdir()
    pack(source, Path("packed"), Packing("webdataset", 9_000))
    ours = shards(batch_size=8, seed=5)
    assert ours.spec == source.spec
    for split in ("train", "test"):
        for pair, expected in zip(
            getattr(ours, split).epoch(1), getattr(source, split).epoch(1), strict=True
        ):
            assert torch.equal(pair[0], expected[0])
            assert torch.equal(pair[1], expected[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 2, 3, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_epoch_has_every_sample_once_and_resumes_anywhere(
    kind: str, window: int, workers: int
) -> None:
    packed(kind)
    data = shards(batch_size=5, shuffle_shards=window, workers=workers, seed=2)
    assert sorted(data.train.order(0).tolist()) == sorted(data.rows[0].tolist())
    assert data.train.order(0).tolist() != data.train.order(1).tolist()
    batches = list(data.train.epoch(1))
    for start in range(len(batches) + 1):
        rest = list(shards(batch_size=5, shuffle_shards=window, seed=2).train.epoch(1, start))
        assert len(rest) == len(batches) - start
        for (x, y), (a, b) in zip(rest, batches[start:], strict=True):
            assert torch.equal(x, a)
            assert torch.equal(y, b)


@pytest.mark.parametrize("transforms", TRANSFORMS)
@pytest.mark.parametrize("window", [2, 100])
def test_the_parts_of_processes_make_the_batch_of_shards(transforms: str, window: int) -> None:
    packed()
    split = shards(
        batch_size=7, shuffle_shards=window, transforms=TRANSFORMS[transforms], seed=1
    ).train
    assert isinstance(split, SharesRows)
    thirds = [
        split.shared_epoch(2, 1, lambda b, i=i: slice(b * i // 3, b * (i + 1) // 3))
        for i in range(3)
    ]
    for (inputs, targets), *parts in zip(split.epoch(2, 1), *thirds, strict=True):
        assert torch.equal(torch.cat([x for x, _ in parts]), inputs)
        assert torch.equal(torch.cat([y for _, y in parts]), targets)


def test_a_resume_opens_no_shard_before_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    packed()
    data = shards(batch_size=4, shuffle_shards=2, seed=2)
    split = data.train
    opened: list[int] = []
    open_one = data.opener.open
    monkeypatch.setattr(
        data.opener, "open", lambda number, job: opened.append(number) or open_one(number, job)
    )
    everything_read = list(split.epoch(0))
    count = len(set(opened))
    assert count == len([shard for shard in data.index.shards if shard.set == "train"])
    opened.clear()
    again = shards(batch_size=4, shuffle_shards=2, seed=2)
    late = again.train
    monkeypatch.setattr(
        again.opener, "open", lambda number, job: opened.append(number) or open_one(number, job)
    )
    rest = list(late.epoch(0, len(split) - 1))
    assert torch.equal(rest[-1][0], everything_read[-1][0])
    assert len(opened) <= 4


def order(counts: list[int], window: int, seed: int | None, epoch: int = 0) -> WindowOrder:
    numbers = np.repeat(np.arange(len(counts)), counts).astype(np.uint32)
    offsets = np.arange(len(numbers), dtype=np.uint64)
    return WindowOrder(
        ByShard.of(torch.arange(len(numbers)), numbers, offsets), window, seed, epoch
    )


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("counts", [[5], [4, 0, 9, 1], [10] * 17])
def test_any_part_of_an_order_is_that_of_the_whole(counts: list[int], window: int) -> None:
    total = sum(counts)
    whole = order(counts, window, 3)[0:total].tolist()
    assert sorted(whole) == list(range(total))
    for start in range(0, total, 3):
        assert order(counts, window, 3)[start : start + 4].tolist() == whole[start : start + 4]


def test_without_a_seed_the_order_is_that_of_the_shards() -> None:
    assert order([3, 4, 5], 1, None)[0:12].tolist() == list(range(12))


def test_windows_are_of_equal_size_and_differ_between_epochs() -> None:
    first, second = order([10] * 17, 16, 0), order([10] * 17, 16, 0, epoch=1)
    assert sorted(map(len, first.windows)) == [8, 9]
    assert first.windows != second.windows
    assert first.following([first.split.numbers[first.windows[0][0]]]) == first.windows[1]
    assert first.following([first.split.numbers[first.windows[1][0]]]) == []


def test_a_balanced_epoch_draws_from_all_shards() -> None:
    packed(train=10, test=4)
    more: dict[str, Any] = {"balance": "sampler", "batch_size": 6, "seed": 8}
    ours, theirs = shards(shuffle_shards=1, **more), folder(memory=True, **more)
    assert torch.equal(everything(ours.train)[1], everything(theirs.train)[1])
    assert torch.allclose(everything(ours.train)[0], everything(theirs.train)[0], atol=1e-6)
