"""Reads the small data sets that the package ships.

dltrain/data/bundled_files/README.md names their origins and licenses.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "bundled_files"


def read_bundled_file(name: str) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the rows of a bundled table; the last column is the target."""
    with gzip.open(FOLDER / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows
