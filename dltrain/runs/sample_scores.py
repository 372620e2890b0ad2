"""The scores of every sample of a split, for `evaluate RUN --out FILE`."""

from __future__ import annotations

import heapq
import json
import math
from array import array
from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.files import to_json
from dltrain.runs.open import evaluation_mode
from dltrain.types import Data, NamesSamples, ScoresSamples

Row = dict[str, Any]
Split = Literal["train", "val", "test"]


def require_sample_scores(task: object) -> ScoresSamples:
    """Return the task; UsageError if it has no loss of a single sample."""
    if not isinstance(task, ScoresSamples):
        raise UsageError(
            f"{type(task).__name__} has no loss of a single sample, which --out and --worst show; "
            "classification, regression, forecasting, detection, translation, language models and "
            "autoencoders have"
        )
    return task


def sample_names(data: Data, split: str) -> Iterator[str]:
    """Yield the name of each sample of a split; its number for data that knows no names."""
    if isinstance(data, NamesSamples):
        return data.sample_names(cast(Split, split))
    return (f"{split}/{number}" for number in count())


def sample_rows(engine: Engine, data: Data, split: str) -> Iterator[Row]:
    """Yield the name and the scores of each sample of a split, as the task is scored.

    UsageError for a task that has no loss of a single sample.
    """
    task = require_sample_scores(engine.task)
    batches = getattr(data, split).epoch(0)
    with evaluation_mode(engine):
        rows = task.sample_rows(map(engine.move, batches))
        for name, row in zip(sample_names(data, split), rows, strict=False):
            yield {"input": name, **row}


def worst(rows: Iterator[Row], number: int) -> list[Row]:
    """Return the rows of the greatest loss, the greatest first; NaN is the worst of all."""
    return heapq.nlargest(number, rows, key=badness)


def badness(row: Row) -> float:
    """Return the loss of a row, infinity for one that is not a number."""
    loss = row["loss"]
    if loss is None or math.isnan(loss):
        return math.inf
    return float(loss)


def worst_first(rows: Iterator[Row], spool: BinaryIO) -> Iterator[Row]:
    """Yield the rows by their loss, the greatest first.

    They wait in the file `spool`, so that memory holds two numbers of each row.
    """
    losses = array("d")
    places = array("q")
    for row in rows:
        losses.append(badness(row))
        places.append(spool.tell())
        spool.write(to_json(row).encode() + b"\n")
    order = np.argsort(-np.asarray(losses), kind="stable")
    for number in order.tolist():
        spool.seek(places[number])
        yield json.loads(spool.readline())
