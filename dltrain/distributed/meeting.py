"""Meets the processes that torchrun started, also after it has started them again.

torchrun keeps one store for all of its attempts, in which a process would find the addresses of the
attempt before. So process 0 chooses a new place in the store for every attempt, and tells it to
each process that asks.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist

POLL_SECONDS = 0.05


@contextmanager
def torchrun_store(timeout: timedelta) -> Iterator[tuple[dist.Store, int, int]]:
    """Yield the store of this attempt, the number of this process, and the number of all.

    Process 0 answers the others within the block.
    """
    root, rank, size = next(dist.rendezvous("env://", timeout=timeout))
    if rank:
        yield dist.PrefixStore(asked_place(root, rank), root), rank, size
        return
    place = uuid.uuid4().hex
    is_met = threading.Event()
    answers = threading.Thread(target=answer, args=(root.clone(), size, place, is_met), daemon=True)
    answers.start()
    try:
        yield dist.PrefixStore(place, root), rank, size
    finally:
        is_met.set()
        answers.join()


def asked_place(store: dist.Store, rank: int) -> str:
    """Return the place that process 0 has chosen for this attempt."""
    question = uuid.uuid4().hex
    store.set(f"dltrain/question/{rank}", question)
    place: bytes = store.get(f"dltrain/answer/{question}")  # waits for it
    return place.decode()


def answer(store: Any, size: int, place: str, is_met: threading.Event) -> None:
    """Tell every process that asks the place of this attempt, until all have met."""
    answered: set[bytes] = set()
    while not is_met.is_set():
        for rank in range(1, size):
            key = f"dltrain/question/{rank}"
            question: bytes = store.get(key) if store.check([key]) else b""
            if question and question not in answered:
                store.set(f"dltrain/answer/{question.decode()}", place)
                answered.add(question)
        time.sleep(POLL_SECONDS)
