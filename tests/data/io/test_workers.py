"""Threads that read files: in order, needed ones first, and abandoned when they hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dltrain.data.io.workers import AHEAD, NEEDED, Job, Workers, in_thread
from dltrain.errors import InputError

TIMEOUT = 0.2


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Yield the event that hanging jobs wait for; set at the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def hanging(file: str, event: threading.Event, job: Job) -> None:
    job.at(file)
    event.wait(20)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_job_in_the_queue_fails_when_every_thread_hangs(
    threads: int, hang: threading.Event
) -> None:
    workers = Workers(threads, TIMEOUT)
    for i in range(threads):
        workers.submit(lambda job, i=i: hanging(f"disk{i}.tar", hang, job))
    queued = workers.submit(lambda job: 1)
    with pytest.raises(InputError, match=r"disk\d\.tar could not be read in 0\.2 s"):
        queued.result()
    hang.set()
    assert queued.result() == 1
    workers.close()


def test_a_job_in_the_queue_waits_while_a_thread_reads_on(hang: threading.Event) -> None:
    workers = Workers(2, TIMEOUT)

    def slow(job: Job) -> None:
        for i in range(12):  # longer than the timeout, but no file is
            job.at(f"{i}.tar")
            time.sleep(TIMEOUT / 8)

    workers.submit(lambda job: hanging("disk.tar", hang, job))
    workers.submit(slow)
    assert workers.submit(lambda job: 1).result() == 1
    hang.set()
    workers.close()


def test_a_job_that_waits_for_another_reads_no_file() -> None:
    """The file that it read before is not blamed."""
    opening, decoding = Workers(1, TIMEOUT), Workers(1, TIMEOUT)

    def download(job: Job) -> str:
        for _ in range(12):
            job.at("next.tar")
            time.sleep(TIMEOUT / 8)
        return "content"

    def decode(job: Job) -> str:
        job.at("before.tar")
        content: str = job.wait_for(opening.submit(download))
        return content

    assert decoding.submit(decode).result() == "content"
    opening.close()
    decoding.close()


def test_needed_jobs_come_before_those_that_were_begun_ahead() -> None:
    workers = Workers(1, 10.0)
    begin = threading.Event()
    done: list[str] = []
    workers.submit(lambda job: begin.wait(10))
    ahead = [
        workers.submit(lambda job, name=name: done.append(name), AHEAD) for name in ("c", "a", "d")
    ]
    last = workers.submit(lambda job: done.append("b"))
    workers.enqueue(ahead[1], NEEDED)  # needed now, after b
    begin.set()
    for job in [*ahead, last]:
        job.result()
    workers.close()
    assert done == ["b", "a", "c", "d"]


def test_work_on_a_thread_returns_or_raises() -> None:
    assert in_thread(lambda job: threading.current_thread().name, 1.0) != "MainThread"
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda job: 1 / 0, 1.0)
