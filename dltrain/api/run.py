"""A run as Python sees it: its folder, metrics, history and checkpoints, read when asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.config.read import read_mapping
from dltrain.errors import InputError
from dltrain.runs.find import find
from dltrain.runs.folder import CHECKPOINTS, CONFIG, MANIFEST, METRICS, RESULTS, RunFolder
from dltrain.terminal import pad

if TYPE_CHECKING:
    from dltrain.api.predictor import Predictor

PLACE = ("step", "epoch", "stage", "split")  # keys of a record that are no metrics
POINTERS = ("best", "last")
UNFINISHED = "unfinished"  # the status of a run without results


class History(Mapping[str, list[float]]):
    """The metrics that a run logged: a list of values for each name, in their order.

    `records` has the lines of metrics.jsonl as dictionaries: `pandas.DataFrame(history.records)`.
    """

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = records
        names = dict.fromkeys(name for record in records for name in record)
        self.names = [name for name in names if name not in PLACE]

    def __getitem__(self, name: str) -> list[float]:
        """Return the values of a metric; NaN where it was not a finite number."""
        values = [record[name] for record in self.having(name)]
        return [math.nan if value is None else value for value in values]

    def steps(self, name: str) -> list[int]:
        """Return the step of each value of a metric."""
        return [record["step"] for record in self.having(name)]

    def epochs(self, name: str) -> list[int]:
        """Return the epoch of each value of a metric, from 1."""
        return [record["epoch"] for record in self.having(name)]

    def having(self, name: str) -> list[dict[str, Any]]:
        """Return the records that have a metric; KeyError for a name that none has."""
        if name not in self.names:
            raise KeyError(f"{name}: the run logged {', '.join(self.names) or 'nothing'}")
        return [record for record in self.records if name in record]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"History({len(self.records)} records of {', '.join(self.names)})"


class Run:
    """A run on the disk: what `train` and `resume` return.

    Its files are read when an attribute is first used; `reload` reads them again, for a run that is
    still training. `plugins` are the packages of the user's own classes in it: a configuration on
    the disk does not name them.

    Args:
        run: The run's folder, a unique part of the folder's name, or `last`.
        output: The folder of runs that a name is looked for in.
        plugins: The packages of the user's own classes.

    Raises:
        InputError: No run or several runs have this name.
    """

    def __init__(
        self, run: str | Path, output: str | Path = "outputs", plugins: str | Sequence[str] = ()
    ) -> None:
        found_run = find(str(run), Path(output))
        self.folder = found_run.folder.absolute()
        self.plugins = plugin_names(plugins)

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json; empty for a run that has not ended."""
        return RunFolder(self.folder).read_json(RESULTS)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The content of manifest.json: command, versions, seed, fingerprint of the data."""
        return RunFolder(self.folder).read_json(MANIFEST)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The whole configuration, as nested dictionaries."""
        return read_mapping(self.folder / CONFIG, InputError)

    @cached_property
    def history(self) -> History:
        """The metrics logged so far: `run.history["val/loss"]` is a list."""
        path = self.folder / METRICS
        if not path.exists():
            return History([])
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return History([json.loads(line) for line in lines if line.endswith("\n")])

    @property
    def status(self) -> str:
        """completed, stopped, pruned, interrupted, diverged, failed or unfinished."""
        return self.results.get("status", UNFINISHED)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every metric of training and validation, and those of the test."""
        return self.results.get("metrics", {})

    @property
    def best(self) -> dict[str, Any]:
        """The best evaluation: its metric, value, epoch, step and all its metrics; {} without."""
        return self.results.get("best", {})

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The folders of the checkpoints: `best` and `last`, as far as there are any."""
        from dltrain.runs.checkpoint import Store

        store = Store(self.folder / CHECKPOINTS)
        folders = {name: store.pointed(name) for name in POINTERS}
        return {name: folder for name, folder in folders.items() if folder is not None}

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the best checkpoint, else of the last; None without any."""
        return self.checkpoints.get("best", self.checkpoints.get("last"))

    def load(self, checkpoint: str | int = "best", device: str | None = None) -> Predictor:
        """Return a predictor with the weights of a checkpoint; see `dltrain.load`."""
        from dltrain.api.load import load

        return load(self, checkpoint=checkpoint, device=device)

    def reload(self) -> Run:
        """Read the files again when they are next used; return the run."""
        for name in ("results", "manifest", "config", "history"):
            vars(self).pop(name, None)
        return self

    def rows(self) -> list[tuple[str, str]]:
        """Return labels and texts that describe the run in a few lines."""
        rows = [("folder", str(self.folder)), ("status", self.status)]
        if self.best:
            best = f"{self.best['metric']} {self.best['value']:.6g} in epoch {self.best['epoch']}"
            rows.append(("best", best))
        return rows + test_rows(self.metrics)

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        return "Run\n" + "\n".join(f"  {pad(label, width)}  {text}" for label, text in rows)

    def _repr_html_(self) -> str:
        """Return the rows as a table for a notebook."""
        from html import escape

        cells = [f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in self.rows()]
        return f"<table>{''.join(cells)}</table>"


def plugin_names(plugins: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of packages; a single one may be a text."""
    return (plugins,) if isinstance(plugins, str) else tuple(plugins)


def test_rows(metrics: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """Return name and value of the metrics of the test, as texts."""
    tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
    return [(name, f"{value:.6g}") for name, value in tested.items() if value is not None]
