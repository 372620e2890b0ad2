"""A run's folder: making it so that no two runs share one, finding it again, and writing what belongs in it."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from dltrain.errors import InputError, UsageError
from dltrain.files import (
    replace_file,
    sweep,
    sync_directory,
    temporary_name,
    to_json,
    write_through,
    writing,
)

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

CONFIG, MANIFEST, RESULTS = "config.yaml", "manifest.json", "results.json"
METRICS, TIMING, LOG = "metrics.jsonl", "timing.jsonl", "train.log"
CHECKPOINTS, LOCK = "checkpoints", ".lock"
LONG = 1000  # characters of a text, or items of a list, that the manifest does not hold itself
LIST = ".list.json"  # ends the name of a file that is a list, rather than a text
MOST_PENDING = 100_000  # lines that wait in memory for room on the disk
ELSEWHERE = "paths.output=FOLDER names another place"
READ_ONLY = "dltrain resume RUN --fork paths.output=FOLDER continues it in another place"
MAKING = (
    threading.Lock()
)  # one thread at a time: the sweep takes what this process seems to have left

log = logging.getLogger("dltrain")


def clean(label: str) -> str:
    """`label` as part of a folder's name: no separators, and no `=`, which would break an override that names it."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", label).strip(".-") or "run"


class Run:
    """One run's folder. `checkpoint` is the one that was named, where it was not the run that was."""

    def __init__(self, folder: Path, checkpoint: Path | None = None) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        self.lock: IO[str] | None = None
        self.pending: dict[str, list[str]] = {}  # lines that found no room on the disk yet

    @classmethod
    def create(cls, root: Path, label: str, contents: Mapping[str, bytes]) -> Run:
        """A new folder `<root>/<date>/<time with microseconds>_<label>`; UsageError if `root` cannot be written."""
        while True:
            now = datetime.now()
            try:
                with MAKING:
                    return cls.make(
                        root / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S-%f}_{clean(label)}", contents
                    )
            except FileExistsError:
                continue  # another run took this microsecond
            except OSError as e:
                why = f"a run folder cannot be made there ({e.strerror or e}); paths.output=FOLDER names another place"
                raise UsageError(f"paths.output={root}: {why}") from e

    @classmethod
    def make(cls, folder: Path, contents: Mapping[str, bytes]) -> Run:
        """The new folder `folder`, which appears with `contents` in it and locked, or OSError."""
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except (
            FileExistsError
        ) as e:  # a file or a dangling link is there, and it will not be another in a microsecond
            raise NotADirectoryError(e.errno, e.strerror, e.filename) from e
        sweep(folder.parent)
        temporary = temporary_name(folder)
        temporary.mkdir()
        run = cls(temporary)
        try:
            run.lock = run.acquire()
            for name, content in contents.items():
                write_through(temporary / name, content)
            sync_directory(temporary)
            if folder.exists():
                raise FileExistsError(folder)
            try:
                temporary.rename(folder)
            except OSError as e:
                raise FileExistsError(folder) if folder.exists() else e from None
            sync_directory(folder.parent)
        except OSError:
            if run.lock:
                run.lock.close()
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        run.folder = folder
        return run

    def is_writable(self) -> bool:
        """Tell whether files can be made in the folder: not where the file system is read-only."""
        return os.access(self.folder, os.W_OK)

    def require_writable(self) -> None:
        """Raise UsageError if the folder, or something in it that a run goes on writing, cannot be
        written.
        """
        for name in ("", CHECKPOINTS, METRICS, TIMING, MANIFEST, CONFIG, RESULTS):
            path = self.folder / name
            if path.exists() and not os.access(path, os.W_OK):
                with writing(path, READ_ONLY):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def acquire(self) -> IO[str]:
        """The lock of the folder's only writer; UsageError, naming the other, if there is one (POSIX only)."""
        file = (self.folder / LOCK).open("a+", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            file.seek(0)
            by = file.read().strip() or "another process"
            file.close()
            raise UsageError(
                f"{self.folder} is being written by a run that is still going ({by})"
            ) from e
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        return file

    @contextmanager
    def locked(self) -> Iterator[Run]:
        """Be the only writer inside; UsageError if another is. A run that was just made is locked already.

        What a writer before left unfinished in the folder is removed.
        """
        with writing(self.folder, READ_ONLY):
            self.lock = self.lock or self.acquire()
        try:
            sweep(self.folder)
            yield self
        finally:
            self.lock.close()
            self.lock = None

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        replace_file(self.folder / name, as_json(content))

    def read_json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, OSError, RecursionError) as e:
            raise InputError(f"{self.folder / name} is not JSON: {e}") from e
        if not isinstance(content, dict):
            raise InputError(f"{self.folder / name} is not a mapping")
        return content

    def description(self) -> dict[str, Any] | None:
        """What the manifest says of the data, with what lies in files of its own; InputError for one that is not what was
        written."""
        found = self.read_json(MANIFEST).get("data")
        if found is None:
            return None
        if not isinstance(found, dict):
            raise InputError(f"{self.folder / MANIFEST}: data is no mapping, as a run describes it")
        return {
            name: self.own_file(value) if is_reference(value) else value
            for name, value in found.items()
        }

    def own_file(self, reference: dict[str, str]) -> Any:
        path = self.folder / Path(reference["file"]).name
        try:
            content = path.read_bytes()
        except OSError as e:
            raise InputError(
                f"{path} cannot be read ({e.strerror}); the run's data was described in it"
            ) from e
        if hashlib.sha256(content).hexdigest() != reference["sha256"]:
            raise InputError(f"{path} is not what the run wrote: its checksum is another")
        return json.loads(content) if path.name.endswith(LIST) else content.decode()

    def append(self, name: str, record: dict[str, Any]) -> None:
        """One line of JSON at the end of `name`. Where there is no room, lines wait in memory until there is."""
        waiting = self.pending.setdefault(name, [])
        waiting.append(to_json(record) + "\n")
        try:
            write_end(self.folder / name, "".join(waiting).encode())
        except OSError as e:
            if len(waiting) == 1:
                log.warning(
                    f"{self.folder / name} cannot be written ({e.strerror}): its lines wait in memory"
                )
            del waiting[:-MOST_PENDING]
        else:
            waiting.clear()

    def sync(self, name: str) -> None:
        """Wait until what was appended to `name` is on the disk."""
        if (self.folder / name).exists():
            with (self.folder / name).open("ab") as file:
                os.fsync(file.fileno())

    def cut_back(self, name: str, step: int) -> None:
        """Drop the lines of `name` that belong to steps after `step`: a resumed run writes them again."""
        self._rewrite(
            name, lambda lines: [line for line in lines if json.loads(line)["step"] <= step]
        )

    def keep(self, name: str, count: int) -> None:
        """Keep the first `count` lines of `name`."""
        self._rewrite(name, lambda lines: lines[:count])

    def _rewrite(self, name: str, kept: Callable[[list[str]], list[str]]) -> None:
        path = self.folder / name
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [
                line for line in lines if line.endswith("\n")
            ]  # a run killed at its last line left part of it
            replace_file(path, "".join(kept(whole)).encode())


