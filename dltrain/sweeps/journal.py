"""The journal of a sweep, `sweep.jsonl`: one line for each event, in the order of time.

It is the truth about a sweep: a resume rebuilds everything from it. Events are

* `sweep`: the command; the first line
* `trial`: a trial with its overrides, before it starts for the first time
* `start`: an attempt at a trial
* `report`: an evaluation of a trial that may be pruned
* `end`: the end of an attempt, with its results
* `resume`: the command that continues the sweep
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from dltrain.errors import InputError
from dltrain.files import replace_file, to_json
from dltrain.runs.folder import RunFolder

JOURNAL = "sweep.jsonl"
VERSION = 1
MISSING = object()
UNSYNCED = ("report",)  # events that an evaluation repeats if they are lost
Event = dict[str, Any]
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {  # of the events that are read back
    "trial": {"number": int, "overrides": list, "identity": str, "state": dict},
    "start": {"number": int},
    "report": {"number": int, "step": int, "value": (int, float, type(None))},
    "end": {"number": int, "row": dict},
}
HEADER_FIELDS: dict[str, type | tuple[type, ...]] = {
    "overrides": list,
    "config_dir": (str, type(None)),
}
ROW_FIELDS: dict[str, type | tuple[type, ...]] = {"status": str, "metrics": dict}
OPTIONAL_ROW_FIELDS: dict[str, type | tuple[type, ...]] = {
    "reason": (str, type(None)),
    "best": (dict, type(None)),
    "seconds": (int, float, type(None)),
    "signal": int,
}


class Journal:
    """Appends events to a sweep's journal. An event is on the disk when `append` returns."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder)

    def append(self, event: str, **content: Any) -> None:
        """Append an event with the time; without room on the disk it waits in memory."""
        self.run.append(JOURNAL, content_of(event, content))
        if event not in UNSYNCED:
            self.run.sync(JOURNAL)


def content_of(event: str, content: dict[str, Any]) -> Event:
    """Return an event with the time."""
    return {"event": event, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **content}


def first_line(**content: Any) -> bytes:
    """Return the first line of a new journal, which a sweep's folder has from its beginning."""
    header = content_of("sweep", {"version": VERSION, **content})
    return f"{to_json(header)}\n".encode()


def read_journal(folder: Path) -> list[Event]:
    """Return the events of a sweep; a last line that was cut while it was written is dropped.

    Raises:
        InputError: The file is absent, a line is not an event, or the version is a later one.
    """
    path = folder / JOURNAL
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror or e}") from e
    lines = text.split("\n")
    cut = lines.pop()  # empty, unless the last line has no end
    require_header(path, lines)
    events = []
    for number, line in enumerate(lines, start=1):
        event = event_of(line)
        if event is not None:
            events.append(event)
        elif number < len(lines) or cut:
            raise InputError(f"{path}:{number} is not an event of a sweep: {line[:80]!r}")
    return events


def event_of(line: str) -> Event | None:
    """Return the event of a line, or None if it is not one."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    is_whole = has_fields(event, FIELDS.get(event["event"], {}))
    if is_whole and event["event"] == "end":
        row = event["row"]
        optional = {name: kind for name, kind in OPTIONAL_ROW_FIELDS.items() if name in row}
        is_whole = has_fields(row, ROW_FIELDS | optional)
    return event if is_whole else None


def has_fields(content: dict[str, Any], fields: dict[str, type | tuple[type, ...]]) -> bool:
    """Tell if a mapping has all fields, of the right types; lists must have texts only."""
    for name, kind in fields.items():
        value = content.get(name, MISSING)
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            return False
    return True


def require_header(path: Path, lines: list[str]) -> None:
    """Raise InputError unless the first line begins a sweep which this version can read."""
    header = event_of(lines[0]) if lines else None
    begins = header is not None and header["event"] == "sweep"
    if header is not None and begins and header.get("version") != VERSION:
        raise InputError(
            f"{path} has version {header.get('version')}, and this dltrain reads {VERSION}; "
            "install the dltrain that wrote it, or start a new sweep"
        )
    if header is None or not begins or not has_fields(header, HEADER_FIELDS):
        raise InputError(f"{path}:1 is not the beginning of a sweep; start a new one")


def mend_journal(folder: Path, events: list[Event]) -> None:
    """Rewrite the journal if its last line was cut, so that the next event gets a line."""
    path = folder / JOURNAL
    content = path.read_bytes()
    whole = content.split(b"\n")[: len(events)]
    mended = b"".join(line + b"\n" for line in whole)
    if mended != content:
        replace_file(path, mended)
