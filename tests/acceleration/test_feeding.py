"""Batches of the host are gathered and copied ahead of their use; others are left as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dltrain.acceleration.feeding import (
    COPIED_AHEAD,
    GATHERED_AHEAD,
    DeviceFeed,
    mapped,
    moved,
)
from dltrain.acceleration.placing import fitting_device
from dltrain.device import Device
from dltrain.engine import Engine
from dltrain.errors import InputError
from tests.waits import META, NoBlockingCopies, WaitError

MOST_AHEAD = COPIED_AHEAD + GATHERED_AHEAD + 2  # and one in the hands of each side


class FakeCopier:
    """Copies to the meta device, and notes what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def pin(self, batch: Any) -> Any:
        self.calls.append(("pin", len(batch[0])))
        return batch

    def start(self, batch: Any) -> Any:
        self.calls.append(("start", len(batch[0])))
        return moved(batch, META)

    def finish(self, copy: Any) -> None:
        self.calls.append(("finish", len(copy[0])))


class Source:
    """Batches of growing size, whose requests are counted."""

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.count = count
        self.fails_at = fails_at
        self.requested = 0
        self.closed = False

    def epoch(self) -> Iterator[Any]:
        try:
            for number in range(1, self.count + 1):
                self.requested += 1
                if number == self.fails_at:
                    raise InputError("cat.jpg cannot be read (row 7 of the set)")
                yield torch.zeros(number, 2), {"y": torch.zeros(number)}
        finally:
            self.closed = True


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.name == "batches"]
    assert not left


def test_host_batches_come_in_order_and_on_the_device() -> None:
    copier = FakeCopier()
    batches = list(DeviceFeed(META, copier).batches(Source(9).epoch()))
    assert [len(inputs) for inputs, _ in batches] == list(range(1, 10))
    assert all(inputs.device == META and rest["y"].device == META for inputs, rest in batches)
    for kind in ("pin", "start", "finish"):
        assert [size for name, size in copier.calls if name == kind] == list(range(1, 10))


def test_a_copy_starts_before_earlier_batches_are_used_and_never_far_ahead() -> None:
    source = Source(100)
    copier = FakeCopier()
    feed = DeviceFeed(META, copier).batches(source.epoch())
    for used in range(1, 20):
        next(feed)
        started = sum(name == "start" for name, _ in copier.calls)
        assert started == used + COPIED_AHEAD
        assert source.requested <= used + MOST_AHEAD
    feed.close()  # type: ignore[attr-defined]
    assert source.closed


def test_an_error_of_the_data_comes_in_its_turn_with_its_message() -> None:
    source = Source(9, fails_at=4)
    feed = DeviceFeed(META, FakeCopier()).batches(source.epoch())
    assert [len(next(feed)[0]) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(InputError, match=r"cat\.jpg cannot be read \(row 7 of the set\)"):
        next(feed)


def test_batches_on_the_device_are_requested_one_by_one() -> None:
    requested = []

    def epoch() -> Iterator[Any]:
        for number in range(3):
            requested.append(number)
            yield torch.zeros(2, device=META), None

    feed = DeviceFeed(META, FakeCopier()).batches(epoch())
    next(feed)
    assert requested == [0]
    next(feed)
    assert requested == [0, 1]


class Acts:
    """A batch that acts in an environment; it has no tensors."""


def test_batches_without_tensors_are_never_fetched_ahead() -> None:
    made = []

    def epoch() -> Iterator[Acts]:
        for _ in range(3):
            made.append(Acts())
            yield made[-1]

    feed = DeviceFeed(META, FakeCopier()).batches(epoch())
    assert next(feed) is made[0]
    assert len(made) == 1


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_short_epochs(batches: int) -> None:
    assert len(list(DeviceFeed(META, FakeCopier()).batches(Source(batches).epoch()))) == batches


def test_stateful_batches_are_not_fetched_ahead() -> None:
    """The engine asks for batches ahead only where their state does not depend on it."""
    source = Source(9)
    feed = DeviceFeed(META, FakeCopier()).batches(source.epoch(), ahead=False)
    next(feed)
    assert source.requested == 1


def test_a_run_that_is_halted_leaves_no_thread() -> None:
    engine = Engine(feed=DeviceFeed(META, FakeCopier()))
    for number, _ in enumerate(engine.feed.batches(Source(50).epoch())):
        if number == 3:
            break


def test_without_a_copier_each_batch_is_moved() -> None:
    source = Source(5)
    feed = DeviceFeed(META).batches(source.epoch())
    inputs, rest = next(feed)
    assert inputs.device == META
    assert rest["y"].device == META
    assert source.requested == 1


def test_mapped_keeps_the_structure() -> None:
    batch = (torch.ones(2), [torch.ones(1), "name"], {"k": torch.ones(3)}, None)
    doubled = mapped(batch, lambda tensor: tensor * 2)
    assert doubled[0].tolist() == [2, 2]
    assert doubled[1][1] == "name"
    assert doubled[2]["k"].sum() == 6
    assert doubled[3] is None


def test_a_set_that_does_not_fit_stays_on_the_host(caplog: pytest.LogCaptureFixture) -> None:
    cuda = torch.device("cuda")
    gib = 2**30
    assert fitting_device(cuda, 4 * gib, lambda device: 8 * gib) == cuda
    with caplog.at_level("INFO", logger="dltrain"):
        assert fitting_device(cuda, 5 * gib, lambda device: 8 * gib).type == "cpu"
    assert "5.0 GiB" in caplog.text
    assert "8.0 GiB free" in caplog.text


@pytest.mark.parametrize("choice", ["auto", "device", "host"])
def test_on_a_cpu_the_size_is_not_even_asked_for(choice: Any) -> None:
    def unknown() -> int:
        raise AssertionError("the size is not needed")

    assert Device(name="cpu", data=choice).data_device(unknown).type == "cpu"


def test_blocking_copies_are_found() -> None:
    """The instrument works: it tells a copy that waits from one that does not."""
    values = torch.zeros(3)
    with NoBlockingCopies():
        values.to(META, non_blocking=True)
        with pytest.raises(WaitError):
            values.to(META)
        with pytest.raises(WaitError):
            torch.empty(3, device=META).copy_(values)
