"""Threads that read files; a hanging one is abandoned, and holds up neither the run nor its end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count as counting
from queue import PriorityQueue
from typing import Any, TypeVar

from dltrain.errors import InputError

CHUNK = 32  # files that a thread reads at a time
CLOSE_SECONDS = 1.0  # that threads have to end
MIN_WAIT_SECONDS = 0.01
NEEDED, AHEAD, END = range(3)  # the order in which jobs leave the queue
ValueT = TypeVar("ValueT")


class AbandonedError(Exception):
    """Nobody waits for this job any more."""


class Job:
    """One call of `work(job)` on a thread; `result` returns what it returned."""

    def __init__(self, work: Callable[[Job], Any], workers: Workers) -> None:
        self.work = work
        self.workers = workers
        self.claimed = threading.Lock()  # by the thread that does it
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

    def idle(self) -> None:
        """Note that the work reads no file until it calls `at` again."""
        self.file_start = float("inf")

    def wait_for(self, other: Job) -> Any:
        """Return the result of another job; this one reads no file meanwhile."""
        self.idle()
        return other.result()

    def claim(self) -> bool:
        """Return True once: for the thread that is to do the work."""
        return self.claimed.acquire(blocking=False)

    def run(self) -> None:
        """Do the work; an error is raised where the result is wanted."""
        try:
            self.value = self.work(self)
        except BaseException as e:
            self.error = e
        self.finished.set()

    def result(self) -> Any:
        """Return what `work` returned, or raise what it raised.

        InputError if it reads one file for longer than the workers' timeout, or if it waits for a
        thread and all of them do.
        """
        timeout = self.workers.timeout
        while not self.finished.wait(min(timeout, self.blocker().seconds_left())):
            blocker = self.blocker()
            if blocker.seconds_at_file() > timeout:
                raise InputError(
                    f"{blocker.file} could not be read in {timeout:g} s: its disk or network does "
                    "not answer (dataset.timeout waits longer)"
                )
        if self.error is not None:
            raise self.error
        return self.value

    def blocker(self) -> Job:
        """Return the job whose end this one waits for.

        It is this one if a thread does it or will at once, else the one that began a file last.
        """
        running = [job for job in self.workers.running if job is not None]
        if self.claimed.locked() or len(running) < len(self.workers.running):
            return self
        return max(running, key=lambda job: job.file_start)

    def seconds_at_file(self) -> float:
        """Return for how long the current file is read."""
        return time.monotonic() - self.file_start

    def seconds_left(self) -> float:
        """Return for how long the current file may still be read."""
        return max(MIN_WAIT_SECONDS, self.workers.timeout - self.seconds_at_file())


class Workers:
    """`count` threads, which do jobs in the order in which they are submitted; needed ones first.

    Threads and not processes: PIL and torch release Python's lock while they decode, so that every
    core is used, and there is no process that a signal could hit first. They are daemons: Python's
    own pool waits for each of its threads when the process ends, and one that hangs in a dead
    network mount never ends. `timeout` is in seconds a file.
    """

    def __init__(self, count: int, timeout: float) -> None:
        self.timeout = timeout
        self.closed = False
        self.jobs: PriorityQueue[tuple[int, int, Job | None]] = PriorityQueue()
        self.sequence = counting()
        self.running: list[Job | None] = [None] * count  # by thread
        self.threads = [
            threading.Thread(target=self.serve, args=(i,), daemon=True) for i in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def serve(self, number: int) -> None:
        """Do jobs on the thread of this number until the workers are closed."""
        while (job := self.jobs.get()[-1]) is not None:
            if job.claim():
                self.running[number] = job
                job.run()
                self.running[number] = None

    def submit(self, work: Callable[[Job], Any], priority: int = NEEDED) -> Job:
        """Return a job that a thread will do."""
        job = Job(work, self)
        self.enqueue(job, priority)
        return job

    def enqueue(self, job: Job | None, priority: int) -> None:
        """Put a job into the queue, even if it is there with a lower priority; None ends a thread.

        It is done once.
        """
        self.jobs.put((priority, next(self.sequence), job))

    def close(self) -> None:
        """Abandon the jobs that are not done, and wait for the threads for a moment."""
        self.closed = True
        for _ in self.threads:
            self.enqueue(None, END)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def in_thread(work: Callable[[Job], ValueT], timeout: float) -> ValueT:
    """Return the result of `work` on a thread; InputError if a file takes longer than `timeout`."""
    workers = Workers(1, timeout)
    try:
        value: ValueT = workers.submit(work).result()
    finally:
        workers.close()
    return value


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
