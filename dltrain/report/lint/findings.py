"""A finding of lint: a message, and the samples or columns that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dltrain.types import ReportTable

COLUMNS = ("finding", "place", "other", "detail")
MAX_EXAMPLES = 10  # of a finding, on the screen; --json has all


@dataclass(frozen=True)
class Example:
    """A place that a finding is about: a sample or a column, and another one that it is like."""

    place: str
    other: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """A fault of a data set: its kind, a message with what to do, and its places."""

    kind: str
    message: str
    examples: Sequence[Example] = ()


def finding_table(
    findings: Sequence[Finding], max_examples: int | None = MAX_EXAMPLES
) -> ReportTable:
    """Return a table of the places of all findings, at most so many of each; None for all."""
    rows = [
        (one.kind, example.place, example.other, example.detail)
        for one in findings
        for example in one.examples[:max_examples]
    ]
    title = "places that lint names"
    if len(rows) < sum(len(one.examples) for one in findings):
        title += f" ({max_examples} of a finding; --json has all)"
    return ReportTable("lint", COLUMNS, rows, title)
