"""The base class of data sets: reading once, descriptions of runs, files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.dataset import (
    Dataset,
    Part,
    TensorSets,
    class_numbers,
    require,
    unknown_classes,
)
from dltrain.data.repeated import Repeated
from dltrain.data.split import Split
from dltrain.errors import InputError
from dltrain.types import BatchSize, Continues, Sample, Spec


class Numbers(Dataset[TensorSets, float, Split]):
    """Ten numbers for training and four for testing, which are divided by their largest."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.reads = 0

    @property
    def spec(self) -> Spec:
        return Spec((1,), (), 10, 4, target_names=("y",))

    def read(self) -> TensorSets:
        self.reads += 1
        largest = self.learned or 9.0
        numbers = torch.arange(10.0).unsqueeze(1) / largest
        return TensorSets(train=(numbers, numbers), test=(numbers[:4], numbers[:4]))

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> Split:
        inputs, targets = self.stored["test" if part == "test" else "train"]
        return Split(inputs, targets, torch.arange(len(inputs)), self.spec, batch_size, seed)

    def count_classes(self) -> tuple[int, ...]:
        return ()

    def expected_size_in_bytes(self) -> int:
        return 1

    def fake(self) -> Numbers:
        return self

    def description(self) -> dict[str, Any]:
        return {"largest": self.learned or 9.0}

    def parse(self, description: dict[str, Any]) -> float:
        largest = float(description["largest"])
        require(largest > 0, "largest is not positive")
        return largest

    def encode_file(self, path: Path) -> Iterator[Sample]:
        if path.suffix != ".txt":
            raise InputError(f"{path} is not a text")
        yield Sample(str(path), torch.ones(1))


def test_data_is_read_once_when_it_is_first_used() -> None:
    data = Numbers(batch_size=5, eval_batch_size=2, seed=3)
    data.to(torch.device("cpu"))
    assert (data.is_read, data.reads, data.size_in_bytes()) == (False, 0, 1)
    assert data.train is data.train
    assert (data.train.batch_size, data.val.batch_size, data.test.batch_size) == (5, 2, 2)
    assert (data.train.seed, data.val.seed, data.test.seed) == (3, None, None)
    assert data.fingerprint() == Numbers().fingerprint()
    assert (data.is_read, data.reads, data.size_in_bytes()) == (True, 1, 2 * 4 * (10 + 4))


def test_a_restored_run_decides_how_data_is_read() -> None:
    data = Numbers()
    assert data.is_training
    data.restore({"largest": 18})
    assert (data.learned, data.is_training) == (18.0, False)
    assert float(data.stored["train"][0].max()) == 0.5
    assert data.description() == {"largest": 18.0}


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ({}, "it has no 'largest'"),
        ([], "it is not a mapping"),
        ({"largest": None}, "float"),
        ({"largest": "wide"}, "could not convert"),
        ({"largest": -1}, "largest is not positive"),
    ],
)
def test_a_malformed_description_is_refused(description: Any, problem: str) -> None:
    data = Numbers()
    with pytest.raises(InputError, match=rf"manifest\.json is invalid: .*{problem}"):
        data.restore(description)
    assert (data.learned, data.is_training) == (None, True)


def test_a_file_that_cannot_be_read_does_not_hide_the_others() -> None:
    samples = list(Numbers().encode([Path("a.txt"), Path("b.bin"), Path("c.txt")]))
    assert [sample.problem for sample in samples] == ["", "b.bin is not a text", ""]
    assert [sample.inputs is None for sample in samples] == [False, True, False]


def test_classes_are_matched_by_name() -> None:
    assert class_numbers(("dog", "cat", "owl"), ("cat", "dog")) == [1, 0, -1]
    error = unknown_classes(["owl", "Cat "], ("cat", "dog"))
    assert str(error) == "the run knows no class owl, Cat  (it knows cat); its classes are cat, dog"


def test_a_fingerprint_names_every_value_and_type() -> None:
    numbers = torch.arange(4.0)
    first = TensorSets(train=(numbers, numbers)).fingerprint()
    assert TensorSets(train=(numbers.clone(), numbers)).fingerprint() == first
    others = (
        TensorSets(test=(numbers, numbers)),
        TensorSets(train=(numbers.double(), numbers)),
        TensorSets(train=(numbers.view(2, 2), numbers)),
        TensorSets(train=(numbers + 1, numbers)),
    )
    assert first not in {other.fingerprint() for other in others}


def test_repeated_data_is_one_batch_of_the_data() -> None:
    data = Numbers(batch_size=4, seed=1)
    repeated = Repeated(data)
    assert repeated.fingerprint() == data.fingerprint()
    first = next(iter(data.train.epoch(0)))
    batches = list(repeated.train.epoch(7))
    assert (len(batches), repeated.train.batch_size, repeated.test.samples) == (50, 4, 4)
    assert all(torch.equal(batch[0], first[0]) for batch in batches)
    assert list(repeated.val.epoch(0)) == []
    assert not isinstance(repeated, Continues)
