"""Sentences that compare the groups of a listing: runs that were started apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from dltrain.config.schema import as_yaml
from dltrain.runs.comparison.comparable import OTHER_DATA, Scored, basis_of, compared_part
from dltrain.runs.comparison.groups import BEST, FOLD_KEY, OVER, RunGroup, unit_name
from dltrain.runs.listing.columns import different_keys, different_values
from dltrain.runs.listing.rows import Row, finished_runs
from dltrain.runs.listing.summary import NAMED_GROUPS, RunSummary
from dltrain.runs.listing.values import short_name
from dltrain.sweeps.names import label_of

SPLITS = ("val/", "test/")
MAX_LABEL_KEYS = 6
OTHER_SETTINGS = (
    "groups whose runs differ in more than their seed are not compared; "
    "--group without keys divides them"
)


def verdicts(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Return what can be said of the differences between groups of finished runs.

    `keys` are those that the groups were made by; without them, the labels have the settings that
    differ between the runs.
    """
    finished = finished_rows(rows)
    repetitions = repeated_rows(finished)
    parts = comparable_parts(repetitions)
    lines: list[str] = []
    for part in parts:
        lines += part_lines(part, keys, heading_of(part, repetitions))
    if len(parts) > 1 and lines:
        lines.append(OTHER_DATA)
    if len(repetitions) < len(finished):
        lines.append(OTHER_SETTINGS)
    return list(dict.fromkeys(lines))


def finished_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with a run that was trained and tested."""
    return [row for row in rows if finished_runs(row.runs)]


def repeated_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose runs differ only in their seed and fold."""
    return [row for row in rows if row.is_repetition]


def comparable_parts(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows that can be compared with each other, together."""
    parts: dict[Hashable, list[Row]] = {}
    for row in rows:
        parts.setdefault(basis_of(scored(row, "")), []).append(row)
    return list(parts.values())


def part_lines(rows: Sequence[Row], keys: Sequence[str], heading: str) -> list[str]:
    """Return the sentences about rows that can be compared, below a heading if there is one."""
    labels = labels_of(rows, keys)
    groups = [scored(row, label) for row, label in zip(rows, labels, strict=True)]
    lines = compared_part(groups)
    is_repeated = max(one.group.n for one in groups) > 1
    return [heading, *lines] if heading and lines and is_repeated else lines


def heading_of(part: Sequence[Row], rows: Sequence[Row]) -> str:
    """Return what the rows of a part have in common and other rows do not; "" for all rows.

    If it is no setting, such as other files of the same data set, the newest run is named.
    """
    if len(part) == len(rows):
        return ""
    keys = [key for key in keys_that_differ(rows) if len(values_in(part, key)) == 1]
    values = {key: values_in(part, key).pop() for key in keys if key != FOLD_KEY}
    label = label_of(list(values), values)
    return f"{label or f'the data of {short_name(part[0].runs[0].path)}'}:"


def values_in(rows: Sequence[Row], key: str) -> set[str]:
    """Return the values of a key in rows, as text."""
    return {as_yaml(row.value(key)) for row in rows}


def labels_of(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Return a label for each row, which no other row has."""
    keys = list(keys) or keys_that_differ(rows)
    labels = [label_of(list(keys), {key: as_yaml(row.value(key)) for key in keys}) for row in rows]
    return [
        label if label and labels.count(label) == 1 else f"{label} {name_of(row)}".strip()
        for label, row in zip(labels, rows, strict=True)
    ]


def keys_that_differ(rows: Sequence[Row]) -> list[str]:
    """Return the options and settings that tell the rows apart."""
    firsts = [row.runs[0] for row in rows]
    options = [key for key in NAMED_GROUPS if different_values(firsts, key) > 1]
    return [*options, *different_keys(firsts)][:MAX_LABEL_KEYS]


def name_of(row: Row) -> str:
    """Return a name for a row without settings of its own: that of its newest run."""
    return f"({short_name(row.runs[0].path)})"


def scored(row: Row, label: str) -> Scored:
    """Return the group of a row's finished runs."""
    run = row.counted[0]
    group = RunGroup(
        label=label,
        started=len(set(map(row.unit, row.runs))),
        scores=scores_of(row),
        unit=unit_of(row.counted),
        overlap=row.overlap,
    )
    return Scored(group, run, run.watch, run.mode or run.direction(run.watch))


def unit_of(runs: Sequence[RunSummary]) -> str:
    """Return what runs differ in: their seed, their fold, or both."""
    over = [key for key in OVER if different_values(runs, key) > 1]
    return unit_name(over or OVER[:1])


def scores_of(row: Row) -> dict[str, dict[Hashable, float]]:
    """Return the scores of validation and test, and the best of the watched metric."""
    names = dict.fromkeys(name for run in row.counted for name in run.metrics)
    scores = {name: row.scores(name) for name in names if name.startswith(SPLITS)}
    return scores | {f"{BEST}{row.counted[0].watch}": row.scores("best")}
