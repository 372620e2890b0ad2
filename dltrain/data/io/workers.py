"""Threads that read files; a hanging one is abandoned, and holds up neither the run nor its end."""

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
CLOSE_SECONDS = 1.0  # that threads have to end
MIN_WAIT_SECONDS = 0.01


class AbandonedError(Exception):
    """Nobody waits for this job any more."""


class Job:
    """One call of `work(job)` on a thread; `result` returns what it returned."""

    def __init__(self, work: Callable[[Job], Any], workers: Workers) -> None:
        self.work = work
        self.workers = workers
        self.finished = threading.Event()
        self.file = ""
        self.file_start = float("inf")  # seconds, when reading it began
        self.value: Any = None
        self.error: BaseException | None = None

    def at(self, file: str) -> None:
        """Note that the work goes to the next file; AbandonedError if the workers were closed."""
        if self.workers.closed:
            raise AbandonedError
        self.file = file
        self.file_start = time.monotonic()

    def run(self) -> None:
        """Do the work; an error is raised where the result is wanted."""
        try:
            self.value = self.work(self)
        except BaseException as e:
            self.error = e
        self.finished.set()

    def result(self) -> Any:
        """Return what `work` returned, or raise what it raised.

        InputError if it reads one file for longer than the workers' timeout.
        """
        timeout = self.workers.timeout
        while not self.finished.wait(min(timeout, self.seconds_left())):
            if self.seconds_at_file() > timeout:
                raise InputError(
                    f"{self.file} could not be read in {timeout:g} s: its disk or network does not "
                    "answer (dataset.timeout waits longer)"
                )
        if self.error is not None:
            raise self.error
        return self.value

    def seconds_at_file(self) -> float:
        """Return for how long the current file is read."""
        return time.monotonic() - self.file_start

    def seconds_left(self) -> float:
        """Return for how long the current file may still be read."""
        return max(MIN_WAIT_SECONDS, self.workers.timeout - self.seconds_at_file())


class Workers:
    """`count` threads, which do jobs in the order in which they are submitted.

    Threads and not processes: PIL and torch release Python's lock while they decode, so that every
    core is used, and there is no process that a signal could hit first. They are daemons: Python's
    own pool waits for each of its threads when the process ends, and one that hangs in a dead
    network mount never ends. `timeout` is in seconds a file.
    """

    def __init__(self, count: int, timeout: float) -> None:
        self.timeout = timeout
        self.closed = False
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.threads = [threading.Thread(target=self.serve, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def serve(self) -> None:
        """Do jobs on this thread until the workers are closed."""
        while (job := self.jobs.get()) is not None:
            job.run()

    def submit(self, work: Callable[[Job], Any]) -> Job:
        """Return a job that a thread will do."""
        job = Job(work, self)
        self.jobs.put(job)
        return job

    def close(self) -> None:
        """Abandon the jobs that are not done, and wait for the threads for a moment."""
        self.closed = True
        for _ in self.threads:
            self.jobs.put(None)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def in_threads(
    work: Callable[[slice, Job], Any], count: int, threads: int, timeout: float
) -> Iterator[Any]:
    """Yield the results of `work` on chunks of `count` files, in order; several run at a time."""
    workers = Workers(threads, timeout)
    chunks = [slice(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    jobs = deque(workers.submit(partial(work, chunk)) for chunk in chunks)
    try:
        while jobs:
            yield jobs.popleft().result()
    finally:
        workers.close()
