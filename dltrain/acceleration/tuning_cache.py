"""The measurements of device=fast on disk: one small JSON file for each network and machine."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dltrain.acceleration.candidates import Candidate
from dltrain.acceleration.tuning import Measured, Measurements
from dltrain.files import replace_file, to_json

log = logging.getLogger("dltrain")
VERSION = 1  # of the files
LOCK = "tuning.lock"
LOCK_WAIT_SECONDS = 120.0  # for another process that measures; after that, both measure


def cache_file(folder: Path, key: str) -> Path:
    """Return the file of the measurements with a key (a hash)."""
    return folder / f"tuning-{key[:16]}.json"


def read_measurements(path: Path, key: str) -> Measurements | None:
    """Return the measurements in a file; None if there is none.

    A file that is damaged or belongs to another key is ignored with a line.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION or content["key"] != key:
            raise ValueError("it belongs to another network, machine or version")
        return measurements_from(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        log.info(f"device=fast: {path} is ignored and measured again ({e})")
        return None


def write_measurements(path: Path, key: str, measurements: Measurements) -> None:
    """Replace the file whole or not at all; if that fails, the next run measures again."""
    content = {"version": VERSION, "key": key, **as_plain(measurements)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (to_json(content, indent=1) + "\n").encode())
    except OSError as e:
        log.debug(f"{path} cannot be written: {e}")


@contextmanager
def measuring_alone(folder: Path) -> Iterator[None]:
    """Let one process of the machine measure at a time, so that jobs of a sweep measure once.

    Where the lock cannot be had, the block runs without it.
    """
    from filelock import FileLock, Timeout  # importing it takes time that other runs do not have

    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / LOCK, timeout=LOCK_WAIT_SECONDS))
        except (OSError, Timeout) as e:
            log.debug(f"device=fast measures without the lock {folder / LOCK}: {e}")
        yield


def as_plain(measurements: Measurements) -> dict[str, Any]:
    """Return measurements as plain values for JSON; a candidate that was not timed has no ms."""
    return {
        "finalists": [asdict(one) for one in measurements.finalists],
        "others": [asdict(one) for one in measurements.others],
        "compile_tried": measurements.compile_tried,
    }


def measurements_from(content: Mapping[str, Any]) -> Measurements:
    """Return what `as_plain` described; ValueError, KeyError or TypeError if it is damaged."""
    finalists = tuple(measured_from(one) for one in content["finalists"])
    others = tuple(measured_from(one) for one in content["others"])
    if not finalists or not all(0 < one.ms < math.inf for one in finalists):
        raise ValueError("a finalist has no time")
    return Measurements(finalists, others, bool(content["compile_tried"]))


def measured_from(content: Mapping[str, Any]) -> Measured:
    """Return the figures of one candidate."""
    figures = dict(content)
    candidate = Candidate(**figures.pop("candidate"))
    for name in ("ms", "difference"):
        if figures[name] is None:  # infinite, which JSON cannot write
            figures[name] = math.inf
    return Measured(candidate, **figures)
