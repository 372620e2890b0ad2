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
from dltrain.files import replace_file
from dltrain.runs.folder import RunFolder

JOURNAL = "sweep.jsonl"
VERSION = 1
UNSYNCED = ("report",)  # events that an evaluation repeats if they are lost
Event = dict[str, Any]


class Journal:
    """Appends events to a sweep's journal. An event is on the disk when `append` returns."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder)

    def append(self, event: str, **content: Any) -> None:
        """Append an event with the time; without room on the disk it waits in memory."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.run.append(JOURNAL, {"event": event, "time": now, **content})
        if event not in UNSYNCED:
            self.run.sync(JOURNAL)


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
    events = []
    for number, line in enumerate(lines, start=1):
        event = event_of(line)
        if event is not None:
            events.append(event)
        elif number < len(lines) or cut:
            raise InputError(f"{path}:{number} is not an event of a sweep: {line[:80]!r}")
    require_header(path, events)
    return events


def event_of(line: str) -> Event | None:
    """Return the event of a line, or None if it is not one."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    return event


def require_header(path: Path, events: list[Event]) -> None:
    """Raise InputError unless the first event is that of a sweep which this version can read."""
    if not events or events[0]["event"] != "sweep":
        raise InputError(f"{path}:1 is not the beginning of a sweep; start a new one")
    version = events[0].get("version")
    if version != VERSION:
        raise InputError(
            f"{path} has version {version}, and this dltrain reads version {VERSION}; "
            "install the dltrain that wrote it, or start a new sweep"
        )


def mend_journal(folder: Path, events: list[Event]) -> None:
    """Rewrite the journal if its last line was cut, so that the next event gets a line."""
    path = folder / JOURNAL
    content = path.read_bytes()
    whole = content.split(b"\n")[: len(events)]
    mended = b"".join(line + b"\n" for line in whole)
    if mended != content:
        replace_file(path, mended)
