"""A run's folder: making it so that no two runs share one, finding it again, and writing what belongs in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dltrain.errors import InputError, UsageError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

CONFIG, MANIFEST, RESULTS = "config.yaml", "manifest.json", "results.json"
METRICS, TIMING, LOG = "metrics.jsonl", "timing.jsonl", "train.log"


def clean(label: str) -> str:
    """`label` as part of a folder's name: no separators, and no `=`, which would break an override that names it."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", label).strip(".-") or "run"


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, root: Path, label: str) -> Run:
        """A new folder `<root>/<date>/<time with microseconds>_<label>`; UsageError if `root` cannot be written."""
        while True:
            now = datetime.now()
            folder = root / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S-%f}_{clean(label)}"
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise UsageError(f"paths.output={root}: a run folder cannot be made there ({e.strerror})") from e
            try:
                folder.mkdir()
            except FileExistsError:
                continue  # another run took this microsecond
            except OSError as e:
                raise UsageError(f"paths.output={root}: a run folder cannot be made there ({e.strerror})") from e
            return cls(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer inside; UsageError if another is (POSIX only)."""
        with (self.folder / ".lock").open("w") as file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise UsageError(f"{self.folder} is being written by a run that is still going") from e
            yield

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        temporary = self.folder / f".{name}.tmp"
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
        temporary.replace(self.folder / name)

    def read_json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as e:
            raise InputError(f"{self.folder / name} is not JSON: {e}") from e
        return content

    def append(self, name: str, record: dict[str, Any]) -> None:
        """One line of JSON at the end of `name`."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def cut_back(self, name: str, step: int) -> None:
        """Drop the lines of `name` that belong to steps after `step`: a resumed run writes them again."""
        self._rewrite(name, lambda lines: [line for line in lines if json.loads(line)["step"] <= step])

    def keep(self, name: str, count: int) -> None:
        """Keep the first `count` lines of `name`."""
        self._rewrite(name, lambda lines: lines[:count])

    def _rewrite(self, name: str, kept: Callable[[list[str]], list[str]]) -> None:
        path = self.folder / name
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]  # a run killed at its last line left part of it
            temporary = path.with_name(f".{name}.tmp")
            temporary.write_text("".join(kept(whole)), encoding="utf-8")
            temporary.replace(path)


def all_runs(root: Path) -> list[Path]:
    """Every run folder under `root`, oldest first; a sweep's jobs count, the sweep itself does not."""
    found = [*root.glob(f"*/*/{CONFIG}"), *root.glob(f"*/*_sweep/*/{CONFIG}")]
    return sorted((path.parent for path in found), key=in_order)


def in_order(folder: Path) -> list[tuple[int, str]]:
    """Sorts folders that are numbered by their number: job 12 of a sweep comes after job 2."""
    return [(int(part) if part.isdigit() else 0, part) for part in folder.parts]


def find(name: str, root: Path) -> Run:
    """The run that `name` means: a folder, `last`, or a part of a folder's name that only one has (InputError)."""
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return Run(folder)
    runs = all_runs(root)
    if not runs:
        raise InputError(f"there is no run under {root}; `dltrain` trains one")
    if name == "last":
        return Run(runs[-1])
    parts = {run: f"/{run.relative_to(root).as_posix()}" for run in runs}
    matches = [r for r in runs if parts[r].endswith(f"/{name}")] or [r for r in runs if name in parts[r]]
    if len(matches) == 1:
        return Run(matches[0])
    if not matches:
        raise InputError(f"no run is called {name!r} under {root}; the newest is {runs[-1]}")
    listed = "\n".join(f"  {run}" for run in matches[-5:])
    raise InputError(f"{name!r} could be any of {len(matches)} runs; name one\n{listed}")
