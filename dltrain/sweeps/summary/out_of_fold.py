"""The out-of-fold predictions of a sweep over folds, in a file for each other combination."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dltrain.errors import DltrainError
from dltrain.report.text import number
from dltrain.runs.automatic import surrounding_overrides
from dltrain.runs.folder import FINISHED, RunFolder
from dltrain.runs.identity import FOLD_KEY
from dltrain.runs.out_of_fold import write_out_of_fold
from dltrain.sweeps.names import label_of, values_by_key
from dltrain.sweeps.trial import Row

log = logging.getLogger("dltrain")
FILE = "out_of_fold"


def write_predictions(sweep: Path, rows: Sequence[Row], swept: Sequence[str]) -> dict[str, Any]:
    """Write a file of out-of-fold predictions for each combination whose folds all finished.

    Return {"out_of_fold": files with their metrics}, or {} for a sweep over no folds. A file that
    exists stays: the runs that it was made of do not change. A task without predictions for single
    samples, and folds that are missing, cost a message.
    """
    if FOLD_KEY not in swept:
        return {}
    groups = groups_without_fold(rows, [key for key in swept if key != FOLD_KEY])
    files = []
    for label, members in groups.items():
        name = FILE if len(groups) == 1 else f"{FILE}_{members[0]['job']}"
        path = sweep / f"{name}.csv"
        if path.exists():
            files.append({"file": str(path)})
        else:
            files += written(path, label, members)
    return {"out_of_fold": files}


def groups_without_fold(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, list[Row]]:
    """Return the jobs that differ only in their fold, by the other values that differ."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        label = label_of(list(keys), values_by_key(row["overrides"]))
        groups.setdefault(label, []).append(row)
    return groups


def written(path: Path, label: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Write the predictions of the runs of all folds; return the file with its metrics, if any."""
    finished = [row for row in rows if row["status"] in FINISHED]
    what = f"out-of-fold predictions{f' of {label}' if label else ''}"
    if len(finished) < len(rows):
        log.info(f"no {what}: {len(rows) - len(finished)} of {len(rows)} folds did not finish")
        return []
    runs = [RunFolder(Path(row["run"])) for row in finished]
    try:
        metrics = write_out_of_fold(runs, path, surrounding_overrides(rows[0]["overrides"]))
    except DltrainError as e:
        log.info(f"no {what}: {e}")
        return []
    scores = {name: value for name, value in metrics.items() if name != "samples"}
    log.info("  ".join([what, *(f"{name} {number(value)}" for name, value in scores.items())]))
    return [{"file": str(path), "metrics": metrics}]
