"""All runs under an output root, fast: an index keeps their summaries.

The index is a cache, one file under the root. A run is read again if one of its files changed, and
a running one always. Whatever happens to the index (deleted, damaged, read-only, written by two
processes at once) changes nothing but the time.
"""

from __future__ import annotations

import json
import logging
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dltrain import __version__
from dltrain.files import sweep, temporary_name, to_json
from dltrain.runs.listing.folders import FoundFolder, run_folders
from dltrain.runs.listing.summary import DAMAGED, RUNNING, RunSummary, summarize

INDEX = ".runs-index"
FIELDS = " ".join(RunSummary.__dataclass_fields__)
FORMAT = f"dltrain {__version__} runs {zlib.crc32(FIELDS.encode()):08x}"  # begins the index
LONG = 2000  # runs to read; from there on a message says that it takes a while

log = logging.getLogger("dltrain")


class IndexEntry(NamedTuple):
    """A run in the index: the signature of its files, its summary and its configuration as JSON."""

    signature: str
    summary: str
    config: str


def all_summaries(root: Path) -> list[RunSummary]:
    """Return the summaries of all runs under `root`, the newest first."""
    index = load(root / INDEX)
    kept: dict[str, IndexEntry] = {}
    summaries = []
    folders = list(run_folders(root))
    announce(sum(is_new(one, index) for one in folders))
    for one in folders:
        if is_new(one, index):
            summary = read(root, one)
            entry = as_entry(one.signature, summary)
        else:
            entry = index[one.path]
            summary = from_entry(one.path, entry)
        if not one.is_running:
            kept[one.path] = entry
        summaries.append(summary)
    if kept != index:
        save(root / INDEX, kept)
    return sorted(summaries, key=lambda summary: natural_order(summary.path), reverse=True)


def is_new(found: FoundFolder, index: dict[str, IndexEntry]) -> bool:
    """Tell if a run has to be read: the index lacks it, its files changed, or it is running."""
    entry = index.get(found.path)
    return entry is None or entry.signature != found.signature or found.is_running


def natural_order(path: str) -> list[tuple[int, str]]:
    """Return the sort key of a run's path: job 12 of a sweep comes after job 2."""
    return [(int(part) if part.isdecimal() else 0, part) for part in path.split("/")]


def announce(count: int) -> None:
    """Say on standard error that many runs are being read."""
    if count >= LONG:
        print(f"reading {count:,} runs; the next time they are in an index", file=sys.stderr)


def read(root: Path, found: FoundFolder) -> RunSummary:
    """Return the summary of a run from its files."""
    try:
        summary = summarize(root, found)
    except OSError as e:  # it was just deleted, or must not be read
        summary = RunSummary(found.path, DAMAGED, f"{root / found.path}: {e.strerror or e}")
    if found.is_running:
        summary.status = RUNNING
    return summary


def as_entry(signature: str, summary: RunSummary) -> IndexEntry:
    """Return what the index keeps of a run."""
    values = {**vars(summary)}
    config = values.pop("config_text")
    del values["path"]
    return IndexEntry(signature, to_json(values, default=str), config)


def from_entry(path: str, entry: IndexEntry) -> RunSummary:
    """Return the summary of a run in the index."""
    return RunSummary(path, config_text=entry.config, **json.loads(entry.summary))


def load(path: Path) -> dict[str, IndexEntry]:
    """Return the runs of an index by path; none if it is absent, damaged or of another version.

    Each run has four lines: path, signature, summary, configuration.
    """
    lines = read_lines(path)
    columns = [lines[start::4] for start in range(4)]
    return {json.loads(path): IndexEntry(*rest) for path, *rest in zip(*columns, strict=False)}


def read_lines(path: Path) -> list[str]:
    """Return the lines after the first, if that is the right one; otherwise none."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        is_whole = head.decode() == header(body)
        return body.decode().split("\n") if is_whole else []
    except (OSError, ValueError):
        return []


def save(path: Path, entries: dict[str, IndexEntry]) -> None:
    """Write an index; if that fails, there is none."""
    lines = [line for name, entry in entries.items() for line in (to_json(name), *entry)]
    body = "\n".join(lines).encode()
    temporary = temporary_name(path)
    try:
        sweep(path.parent)
        temporary.write_bytes(header(body).encode() + b"\n" + body)
        temporary.replace(path)
    except OSError as e:
        log.debug(f"{path} cannot be written: {e.strerror or e}")
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def header(body: bytes) -> str:
    """Return the first line of an index, with the checksum of what follows."""
    return f"{FORMAT} {zlib.crc32(body):08x}"
