"""Tables of many classes: which of the classes are shown, and by what rule."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from dltrain.types import Table

MAX_WHOLE_TABLE = 100  # classes up to which a table shows all
WORST = 20  # classes that are shown where not all are


def worst_in(table: Table, score: str, support: str) -> Table:
    """Return `table`; of more than `MAX_WHOLE_TABLE` classes it names the worst, to be shown alone.

    The worst have the lowest value in the column `score`; of equal ones those come first that have
    more samples, which the column `support` counts. A class without samples has no score.
    """
    if len(table.rows) <= MAX_WHOLE_TABLE:
        return table
    scores = table.values[:, table.columns.index(score)]
    counts = table.values[:, table.columns.index(support)]
    return replace(table, worst=lowest(scores, counts), rule=f"lowest {score}, most {support}")


def most_different(table: Table) -> Table:
    """Return `table`, of two columns; of many classes it names those whose columns differ most."""
    if len(table.rows) <= MAX_WHOLE_TABLE:
        return table
    difference = (table.values[:, 0] - table.values[:, 1]).abs()
    worst = difference.argsort(descending=True, stable=True)[:WORST]
    return replace(table, worst=tuple(worst.tolist()), rule="the largest difference")


def lowest(scores: Tensor, support: Tensor) -> tuple[int, ...]:
    """Return the indices of the `WORST` lowest scores (K,) with support (K,), lowest first."""
    known = (support > 0).nonzero().squeeze(1)
    known = known[support[known].argsort(descending=True, stable=True)]
    return tuple(known[scores[known].argsort(stable=True)[:WORST]].tolist())