def split_large_values(description: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A description for the manifest, and by file name those of its texts and lists that are too long to stand in it."""
    files = {
        f"{n}.json": v.encode()
        for n, v in description.items()
        if isinstance(v, str) and len(v) > LONG
    }
    files |= {
        f"{n}{LIST}": to_json(v, ensure_ascii=False).encode()
        for n, v in description.items()
        if isinstance(v, list) and len(v) > LONG
    }
    references = {
        n.partition(".")[0]: {"file": n, "sha256": hashlib.sha256(c).hexdigest()}
        for n, c in files.items()
    }
    return description | references, files


def is_reference(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"file", "sha256"}
        and all(isinstance(v, str) for v in value.values())
    )


def as_json(content: dict[str, Any]) -> bytes:
    return (to_json(content, indent=1, default=str) + "\n").encode()


def write_end(path: Path, content: bytes) -> None:
    """Append all of `content` or, with an OSError, nothing of it."""
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            file.truncate(end)
            raise


def all_runs(root: Path) -> list[Path]:
    """Every run folder under `root`, oldest first; a sweep's jobs count, the sweep itself does not."""
    found = [*root.glob(f"*/*/{CONFIG}"), *root.glob(f"*/*_sweep/*/{CONFIG}")]
    return sorted(
        (path.parent for path in found if not path.parent.name.startswith(".")), key=in_order
    )


def in_order(folder: Path) -> list[tuple[int, str]]:
    """Sorts folders that are numbered by their number: job 12 of a sweep comes after job 2."""
    return [(int(part) if part.isdigit() else 0, part) for part in folder.parts]


def find(name: str, root: Path) -> Run:
    """The run that `name` means: a folder, `last`, or a part of a folder's name that only one has (InputError).

    A checkpoint's folder means its run too, and that checkpoint of it.
    """
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return Run(folder)
    if folder.parent.name == CHECKPOINTS and (folder.parents[1] / CONFIG).is_file():
        return Run(folder.parents[1], folder)
    runs = all_runs(root)
    if not runs and name != "last" and folder.is_dir():
        raise InputError(f"{name} is not a run's folder: there is no {CONFIG} in it")
    if not runs:
        raise InputError(f"there is no run under {root} ({ELSEWHERE}); `dltrain` trains one")
    if name == "last":
        return Run(runs[-1])
    parts = {run: f"/{run.relative_to(root).as_posix()}" for run in runs}
    matches = [r for r in runs if parts[r].endswith(f"/{name}")] or [
        r for r in runs if name in parts[r]
    ]
    if len(matches) == 1:
        return Run(matches[0])
    if not matches and folder.is_dir():
        raise InputError(f"{name} is not a run's folder: there is no {CONFIG} in it")
    if not matches:
        raise InputError(
            f"no run is called {name!r} under {root} ({ELSEWHERE}); the newest is {runs[-1]}"
        )
    listed = "\n".join(f"  {run}" for run in matches[-5:])
    raise InputError(f"{name!r} could be any of {len(matches)} runs; name one\n{listed}")
