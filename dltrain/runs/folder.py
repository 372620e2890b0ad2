"""A run's folder: making it so that no two runs share one, and writing what belongs in it."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from dltrain.runs.description import with_large_values
from dltrain.runs.lock import acquire_lock, release_lock

if TYPE_CHECKING:
    from filelock import BaseFileLock

CONFIG = "config.yaml"
MANIFEST = "manifest.json"
RESULTS = "results.json"
PARAMETERS = "parameters"  # in results.json: the number of the network's parameters
LATENCY = "latency_ms"  # in results.json: the median time of a prediction for one input
METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
LOG = "train.log"
CHECKPOINTS = "checkpoints"
FINISHED = ("completed", "stopped")  # statuses in the results of a run that was tested
MAX_PENDING_LINES = 100_000  # that wait in memory for room on the disk
READ_ONLY = "dltrain resume RUN --fork paths.output=FOLDER continues it in another place"
MAKING = threading.Lock()  # sweeping removes what this process seems to have left unfinished

log = logging.getLogger("dltrain")


def clean(label: str) -> str:
    """Return `label` as part of a folder's name, without separators.

    `=` goes too: it would break an override that names the folder.
    """
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", label).strip(".-") or "run"


class RunFolder:
    """One run's folder. `checkpoint` is set if a checkpoint was named instead of the run."""

    def __init__(self, folder: Path, checkpoint: Path | None = None) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.lock: BaseFileLock | None = None
        self.pending: dict[str, list[str]] = {}  # lines that found no room on the disk yet

    @classmethod
    def create(cls, root: Path, label: str, contents: Mapping[str, bytes]) -> RunFolder:
        """Make a new folder `<root>/<date>/<time with microseconds>_<label>`.

        Raises UsageError if `root` cannot be written.
        """
        while True:
            now = datetime.now()
            name = f"{now:%H-%M-%S-%f}_{clean(label)}"
            try:
                with MAKING:
                    return cls.make(root / f"{now:%Y-%m-%d}" / name, contents)
            except FileExistsError:
                continue  # another run took this microsecond
            except OSError as e:
                raise UsageError(
                    f"paths.output={root}: a run folder cannot be made there "
                    f"({e.strerror or e}); paths.output=FOLDER names another place"
                ) from e

    @classmethod
    def make(cls, folder: Path, contents: Mapping[str, bytes]) -> RunFolder:
        """Make `folder`, which appears locked and with all `contents`; OSError if it cannot be."""
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as e:  # a file or a dangling link, also in the next microsecond
            raise NotADirectoryError(e.errno, e.strerror, e.filename) from e
        sweep(folder.parent)
        temporary = temporary_name(folder)
        temporary.mkdir()
        run = cls(temporary)
        try:
            run.lock = acquire_lock(temporary)
            for name, content in contents.items():
                write_through(temporary / name, content)
            sync_directory(temporary)
            _rename_to_new(temporary, folder)
            sync_directory(folder.parent)
        except OSError:
            if run.lock is not None:
                release_lock(run.lock, temporary)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        run.folder = folder
        return run

    def is_writable(self) -> bool:
        """Tell if files can be made in the folder: not on a read-only file system."""
        return os.access(self.folder, os.W_OK)

    def require_writable(self) -> None:
        """Raise UsageError if the folder, or a file that a resumed run writes, is read-only."""
        for name in ("", CHECKPOINTS, METRICS, TIMING, MANIFEST, CONFIG, RESULTS):
            path = self.folder / name
            if path.exists() and not os.access(path, os.W_OK):
                with writing(path, READ_ONLY):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    @contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Be the only writer in the block; UsageError if another process is.

        A run that was just made is locked already. What an earlier writer left unfinished in the
        folder is removed.
        """
        with writing(self.folder, READ_ONLY):
            self.lock = self.lock or acquire_lock(self.folder)
        try:
            sweep(self.folder)
            yield self
        finally:
            release_lock(self.lock, self.folder)
            self.lock = None

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace the file `name` by `content` as JSON."""
        replace_file(self.folder / name, as_json(content))

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file; empty if it is absent, InputError if it is broken."""
        path = self.folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, OSError, RecursionError) as e:
            raise InputError(f"{path} is not JSON: {e}") from e
        if not isinstance(content, dict):
            raise InputError(f"{path} is not a mapping")
        return content

    def description(self) -> dict[str, Any] | None:
        """Return the manifest's description of the data; InputError if it is damaged."""
        description = self.read_json(MANIFEST).get("data")
        if description is None:
            return None
        if not isinstance(description, dict):
            raise InputError(f"{self.folder / MANIFEST}: data is not a mapping")
        return with_large_values(description, self.folder)

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Append a line of JSON to `name`; without room on the disk it waits in memory."""
        waiting = self.pending.setdefault(name, [])
        waiting.append(to_json(record) + "\n")
        path = self.folder / name
        try:
            append_whole(path, "".join(waiting).encode())
        except OSError as e:
            if len(waiting) == 1:
                log.warning(f"{path} cannot be written ({e.strerror}): its lines wait in memory")
            del waiting[:-MAX_PENDING_LINES]
        else:
            waiting.clear()

    def sync(self, name: str) -> None:
        """Wait until everything appended to `name` is on the disk."""
        path = self.folder / name
        if path.exists():
            with path.open("ab") as file:
                os.fsync(file.fileno())

    def cut_back(self, name: str, step: int) -> None:
        """Drop the lines of `name` after `step`: a resumed run writes them again."""

        def up_to_step(lines: list[str]) -> list[str]:
            return [line for line in lines if json.loads(line)["step"] <= step]

        self._rewrite(name, up_to_step)

    def keep(self, name: str, count: int) -> None:
        """Keep the first `count` lines of `name`."""
        self._rewrite(name, lambda lines: lines[:count])

    def _rewrite(self, name: str, select: Callable[[list[str]], list[str]]) -> None:
        """Replace the lines of `name` by the selected ones, without one that was never finished."""
        path = self.folder / name
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        replace_file(path, "".join(select(whole)).encode())


def _rename_to_new(temporary: Path, folder: Path) -> None:
    """Rename to a name that is free; FileExistsError if it is not."""
    if folder.exists():
        raise FileExistsError(folder)
    try:
        temporary.rename(folder)
    except OSError as e:
        if folder.exists():
            raise FileExistsError(folder) from None
        raise e from None


def as_json(content: dict[str, Any]) -> bytes:
    """Return the content of a JSON file for people: indented, with a line break at its end."""
    return (to_json(content, indent=1, default=str) + "\n").encode()


def append_whole(path: Path, content: bytes) -> None:
    """Append all of `content`, or nothing and raise OSError."""
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            file.truncate(end)
            raise
