"""A network before and after compression, side by side: size, latency, and the table of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from dltrain.types import Table

BATCH_SIZES = (1, 64)
MAX_ROUNDS = 30
MIN_ROUNDS = 3
LARGE = 1000
SECONDS = 0.5  # of the timing of both networks at one batch size


def stored_bytes(model: nn.Module) -> int:
    """Return the bytes of all tensors in the state of a network, which a checkpoint stores."""
    tensors = [value for value in model.state_dict().values() if isinstance(value, Tensor)]
    return sum(value.numel() * value.element_size() for value in tensors)


def latencies(
    models: Sequence[nn.Module], inputs: Tensor, call: Callable[[nn.Module, Tensor], Tensor]
) -> list[float]:
    """Return the median milliseconds in which each of `models` answers `inputs` (B, ...).

    The models take turns, so that what else the machine does slows all of them.
    """
    times: list[list[float]] = [[] for _ in models]
    for model in models:
        call(model, inputs)  # packs weights, and makes the device ready
    start = perf_counter()
    while len(times[0]) < MAX_ROUNDS:
        for model, milliseconds in zip(models, times, strict=True):
            before = perf_counter()
            call(model, inputs).flatten()[:1].tolist()  # which waits for the device
            milliseconds.append(1000 * (perf_counter() - before))
        if perf_counter() - start > SECONDS and len(times[0]) >= MIN_ROUNDS:
            break
    return [median(milliseconds) for milliseconds in times]


def of_size(inputs: Tensor, size: int) -> Tensor:
    """Return `size` rows of inputs (B, ...), again from the first where there are too few."""
    rows = torch.arange(size, device=inputs.device) % len(inputs)
    return inputs.index_select(0, rows)


def comparison(
    models: Mapping[str, nn.Module],
    scores: Mapping[str, Mapping[str, float]],
    inputs: Tensor,
    call: Callable[[nn.Module, Tensor], Tensor],
) -> Table:
    """Return a table with a row for each of `models`: its scores, bytes and latencies.

    `inputs` (B, ...) are those that the networks are timed with, `scores` the figures of each
    network by name.
    """
    networks = list(models.values())
    columns = {name: [row[name] for row in scores.values()] for name in next(iter(scores.values()))}
    columns["bytes"] = [float(stored_bytes(model)) for model in networks]
    for size in BATCH_SIZES:
        columns[f"ms, batch {size}"] = latencies(networks, of_size(inputs, size), call)
    return Table(
        torch.tensor(list(columns.values())).T,
        rows=tuple(models),
        columns=tuple(columns),
        row_title="network",
        note="latencies are medians, measured in turns",
        plain=tuple(columns),
    )


def described(table: Table) -> str:
    """Return a line with each figure of a table of two rows: before -> after."""
    parts = []
    for name, (before, after) in zip(table.columns, table.values.T.tolist(), strict=True):
        parts.append(f"{name} {figure(before)} → {figure(after)}")
    return "; ".join(parts)


def figure(value: float) -> str:
    """Return a number with four digits, a large one without a fraction."""
    return f"{value:,.0f}" if value >= LARGE else f"{value:.4g}"
