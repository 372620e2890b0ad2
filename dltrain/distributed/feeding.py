"""Divides the batches of training among the processes of a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from dltrain.engine import Batches, Feed, Stage
from dltrain.types import SharesRows
from dltrain.types.abilities import KeepsBatchesWhole
from dltrain.types.rows import Share, StepRows

EvaluationBy: TypeAlias = Callable[[Stage, Batches, str], AbstractContextManager[Iterator[Any]]]
"""Gives the batches of an evaluation of a stage, over the named split, within a block."""


class DividingFeed(Feed):
    """Brings this process's rows of each training batch to the device, by `feed`.

    `step_rows` are those of the batch that was handed out last. A process that has no row of a
    small batch gets the first one, and its step counts nothing. Batches of an evaluation are whole;
    `before_evaluation` is called before them, and `evaluate_by` gives those of this process.
    """

    def __init__(self, feed: Feed, share: Share) -> None:
        self.feed = feed
        self.share = share
        self.step_rows = StepRows(share)
        self.before_evaluation: Callable[[], None] = lambda: None
        self.evaluate_by: EvaluationBy = super().evaluation

    def move(self, batch: Any) -> Any:
        """Return one batch on the device."""
        return self.feed.move(batch)

    def batches(self, batches: Iterator[Any], ahead: bool = True) -> Iterator[Any]:
        """Return the whole batches of an evaluation on the device."""
        self.before_evaluation()
        return self.feed.batches(batches, ahead)

    def evaluation(
        self, stage: Stage, batches: Batches, split: str
    ) -> AbstractContextManager[Iterator[Any]]:
        """Give the batches of an evaluation that this process scores within the block."""
        return self.evaluate_by(stage, batches, split)

    def training(self, batches: Batches, number: int, start: int) -> Iterator[Any]:
        """Yield this process's rows of the batches of epoch `number` from position `start` on."""
        is_stateless = not batches.state_dict()
        all_rows: deque[StepRows] = deque()
        if isinstance(batches, KeepsBatchesWhole):
            divided = self._whole(batches.epoch(number, start), all_rows)
        elif isinstance(batches, SharesRows):
            divided = batches.shared_epoch(number, start, partial(self._next_rows, all_rows))
        else:
            divided = self._divided(batches.epoch(number, start), all_rows)
        for batch in self.feed.batches(divided, ahead=is_stateless):
            self.step_rows = all_rows.popleft()
            yield batch

    def _whole(self, batches: Iterator[Any], all_rows: deque[StepRows]) -> Iterator[Any]:
        for batch in batches:
            all_rows.append(StepRows(self.share))
            yield batch

    def _divided(self, batches: Iterator[Any], all_rows: deque[StepRows]) -> Iterator[Any]:
        for batch in batches:
            yield rows_of(batch, self._next_rows(all_rows, num_rows(batch)))

    def _next_rows(self, all_rows: deque[StepRows], total: int) -> slice:
        """Note this process's rows of the next batch, of `total`, and return those to train on."""
        rows = StepRows.of(self.share, total)
        all_rows.append(rows)
        return slice(0, 1) if rows.is_empty else rows.rows


def num_rows(batch: Any) -> int:
    """Return the number of rows B of a batch of tensors (B, ...) in tuples, lists, dicts."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else 0
    parts = batch.values() if isinstance(batch, dict) else batch
    return max(map(num_rows, parts))


def rows_of(batch: Any, rows: slice) -> Any:
    """Return some rows of a batch of tensors (B, ...) in tuples, lists, dicts."""
    if isinstance(batch, Tensor):
        return batch[rows] if batch.ndim else batch
    if isinstance(batch, dict):
        return {key: rows_of(value, rows) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(rows_of(value, rows) for value in batch)
    return batch
