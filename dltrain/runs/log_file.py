"""The log of a run, train.log, and messages that are logged before the run has a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from dltrain.runs.folder import LOG, RunFolder

log = logging.getLogger("dltrain")
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class QuietFile(logging.FileHandler):
    """A log file that training does not depend on: messages that cannot be written are dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the file cannot be opened."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore errors of writing."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            super().close()


class RecordBuffer(logging.Handler):
    """A handler that keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@contextmanager
def buffered_records() -> Iterator[list[logging.LogRecord]]:
    """Yield a list of all records that are logged in the block.

    A run has no folder yet while its data is read and its weights are loaded; `logged_to` writes
    these records into its log later.
    """
    handler = RecordBuffer()
    log.addHandler(handler)
    try:
        yield handler.records
    finally:
        log.removeHandler(handler)


@contextmanager
def without_repeats(logged: Sequence[logging.LogRecord]) -> Iterator[None]:
    """Drop messages in the block that were logged before, when the same data was first read."""
    known = {record.getMessage() for record in logged}

    def is_new(record: logging.LogRecord) -> bool:
        return record.getMessage() not in known

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


@contextmanager
def logged_to(run: RunFolder, earlier: Sequence[logging.LogRecord] = ()) -> Iterator[None]:
    """Write messages and tracebacks of the block into the run's log, after `earlier` records."""
    path = run.folder / LOG
    handler = QuietFile(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter(FORMAT))
    for record in earlier:
        handler.handle(record)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
