"""The results of a sweep: a table of its jobs, learning curves, and summaries over seeds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dltrain.files import replace_file, to_json
from dltrain.report.text import duration, number, table
from dltrain.runs.comparison.groups import OVER
from dltrain.runs.folder import FINISHED
from dltrain.sweeps.groups import groups_report
from dltrain.sweeps.names import label_of, values_by_key

log = logging.getLogger("dltrain")
MAX_STATUS_CHARS = 70
SHOWN_INSTEAD = {"test/mse": ("test/rmse", "test/r2")}  # in the unit of the data, if a run has them
COLUMNS = (
    "test/accuracy",
    "test/loss",
    "train/gradient_ratio",
    "train/dead_units",
    "train/saturated_units",
)
Row = dict[str, Any]  # the results of a job, with its number and overrides


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the jobs done so far; if that fails, the other jobs still run, and print a table."""
    try:
        replace_file(path, f"{to_json(rows, indent=1)}\n".encode())
    except OSError as e:
        log.warning(f"{path} cannot be written: {e.strerror or e}")


def overview(rows: list[Row], swept: list[str]) -> str:
    """Return a table with a row per job: the swept values, the status, and the main figures."""
    names = shown_metrics(rows)
    lines = [["job", *swept, "status", *names, "time"]]
    for row in rows:
        values = values_by_key(row["overrides"])
        line = [str(row["job"])]
        line += [values[key] for key in swept]
        line.append(status_of(row))
        line += [figure_of(row, name) for name in names]
        line.append(time_of(row))
        lines.append(line)
    return table(lines)


def figure_of(row: Row, metric: str) -> str:
    """Return a metric of a job as text; a dash if it has none."""
    if metric not in row["metrics"]:
        return "-"
    return number(row["metrics"][metric])


def time_of(row: Row) -> str:
    """Return how long a job took; a dash if it failed before its end."""
    if "seconds" not in row:
        return "-"
    return duration(row["seconds"])


def status_of(row: Row) -> str:
    """Return a job's status, with the first line of the reason if it failed."""
    status: str = row["status"]
    reason = row.get("reason")
    if reason:
        status = f"{status}: {reason.splitlines()[0]}"
    return status[:MAX_STATUS_CHARS]


def shown_metrics(rows: list[Row]) -> list[str]:
    """Return the columns: the watched metric on the test set, then the known ones of `COLUMNS`."""
    names: dict[str, None] = {}
    for row in rows:
        watched = row.get("best", {}).get("metric", "").replace("val/", "test/")
        names |= dict.fromkeys(SHOWN_INSTEAD.get(watched, (watched,)))
    names |= dict.fromkeys(COLUMNS)
    return [name for name in names if any(name in row["metrics"] for row in rows)]


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
