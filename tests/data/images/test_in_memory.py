"""Images in memory: splits, order, batches and memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.synthetic import Synthetic
from dltrain.data.split import BLOCK_BYTES
from dltrain.types import Spec
from dltrain.types.own_code import MisfitError

COUNTS = {0: 100, 1: 30, 2: 70}  # training samples of each class


class Numbered:
    """Images whose first pixels are their row number; three classes of different sizes."""

    spec = Spec((2, 3, 5), ("a", "b", "c"), 200, 20, (100.0, 50.0), (20.0, 60.0))

    def __init__(self, **more: Any) -> None:
        self.reads = 0
        self.more = more

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        self.reads += 1
        generator = torch.Generator().manual_seed(0)
        targets = torch.cat([torch.full((n,), label) for label, n in COUNTS.items()])
        targets = targets[torch.randperm(200, generator=generator)]
        images = torch.randint(0, 256, (220, 2, 3, 5), generator=generator, dtype=torch.uint8)
        images[:200, 0, 0, 0] = torch.arange(200, dtype=torch.uint8)
        sets = {"train": (images[:200], targets), "test": (images[200:], torch.arange(20) % 3)}
        return sets | self.more


def rows(split: Any, epoch: int = 0) -> list[int]:
    """Return the rows of an epoch in order, read off the pixels."""
    return [round(float(x[0, 0, 0]) * 20 + 100) for inputs, _ in split.epoch(epoch) for x in inputs]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5])
def test_the_split_is_stratified_disjoint_and_complete(fraction: float) -> None:
    """The same fraction of every class is held out.

    Together the splits are the training set, each row once.
    """
    data = InMemory(Numbered(), batch_size=7, val_fraction=fraction)
    train, val = rows(data.train), rows(data.val)
    assert sorted(train + val) == list(range(200))
    assert (data.train.samples, data.val.samples) == (len(train), len(val))
    targets = data.stored["train"][1]
    for label, count in COUNTS.items():
        assert int((targets[val] == label).sum()) == round(fraction * count)


def test_the_split_is_a_function_of_split_seed_alone() -> None:
    """Other seeds and batch sizes are compared on the same samples; another split_seed draws
    others.
    """
    first = InMemory(Numbered(), batch_size=8, seed=0).rows[1]
    assert torch.equal(
        first, InMemory(Numbered(), batch_size="all", seed=5, eval_batch_size=3).rows[1]
    )
    assert not torch.equal(first, InMemory(Numbered(), split_seed=1).rows[1])
    torch.manual_seed(99)
    assert torch.equal(first, InMemory(Numbered()).rows[1])


def test_a_validation_set_of_the_source_is_used() -> None:
    """A source that brings "val" keeps its whole training set."""
    own = (torch.zeros(4, 2, 3, 5, dtype=torch.uint8), torch.arange(4) % 3)
    data = InMemory(Numbered(val=own), val_fraction=0.5)
    assert (data.train.samples, data.val.samples) == (200, 4)
    assert float(next(data.val.epoch(0))[0].max()) == pytest.approx(-50 / 60)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    """Every epoch has another order, the same for the same seed, whatever was drawn before;
    evaluation has one.
    """
    data, again, other = (InMemory(Numbered(), seed=seed) for seed in (3, 3, 4))
    orders = [rows(data.train, epoch) for epoch in range(3)]
    torch.manual_seed(7)
    assert [rows(again.train, epoch) for epoch in (2, 1, 0)] == orders[::-1]
    assert len({tuple(order) for order in [*orders, rows(other.train, 0)]}) == 4
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(orders[0]))}
    assert rows(data.val, 0) == rows(data.val, 1) == sorted(rows(data.val))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 180, "all"])
@pytest.mark.parametrize("block", [1, 1000, BLOCK_BYTES])
def test_an_epoch_can_start_at_any_batch(
    batch_size: int | str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`epoch(n, start=k)` brings exactly the batches of `epoch(n)` from k on, for every k."""
    monkeypatch.setattr("dltrain.data.split.BLOCK_BYTES", block)
    split = InMemory(Numbered(), batch_size=batch_size, seed=2).train
    whole = list(split.epoch(1))
    assert len(whole) == len(split) == -(-180 // split.batch_size)
    for start in range(0, len(whole) + 1, 1 if len(whole) < 50 else 17):
        tail = list(split.epoch(1, start))
        assert len(tail) == len(whole) - start
        for (x, y), (a, b) in zip(tail, whole[start:], strict=True):
            assert torch.equal(x, a)
            assert torch.equal(y, b)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 180), (50, [50, 50, 50, 30]), (1000, [180]), ("all", [180])]
)
def test_batch_sizes(batch_size: int | str, sizes: list[int]) -> None:
    """One sample, N of them with a smaller last batch, or all at once."""
    data = InMemory(Numbered(), batch_size=batch_size)
    assert [len(x) for x, _ in data.train.epoch(0)] == sizes
    assert all(y.dtype == torch.int64 and x.dtype == torch.float32 for x, y in data.train.epoch(0))


