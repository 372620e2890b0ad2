"""The rows of a batch that this process trains on, where several processes share a run.

The batch of N processes is the batch of one, divided: process 0 has its first rows, and so on. A
random number that belongs to a row must be the same in any number of processes. So `random_rows`
draws for the whole batch and returns this process's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Draw: TypeAlias = Callable[[Sequence[int]], Tensor]
"""Draws random numbers of a shape."""


@dataclass(frozen=True)
class Share:
    """The part of one process, `rank`, in the batches of `processes` processes."""

    rank: int = 0
    processes: int = 1

    def rows(self, total: int) -> slice:
        """Return this process's rows of a batch of `total`; the first shares may have one more."""
        smallest, larger_shares = divmod(total, self.processes)
        first = self.rank * smallest + min(self.rank, larger_shares)
        count = smallest + int(self.rank < larger_shares)
        return slice(first, first + count)


@dataclass(frozen=True)
class StepRows:
    """The rows of the current step: `count` of a batch of `total`, from row `first` on.

    `total` is 0 for a batch that every process has as a whole.
    """

    share: Share
    first: int = 0
    count: int = 0
    total: int = 0

    @classmethod
    def of(cls, share: Share, total: int) -> StepRows:
        """Return the rows of a share in a divided batch of `total`."""
        rows = share.rows(total)
        return cls(share, rows.start, rows.stop - rows.start, total)

    @property
    def rows(self) -> slice:
        """The rows of this process."""
        return slice(self.first, self.first + self.count)

    @property
    def is_empty(self) -> bool:
        """True if the batch has fewer rows than there are processes, and none for this one."""
        return self.total > 0 and not self.count


class _Current:
    """The rows of the step that runs now, and the generator state that all processes share."""

    def __init__(self) -> None:
        self.step: StepRows | None = None
        self.common: torch.Tensor | None = None
        self.device = torch.device("cpu")
        self.sum: Callable[[Tensor], Tensor] = torch.clone


_current = _Current()


def own_rows(total: int) -> slice:
    """Return this process's rows of `total`, of a batch that every process has as a whole."""
    if _current.step is None:
        return slice(0, total)
    return _current.step.share.rows(total)


def whole_rows(count: int) -> tuple[int, int]:
    """Return the number of rows of the whole batch, and the first of this process's `count` rows.

    `count` may be a multiple of the batch's rows, such as tokens. Rows of a tensor that does not
    follow the batch are all of the batch.
    """
    step = _current.step
    if step is None or not step.total:
        return count, 0
    rows = max(step.count, 1)  # a process without a row computes with the first one
    if count % rows:
        return count, 0
    factor = count // rows
    first = 0 if step.is_empty else step.first
    return step.total * factor, first * factor


class CommonGeneratorBefore(AbstractContextManager[None]):
    """Draws within the block what was drawn after this was made: the same numbers again."""

    def __init__(self) -> None:
        self.before = _current.common
        self.after: Tensor | None = None

    def __enter__(self) -> None:
        self.after = _current.common
        _current.common = self.before

    def __exit__(self, *_: object) -> None:
        _current.common = self.after


def random_rows(draw: Draw, shape: Sequence[int]) -> Tensor:
    """Return this process's rows of `draw` for the whole batch.

    `shape` (B, ...) is that of this process's rows. `draw` uses a generator that has the same state
    in all processes, such as a named one of `dltrain.rng`.
    """
    total, first = whole_rows(shape[0])
    if total == shape[0]:
        return draw(shape)
    return draw((total, *shape[1:]))[first : first + shape[0]]


def random_rows_by_default(draw: Draw, shape: Sequence[int]) -> Tensor:
    """Return this process's rows of `draw`, which uses torch's global generator, for the batch."""
    if _current.common is None:
        return draw(shape)
    with common_generator():
        return random_rows(draw, shape)


@contextmanager
def common_generator() -> Iterator[None]:
    """Draw from the state of torch's global generator that all processes share, within the block.

    Everything else that a step draws differs from process to process.
    """
    common = _current.common
    if common is None:
        yield
        return
    own = global_state(_current.device)
    set_global_state(_current.device, common)
    try:
        yield
    finally:
        _current.common = global_state(_current.device)
        set_global_state(_current.device, own)


@contextmanager
def same_rows() -> Iterator[None]:
    """Draw for rows that do not follow the batch: all processes have the same ones."""
    step = _current.step
    _current.step = None
    try:
        yield
    finally:
        _current.step = step


def counting_by(count: Tensor) -> Tensor:
    """Return the factor () of a mean over `count` () things, which vary in number from row to row.

    The gradients of the processes count by their rows. With this factor the result is the mean over
    the things of all processes, such as the boxes of all images. It is 1 in one process.
    """
    step = _current.step
    if step is None or not step.total:
        return torch.ones_like(count)
    total = _current.sum(count * (not step.is_empty)).clamp(min=1)
    return count * (step.total / max(step.count, 1)) / total


@contextmanager
def dividing(
    step: StepRows,
    device: torch.device,
    own_seed: int,
    sum_over_processes: Callable[[Tensor], Tensor],
) -> Iterator[None]:
    """Run a step of several processes on these rows.

    Within the block the global generator of `device` starts from `own_seed`, so that the masks of
    layers that know no rows differ from process to process. After it the generator continues with
    what all processes have drawn together.
    """
    _current.step = step
    _current.device = device
    _current.sum = sum_over_processes
    _current.common = global_state(device)
    seed_global(device, own_seed)
    try:
        yield
    finally:
        set_global_state(device, _current.common)
        _current.step = None
        _current.common = None


def global_state(device: torch.device) -> Tensor:
    """Return the state of torch's global generator of a device."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def set_global_state(device: torch.device, state: Tensor) -> None:
    """Set the state of torch's global generator of a device."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def seed_global(device: torch.device, seed: int) -> None:
    """Seed torch's global generator of a device."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
