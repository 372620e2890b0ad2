"""Predictions of a trained run: a row for each sample, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Engine, Task
from dltrain.errors import UsageError
from dltrain.report.explanations import Explainer
from dltrain.report.predictions import Row, beside
from dltrain.runs.open import averaged_weights
from dltrain.types import PAD, PredictionRows, PredictsPlaces
from dltrain.types.boxes import HEIGHT, WIDTH
from dltrain.types.own_code import MisfitError, described_class

BATCH_SIZE = 128


def predicted_rows(
    engine: Engine, samples: Iterator[tuple[Row, Tensor]], explainer: Explainer | None = None
) -> Iterator[Row]:
    """Yield a row for each sample; the `explainer` draws why."""
    with averaged_weights(engine):
        while batch := list(islice(samples, BATCH_SIZE)):
            inputs = engine.move(stacked([x for _, x in batch]))
            rows = batch_rows(engine.task, inputs, engine.autocast, [about for about, _ in batch])
            if explainer is not None:
                rows = explainer(inputs, rows)
            yield from rows


def batch_rows(
    task: Task, inputs: Tensor, autocast: AbstractContextManager[Any], about: list[Row]
) -> list[Row]:
    """Return a row for each of the inputs (B, ...): what is known `about` it, and its prediction.

    The task is in evaluation mode.
    """
    with torch.no_grad(), autocast:
        outputs = task.predict(inputs)
    if isinstance(task, PredictionRows):
        predictions = task.prediction_rows(outputs)
        require_rows(task, predictions, len(about))
    else:
        predictions = numbered(outputs)
    if isinstance(task, PredictsPlaces):
        return [placed_row(task, known, row) for known, row in zip(about, predictions, strict=True)]
    return [beside(known, row) for known, row in zip(about, predictions, strict=True)]


def placed_row(task: PredictsPlaces, known: Row, prediction: Row) -> Row:
    """Return what is known about an image, and its prediction in pixels of the image's file.

    The prediction stays in pixels of the inputs where the size of the file is not known.
    """
    if WIDTH not in known or HEIGHT not in known:
        return beside(known, prediction)
    others = {name: value for name, value in known.items() if name not in (WIDTH, HEIGHT)}
    return beside(others, task.in_file_pixels(prediction, known[WIDTH], known[HEIGHT]))


def require_rows(task: PredictionRows, rows: Any, count: int) -> None:
    """Raise MisfitError unless a task described each of `count` inputs in a row, a mapping."""
    name = f"{described_class(task)}: prediction_rows()"
    if not isinstance(rows, list):
        raise MisfitError(f"{name} returns a {type(rows).__name__}; a list is needed", task)
    if len(rows) != count:
        raise MisfitError(f"{name} returns {len(rows)} rows for {count} inputs", task)


def stacked(inputs: list[Tensor]) -> Tensor:
    """Return one batch of inputs; sequences of different lengths are padded with `PAD`."""
    if len({x.shape for x in inputs}) == 1:
        return torch.stack(inputs)
    return torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=PAD)


def numbered(outputs: Any) -> list[Row]:
    """Return the raw outputs (B, ...) of a task that does not say what they mean, a row each.

    Raises UsageError if they are not such a tensor.
    """
    if not isinstance(outputs, Tensor) or not outputs.ndim:
        raise UsageError(
            "this task predicts no row for each input: it needs a method prediction_rows(outputs)"
        )
    values = outputs.float()
    values = values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)  # (B, N)
    columns = [f"output_{i}" for i in range(1, values.shape[1] + 1)]
    return [dict(zip(columns, row, strict=True)) for row in values.tolist()]
