"""The learning curves of a sweep in one picture, and summaries over seeds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dltrain.runs.comparison.groups import OVER
from dltrain.runs.folder import FINISHED
from dltrain.sweeps.names import label_of, values_by_key
from dltrain.sweeps.summary.groups import groups_report
from dltrain.sweeps.trial import Row

log = logging.getLogger("dltrain")


def report_curves(sweep: Path, rows: list[Row], swept: list[str]) -> None:
    """Draw the learning curves of the finished jobs into curves.png; summarize over seeds.

    Jobs that differ only in their seed are one curve, and a row of a table. The metrics of the
    picture are the watched one and its counterpart in training (train/return, or the loss).
    """
    from dltrain.report import curves

    finished = evaluated(rows)
    if len(finished) < 2:
        return
    keys = [key for key in swept if key not in OVER]
    groups = grouped(finished, keys)
    watched = finished[0]["best"]["metric"]
    known = set().union(*(row["metrics"] for row in finished))
    training_metric = curves.training_counterpart(watched, known)
    pixels = curves.draw_curves(groups, [training_metric, watched])
    if pixels is not None:
        write_picture(sweep / curves.FILE, pixels)
    report = groups_report(rows, swept)
    if report:
        log.info(report)


def evaluated(rows: list[Row]) -> list[Row]:
    """Return the finished jobs that watched a metric."""
    return [row for row in rows if row["status"] in FINISHED and row.get("best")]


def grouped(rows: list[Row], keys: list[str]) -> dict[str, list[Path]]:
    """Return the run folders of jobs with the same values of `keys`, by label."""
    groups: dict[str, list[Path]] = {}
    for row in rows:
        label = label_of(keys, values_by_key(row["overrides"])) or "all"
        groups.setdefault(label, []).append(Path(row["run"]))
    return groups


def write_picture(path: Path, pixels: Any) -> None:
    """Write a picture; warn if that fails, which does not fail the sweep."""
    from dltrain.report import curves

    try:
        curves.write(path, pixels)
    except OSError as e:
        log.warning(f"{path} cannot be written: {e.strerror or e}")
    else:
        log.info(f"picture {path}")
