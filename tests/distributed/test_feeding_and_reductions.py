"""Batches are divided exactly, and gradients are combined no more often than needed."""

from __future__ import annotations

import pytest
import torch
from test_equal_to_one_process import alone, require_equal, trained
from torch.nn.parallel import DistributedDataParallel

import dltrain
from dltrain.distributed.feeding import DividingFeed
from dltrain.distributed.gradients import DataParallel
from dltrain.engine import Feed
from dltrain.types.rows import Share

MLP = ("model=mlp", "model.hidden_sizes=[32]")


class ListedBatches:
    """Batches of a list."""

    batch_size = 4
    samples = 11

    def __init__(self, batches):
        self.all = batches

    def __len__(self):
        return len(self.all)

    def epoch(self, number, start=0):
        return iter(self.all[start:])

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_parts_of_batches_are_the_batches() -> None:
    batches = [
        {"x": torch.arange(size), "pair": (torch.arange(size) + 1, torch.tensor(3))}
        for size in (4, 4, 3)
    ]
    feeds = [DividingFeed(Feed(), Share(rank, 2)) for rank in range(2)]
    parts = [list(feed.training(ListedBatches(batches), 0, 1)) for feed in feeds]
    for whole, first, second in zip(batches[1:], *parts, strict=True):
        assert torch.cat([first["x"], second["x"]]).equal(whole["x"])
        assert torch.cat([first["pair"][0], second["pair"][0]]).equal(whole["pair"][0])
        assert first["pair"][1] == second["pair"][1] == 3
    assert feeds[1].step_rows.first == 2
    assert feeds[1].step_rows.total == 3


def test_a_process_without_a_row_gets_one_that_does_not_count() -> None:
    feed = DividingFeed(Feed(), Share(2, 3))
    (part,) = feed.training(ListedBatches([torch.tensor([7, 8])]), 0, 0)
    assert part.tolist() == [7]
    assert feed.step_rows.is_empty


@pytest.mark.parametrize("batch_size", [101, 1294])
def test_uneven_batches_and_tails(batch_size: int, torchrun: None) -> None:
    words = (*MLP, f"dataset.batch_size={batch_size}")
    with alone():
        one = trained(words)
    require_equal(one, trained(words))


def test_accumulation_combines_once_for_each_update(
    torchrun: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"backward": 0, "after": 0}
    forward, average = DistributedDataParallel.forward, DataParallel.average

    def counted_forward(self, *args):
        counts["backward"] += 1
        return forward(self, *args)

    def counted_average(self, params):
        counts["after"] += 1
        return average(self, params)

    monkeypatch.setattr(DistributedDataParallel, "forward", counted_forward)
    monkeypatch.setattr(DataParallel, "average", counted_average)
    settings = ("trainer.accumulate=4", "trainer.steps=20", "dataset.epochs=1", "callbacks=quiet")
    dltrain.train(*MLP, *settings, "device.process_timeout=20")
    assert counts == {"backward": 4, "after": 1}  # 5 updates; the first one learns what there is
