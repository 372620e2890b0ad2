"""Lanes: runs that wait for each other before every step, and make it together.

A run asks for a step, or for the outputs of its network in an evaluation, and waits. When all runs
of its lane wait, the last one to ask computes what they asked for, and all continue.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from dltrain.vectorized.program import Draw, Program, RunPart
from dltrain.vectorized.updates import update_together

Kind = Literal["join", "step", "outputs"]


def locked() -> threading.Lock:
    """Return a lock that is taken: another thread releases it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(eq=False)
class LaneRequest:
    """A run's wish: a training step on a batch, or the outputs for a batch of an evaluation.

    `answer` is None if the run has to do it by itself. `part` is None if it would anyway.
    """

    kind: Kind
    run: int
    part: RunPart | None = None
    batch: Any = None
    answer: Any = None
    undone: threading.Lock = field(default_factory=locked)  # until the request is met

    def likeness(self) -> Any:
        """Return what requests have in common that can be met together."""
        tensors = self.batch if isinstance(self.batch, tuple) else (self.batch,)
        return self.kind, [(x.shape, x.dtype, x.device) for x in tensors]

    @property
    def is_plain(self) -> bool:
        """True if the run has to do by itself what it asks for."""
        if self.part is None:
            return True
        if self.kind == "step":
            is_pair = isinstance(self.batch, tuple) and len(self.batch) == 2
            return not (is_pair and all(isinstance(x, Tensor) for x in self.batch))
        return not isinstance(self.batch, Tensor)


class Meeting(ABC):
    """A place where so many runs meet, `size`, and where the last one to come acts for all."""

    def __init__(self, size: int) -> None:
        self.lock = threading.Lock()
        self.size = size
        self.waiting: list[LaneRequest] = []

    def ask(self, request: LaneRequest) -> Any:
        """Return the answer, once all runs have asked; the last one meets all requests."""
        with self.lock:
            self.waiting.append(request)
            requests = self.complete()
        self.meet(requests)
        request.undone.acquire()
        return request.answer

    def leave(self) -> None:
        """Be one run less; the others do not wait for it any more."""
        with self.lock:
            self.size -= 1
            requests = self.complete()
        self.meet(requests)

    def complete(self) -> list[LaneRequest]:
        """Return the requests of all runs if all wait; [] before."""
        if len(self.waiting) < self.size:
            return []
        requests = self.waiting
        self.waiting = []
        return requests

    def meet(self, requests: list[LaneRequest]) -> None:
        """Meet requests, and let their runs continue."""
        if not requests:
            return
        try:
            self.answer(requests)
        finally:
            for request in requests:
                request.undone.release()

    @abstractmethod
    def answer(self, requests: list[LaneRequest]) -> None:
        """Set the answers of requests."""


class Lane(Meeting):
    """Runs whose networks have the same layers, and whose steps are made as one.

    `problem` says why the steps cannot be made together, once that is known; `noted` is True when
    it has been logged. `draw` draws the masks of dropout, for a run by its number.
    """

    def __init__(self, size: int, threads: int, draw: Any) -> None:
        super().__init__(size)
        self.threads = threads
        self.draw = draw
        self.problem = ""
        self.noted = False
        self.program: Program | None = None

    def answer(self, requests: list[LaneRequest]) -> None:
        """Meet the requests that are alike together."""
        groups: dict[str, list[LaneRequest]] = {}
        for request in requests:
            if not request.is_plain and not self.problem:
                groups.setdefault(str(request.likeness()), []).append(request)
        for group in groups.values():
            if len(group) > 1:
                self.answer_together(sorted(group, key=lambda request: request.run))

    def answer_together(self, requests: list[LaneRequest]) -> None:
        """Meet requests that are alike by the program of their runs."""
        try:
            answers = answers_of(self.program_of(requests), requests)
        except Exception as e:  # of a layer without a rule; the run's own step shows all others
            self.problem = first_line(e)
            return
        for request, answer in zip(requests, answers, strict=True):
            request.answer = answer

    def program_of(self, requests: list[LaneRequest]) -> Program:
        """Return the program of the runs of requests, which is kept until it is that of others."""
        parts = [request.part for request in requests if request.part is not None]
        if self.program is None or self.program.parts != parts:
            runs = [request.run for request in requests]
            draw: Draw = lambda number, layer, ones: self.draw(runs[number], layer, ones)  # noqa: E731
            self.program = Program(parts, draw)
        return self.program


def first_line(error: Exception) -> str:
    """Return the kind of an error and the first line of its message."""
    line, _, _ = str(error).partition("\n")
    return f"{type(error).__name__}: {line}"


def answers_of(program: Program, requests: list[LaneRequest]) -> list[Any]:
    """Return what a program answers to requests of one kind."""
    batches = [request.batch for request in requests]
    if requests[0].kind == "step":
        return updated(program, tried(program, batches))
    return program.predict(batches)


def updated(program: Program, answers: list[Any]) -> list[Any]:
    """Make the updates of all runs, if one call can; the answers then have no gradients."""
    optims = [part.optim for part in program.parts]
    if not update_together(optims, [gradients for _, _, gradients in answers]):
        return answers
    return [(loss, weight, None) for loss, weight, _ in answers]


def tried(program: Program, batches: list[Any]) -> list[Any]:
    """Return the steps of a program; after an error its buffers are as before."""
    if program.is_tried:
        return program.train(batches)
    buffers = {name: buffer.clone() for name, buffer in program.buffers.items()}
    try:
        answers = program.train(batches)
    except Exception:
        with torch.no_grad(), suppress(RuntimeError):
            for name, before in buffers.items():
                program.buffers[name].copy_(before)
        raise
    program.is_tried = True
    return answers
