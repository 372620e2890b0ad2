"""Fake data of any described shape, for `check`, `debug=smoke` and `predict`."""

from __future__ import annotations

import pytest

from dltrain.data.fake import MAX_CLASSES, Fake
from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.synthetic import Synthetic
from dltrain.data.text.fake_tokens import FakeTokens
from dltrain.types import Data, Spec

MANY = tuple(f"class {k}" for k in range(20_000))


@pytest.mark.parametrize(
    "data",
    [
        InMemory(Synthetic(height=8, width=8, num_classes=20_000), batch_size=16).fake(),
        Fake(Spec((5,), MANY, 0, 0), 16, seed=0),
        FakeTokens(Spec((100,), MANY, 0, 0, vocab_size=50), 16, seed=0),
    ],
    ids=["images", "table", "texts"],
)
def test_fake_data_does_not_grow_with_the_classes(data: Data) -> None:
    """With four samples of each class there would be 80,000 images of 20,000 classes."""
    for split in (data.train, data.val, data.test):
        assert 0 < split.samples <= 4 * MAX_CLASSES
    assert data.spec.num_classes == 20_000
    assert data.size_in_bytes() < 2**20
    _, targets = next(data.train.epoch(0))
    assert int(targets.max()) < MAX_CLASSES
    assert sum(data.class_counts) == data.train.samples


def test_each_of_a_few_classes_occurs_in_every_split() -> None:
    data = InMemory(Synthetic(height=4, width=4, num_classes=30), batch_size=16).fake()
    for split in (data.train, data.val, data.test):
        assert min(split.class_counts(30)) > 0
