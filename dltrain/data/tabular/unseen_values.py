"""Logs which values of a table the training rows did not have, and what fills missing ones."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dltrain.data.tabular.column_plan import join_names
from dltrain.data.tabular.encoding import Encoder
from dltrain.data.tabular.table import Table

log = logging.getLogger("dltrain")
MAX_TEXTS_SHOWN = 3  # unknown ones of a column


def count_missing(table: Table, encoder: Encoder, rows: NDArray[np.int64]) -> dict[str, int]:
    """Return how many of the `rows` have no value, by the columns in which some have none."""
    counts = {name: int(table.columns[name].missing()[rows].sum()) for name in encoder.names}
    return {name: count for name, count in counts.items() if count}


def log_missing(table: str, encoder: Encoder, counts: Mapping[str, int], only_new: bool) -> None:
    """Log in one line what fills missing values, by the `counts` of each column.

    With `only_new`, only columns that had all values in training count.
    """
    known = encoder.indicators if only_new else []
    counts = {name: count for name, count in counts.items() if count and name not in known}
    if not counts:
        return
    how = "an input for each column that lacks values in training says where"
    if only_new:
        how = "the columns had all values in training, so no input says where they are missing"
    log.warning(
        f"{table}: missing values filled (dataset.missing=auto): "
        f"{describe_fills(encoder, counts)}; {how}"
    )


def describe_fills(encoder: Encoder, counts: Mapping[str, int]) -> str:
    """Return how many values of each column are filled, and with what."""
    fills = encoder.fill_texts
    columns = [f"{name} {counts[name]:,} (by {fills[name]})" for name in counts if name in fills]
    return join_names(columns)


def log_unknown(table: Table, encoder: Encoder) -> None:
    """Log for each category of `table` which texts the training rows do not have."""
    for category in encoder.categories:
        counts = category.unknown(table.columns[category.name])
        log_unknown_texts(table.name, category.name, counts, len(table))


def log_unknown_texts(table: str, column: str, counts: Mapping[str, int], rows: int) -> None:
    """Log how many values of a column are unknown, and the most frequent of them.

    `counts` says how often each unknown text occurs, most frequent first.
    """
    if not counts:
        return
    first = itertools.islice(counts.items(), MAX_TEXTS_SHOWN)
    shown = ", ".join(f"{text!r} ({count:,})" for text, count in first)
    if len(counts) > MAX_TEXTS_SHOWN:
        shown += f" and {len(counts) - MAX_TEXTS_SHOWN:,} more"
    total = sum(counts.values())
    log.warning(
        f"{table}: {total:,} of {rows:,} values in column '{column}' ({total / rows:.0%}) are not "
        f"among the training rows and count as unknown: {shown}"
    )
