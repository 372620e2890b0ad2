"""Brings batches to the device on which a task computes.

Batches of a set that lives on the device are there already. Those of a set in the host's memory are
gathered by a thread, ahead of the step, and copied while the step before them runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from queue import Full, Queue
from typing import Any, Protocol

import torch
from torch import Tensor

from dltrain.engine import Feed

GATHERED_AHEAD = 3  # batches that the thread holds ready
COPIED_AHEAD = 2  # batches whose copies are under way
POLL_SECONDS = 0.1  # until the thread looks whether it is still needed
END = object()


class Copier(Protocol):
    """Copies host batches to a device beside the computation."""

    def pin(self, batch: Any) -> Any:
        """Return a batch from whose memory the device can copy without the host's help."""

    def start(self, batch: Any) -> Any:
        """Start the copy of a pinned batch, and return the copy, which may not be complete."""

    def finish(self, copy: Any) -> None:
        """Let the computation that is requested from here on wait for `copy`."""


class StreamCopier:
    """Copies batches on a CUDA stream of its own.

    torch's allocator does not reuse the memory of a pinned batch before its copy is complete.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.events: deque[torch.cuda.Event] = deque()

    def pin(self, batch: Any) -> Any:
        """Return the batch in page-locked memory."""
        return mapped(batch, Tensor.pin_memory)

    def start(self, batch: Any) -> Any:
        """Start the copy on the copier's stream."""
        with torch.cuda.stream(self.stream):
            copy = moved(batch, self.device)
            event = torch.cuda.Event()
            event.record()
        self.events.append(event)
        return copy

    def finish(self, copy: Any) -> None:
        """Let the current stream wait for the oldest copy, which is `copy`."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(self.events.popleft())
        # The memory belongs to the copier's stream: it is free only after the current one used it.
        mapped(copy, lambda tensor: tensor.record_stream(current))


class DeviceFeed(Feed):
    """Brings batches (tensors in tuples, lists, dicts) to a device without waiting for it.

    Batches with tensors in the host's memory are fetched ahead by a thread, where the device has a
    `copier`. Other batches are requested one by one, when they are needed: those of an environment
    depend on what was learned from the batch before.
    """

    def __init__(self, device: torch.device, copier: Copier | None = None) -> None:
        self.device = device
        self.copier = copier

    @classmethod
    def of(cls, device: torch.device) -> DeviceFeed:
        """Return the feed of a device; a CUDA device copies beside its computation."""
        if device.type == "cuda":
            return cls(device, StreamCopier(device))
        return cls(device)

    def move(self, batch: Any) -> Any:
        """Return one batch on the device."""
        return moved(batch, self.device)

    def batches(self, batches: Iterator[Any], ahead: bool = True) -> Iterator[Any]:
        """Yield the batches of an epoch on the device."""
        copier = self.copier
        if copier is None or not ahead:
            yield from map(self.move, batches)
            return
        first = next(batches, END)
        if first is END:
            return
        if not on_host(first):
            yield self.move(first)
            yield from map(self.move, batches)
            return
        with closing(Gathering(preceded_by(first, batches), copier.pin)) as gathering:
            yield from copied_ahead(gathering, copier)


def copied_ahead(batches: Iterator[Any], copier: Copier) -> Iterator[Any]:
    """Yield copies of pinned batches, each started while earlier ones are in use.

    An error of `batches` is raised once the batches before it are used.
    """
    copies: deque[Any] = deque()
    error: Exception | None = None
    try:
        for batch in batches:
            copies.append(copier.start(batch))
            if len(copies) > COPIED_AHEAD:
                yield finished(copies.popleft(), copier)
    except Exception as e:
        error = e
    while copies:
        yield finished(copies.popleft(), copier)
    if error is not None:
        raise error


def finished(copy: Any, copier: Copier) -> Any:
    """Return a copy that the computation may use from here on."""
    copier.finish(copy)
    return copy


@dataclass(frozen=True)
class Failure:
    """An error that ended the gathering of batches."""

    error: BaseException


class Gathering(Iterator[Any]):
    """The batches of an iterator, gathered and prepared by a thread ahead of their use.

    An error of the iterator is raised in its turn. `close` ends the thread; it is needed where the
    batches are not used up.
    """

    def __init__(self, batches: Generator[Any, None, None], prepare: Callable[[Any], Any]) -> None:
        self.batches = batches
        self.prepare = prepare
        self.ready: Queue[Any] = Queue(GATHERED_AHEAD)
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._gather, name="batches", daemon=True)
        self.thread.start()

    def _gather(self) -> None:
        try:
            with closing(self.batches):
                for batch in self.batches:
                    if not self._put(self.prepare(batch)):
                        return
            self._put(END)
        except BaseException as e:  # to be raised where the batch is used
            self._put(Failure(e))

    def _put(self, item: Any) -> bool:
        """Hand over an item once there is room; return False if nobody needs it any more."""
        while not self.closed.is_set():
            try:
                self.ready.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
            return True
        return False

    def __next__(self) -> Any:
        item = self.ready.get()
        if item is END:
            self.close()
            raise StopIteration
        if isinstance(item, Failure):
            self.close()
            raise item.error
        return item

    def close(self) -> None:
        """End the thread and wait for it."""
        self.closed.set()
        self.thread.join()


def preceded_by(first: Any, others: Iterator[Any]) -> Generator[Any, None, None]:
    """Yield `first`, then the others."""
    yield first
    yield from others


def on_host(batch: Any) -> bool:
    """Return whether a batch has a tensor in the host's memory."""
    if isinstance(batch, Tensor):
        return batch.device.type == "cpu"
    if isinstance(batch, dict):
        return any(map(on_host, batch.values()))
    if isinstance(batch, tuple | list):
        return any(map(on_host, batch))
    return False


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch (tensors in tuples, lists, dicts) on a device."""
    return mapped(batch, lambda tensor: tensor.to(device, non_blocking=True))


def mapped(batch: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return a batch with `function` applied to each of its tensors."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {key: mapped(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(mapped(value, function) for value in batch)
    return batch
