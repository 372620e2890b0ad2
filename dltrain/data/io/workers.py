"""Threads that read files. One that hangs is given up by name, and keeps neither the run nor the process going."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

from dltrain.errors import InputError

CHUNK = 32  # files that a thread reads at a time
PATIENCE = 1.0  # seconds that threads have to come to an end


class Abandoned(Exception):
    """Nobody waits for this job any more."""


class Job:
    """One call of `work(job)` on a thread, which says by `at` which file it goes to next; what came of it is `result`."""

    def __init__(self, work: Callable[[Job], Any], workers: Workers) -> None:
        self.work, self.workers = work, workers
        self.finished = threading.Event()
        self.file, self.since = "", float("inf")
        self.value: Any = None
        self.error: BaseException | None = None

    def at(self, file: str) -> None:
        if self.workers.closed:
            raise Abandoned
        self.file, self.since = file, time.monotonic()

    def run(self) -> None:
        try:
            self.value = self.work(self)
        except BaseException as e:  # it is raised where the result is wanted
            self.error = e
        self.finished.set()

    def result(self) -> Any:
        """What `work` returned or raised; InputError when it has been at one file for the time that is allowed."""
        limit = self.workers.timeout
        while not self.finished.wait(min(limit, max(0.01, self.since + limit - time.monotonic()))):
            if time.monotonic() - self.since > limit:
                raise InputError(
                    f"{self.file} could not be read in {limit:g} s: its disk or network does not answer "
                    "(dataset.timeout waits longer)"
                )
        if self.error is not None:
            raise self.error
        return self.value


class Workers:
    """`count` threads, which do jobs in the order in which they come.

    Threads and not processes: PIL and torch let go of Python's lock while they decode, so that every core is used, and there
    is no process that a signal could hit first. They are daemons: Python's own pool waits for each of its threads when the
    process ends, and one that hangs in a dead network mount never does.
    """

    def __init__(self, count: int, timeout: float) -> None:
        self.timeout, self.closed = timeout, False
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.threads = [threading.Thread(target=self.serve, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def serve(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.run()

    def submit(self, work: Callable[[Job], Any]) -> Job:
        job = Job(work, self)
        self.jobs.put(job)
        return job

    def close(self) -> None:
        """Give up what is not done; wait for the threads as long as one image may take."""
        self.closed = True
        for _ in self.threads:
            self.jobs.put(None)
        until = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))


def in_threads(
    work: Callable[[slice, Job], Any], count: int, threads: int, timeout: float
) -> Iterator[Any]:
    """`work` on chunks of `count` files, several at a time; the results in order."""
    workers = Workers(threads, timeout)
    parts = [slice(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    jobs = deque(workers.submit(partial(work, part)) for part in parts)
    try:
        while jobs:
            yield jobs.popleft().result()
    finally:
        workers.close()
