"""Runs that take turns keep their own generators and log handlers."""

from __future__ import annotations

import logging
import random
import threading

import numpy as np
import torch

from dltrain import rng
from dltrain.vectorized.turns import Turns

log = logging.getLogger("dltrain")


def drawn() -> list[float]:
    """A number of each generator."""
    named = rng.python_stream("a").random(), float(torch.rand((), generator=rng.torch_stream("b")))
    return [random.random(), np.random.rand(), float(torch.rand(())), *named]  # noqa: NPY002


def expected(seed: int) -> list[list[float]]:
    with rng.preserved():
        rng.seed_all(seed)
        return [drawn() for _ in range(3)]


def test_each_run_draws_what_it_would_draw_alone() -> None:
    alone = {seed: expected(seed) for seed in (1, 2)}
    rng.seed_all(5)
    _ = drawn()
    restore = rng.snapshot()
    after = drawn()
    restore()
    turns = Turns()
    of_runs: dict[int, list[list[float]]] = {1: [], 2: []}
    for run in (1, 2):
        with turns.taken(run):
            rng.seed_all(run)
    for run in (1, 2, 2, 1, 1, 2):
        with turns.taken(run):
            of_runs[run].append(drawn())
    turns.close()
    assert of_runs == alone
    assert drawn() == after


def test_each_run_has_its_own_log_handlers() -> None:
    before = list(log.handlers)
    own = logging.NullHandler()
    turns = Turns()
    with turns.taken(1):
        log.addHandler(own)
    with turns.taken(2):
        assert log.handlers == before
    with turns.taken(1):
        assert log.handlers == [*before, own]
    turns.close()
    assert log.handlers == before


def test_only_one_run_has_its_turn() -> None:
    turns = Turns()
    order = []
    is_waiting = threading.Event()

    def other() -> None:
        is_waiting.set()
        with turns.taken(2):
            order.append("other")

    with turns.taken(1):
        thread = threading.Thread(target=other)
        thread.start()
        is_waiting.wait()
        order.append("first")
        with turns.given_up(1):
            thread.join()
        order.append("first again")
    turns.close()
    assert order == ["first", "other", "first again"]