@pytest.mark.parametrize(
    "source", [Numbered(), Digits(), Synthetic(3, 6, 4, 5, 40, 10)], ids=lambda s: type(s).__name__
)
def test_values_are_normalized(source: Any) -> None:
    """Values are (x / 255 - mean) / std by channel, with mean and std as fractions of 255."""
    data = InMemory(source, batch_size=16)
    images, targets = source.read()["train"]
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) / 255
        for v in (source.spec.mean, source.spec.std)
    )
    expected = (images.double() / 255 - mean) / std
    order = data.train.order(0)
    inputs, labels = (torch.cat(column) for column in zip(*data.train.epoch(0), strict=True))
    assert float((inputs.double() - expected[order]).abs().max()) < 2e-6
    assert torch.equal(labels, targets[order])


@pytest.mark.parametrize(
    "source",
    [Numbered(), Digits(), Synthetic(1, 28, 28, 10, 300, 50)],
    ids=lambda s: type(s).__name__,
)
def test_images_take_the_memory_of_their_bytes(source: Any) -> None:
    """Stored as bytes: at most 1.2 times the raw images and labels, and known before reading."""
    data = InMemory(source)
    described = data.size_in_bytes()
    raw = sum(x.numel() + 8 * len(y) for x, y in source.read().values())
    _ = data.train
    assert raw <= data.size_in_bytes() <= 1.2 * raw
    assert described == data.size_in_bytes()
    kept = [data.train.inputs, data.val.inputs]
    assert kept[0].data_ptr() == kept[1].data_ptr(), "training and validation share one store"


def test_nothing_is_read_before_it_is_used() -> None:
    """`spec`, `fake`, `to` and the size need no file; using both splits reads once."""
    source = Numbered()
    data = InMemory(source)
    _ = data.spec.arguments(), data.size_in_bytes(), data.to(torch.device("cpu"))
    assert data.fake().train.samples > 0
    assert source.reads == 0
    list(data.train.epoch(0)), list(data.val.epoch(0)), list(data.test.epoch(0)), data.fingerprint()
    assert source.reads == 1


@pytest.mark.parametrize("batch_size", [1, 5, 64, "all"])
def test_fake_data_has_the_same_shape(batch_size: int | str) -> None:
    """Fake batches look like the real ones: shape, type and every class; all splits have
    samples.
    """
    data = InMemory(Numbered(), batch_size=batch_size)
    fake = data.fake()
    for real, made in ((data.train, fake.train), (data.val, fake.val), (data.test, fake.test)):
        x, y = next(real.epoch(0))
        a, b = next(made.epoch(0))
        assert (a.shape[1:], a.dtype, b.dtype) == (x.shape[1:], x.dtype, y.dtype)
        assert 0 < len(a) <= 16
    assert fake.spec.arguments() == data.spec.arguments()
    labels = torch.cat([y for _, y in fake.train.epoch(0)])
    assert set(labels.tolist()) == {0, 1, 2}
    assert fake.fingerprint() == data.fake().fingerprint() != data.fingerprint()


def test_sets_that_do_not_belong_together_are_refused() -> None:
    """Different numbers of inputs and targets are an error that names the source and the set."""
    data = InMemory(Numbered(test=(torch.zeros(3, 2, 3, 5), torch.zeros(4, dtype=torch.int64))))
    with pytest.raises(MisfitError, match=r"the test set of read\(\) has 3 inputs and 4 targets"):
        _ = data.train


def test_the_fingerprint_names_the_content() -> None:
    """Equal content, equal fingerprint, whatever the settings; one other pixel, another."""
    first = InMemory(Numbered()).fingerprint()
    assert first == InMemory(Numbered(), batch_size=3, seed=8).fingerprint()
    other = InMemory(Numbered())
    other.stored["test"][0][3, 1, 2, 4] += 1
    assert other.fingerprint() != first


def test_digits_are_real_stratified_and_complete() -> None:
    """1797 images, a fixed fifth of every class for testing, mean and std as the spec says."""
    sets = Digits().read()
    images = torch.cat([sets["train"][0], sets["test"][0]]).float()
    assert (len(sets["train"][0]), len(sets["test"][0])) == (
        Digits.spec.train_samples,
        Digits.spec.test_samples,
    )
    assert (float(images.min()), float(images.max()), len(images)) == (0, 255, 1797)
    train = sets["train"][0].float()
    assert float(train.mean()) == pytest.approx(Digits.spec.mean[0], abs=0.1)
    assert float(train.std()) == pytest.approx(Digits.spec.std[0], abs=0.1)
    shares = [
        int((sets["test"][1] == k).sum()) / int((sets["train"][1] == k).sum()) for k in range(10)
    ]
    assert all(share == pytest.approx(0.25, abs=0.01) for share in shares)
