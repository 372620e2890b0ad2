"""Opens a table by the ending of its file."""

from __future__ import annotations

from pathlib import Path

from dltrain.data.tabular.files.csv_file import CsvFile
from dltrain.data.tabular.files.parquet_file import ENDINGS, ParquetFile
from dltrain.data.tabular.files.settings import CsvSettings
from dltrain.data.tabular.files.table_file import TableFile


def open_table(path: str | Path, settings: CsvSettings, key: str = "") -> TableFile:
    """Return the table in a file: Parquet by its ending, else text as the `settings` say.

    `key` is the setting that names the file, "" for a file to predict from.
    """
    if Path(path).suffix.lower() in ENDINGS:
        return ParquetFile(path, settings, key)
    return CsvFile(path, settings, key)
