"""Divides evaluations among the processes of a run: each scores some of the batches of a split.

Process 0 orders an evaluation, and sends what it evaluates with. Every process adds its batches to
the states of the task, and process 0 computes the scores from those of all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dltrain.distributed.feeding import DividingFeed, EvaluationBy
from dltrain.distributed.orders import EVALUATE, SPLITS, EvaluationGivenUp
from dltrain.distributed.processes import Order, Processes
from dltrain.engine import Batches, Stage
from dltrain.types.combining import Combinable, States, combining
from dltrain.types.own_code import MisfitError, described_function
from dltrain.types.rows import Share

FINISHED = 1
GIVEN_UP = 2


def is_divided(stage: Stage, batches: Batches, processes: int) -> bool:
    """Return whether every process scores some of the batches.

    The number of a process's first sample follows from the number of its first batch, so batches
    of different sizes, such as those with so many tokens, are scored by process 0 alone.
    """
    has_equal_batches = len(batches) == -(-batches.samples // batches.batch_size)
    return stage.combines_scores and has_equal_batches and len(batches) >= processes


def own_part(batches: Batches, share: Share) -> tuple[Iterator[Any], int]:
    """Return the batches of a process, and the number of its first sample."""
    part = share.rows(len(batches))
    own_batches = islice(batches.epoch(0, part.start), part.stop - part.start)
    return own_batches, part.start * batches.batch_size


def evaluated_values(task: nn.Module, split: str) -> list[Tensor]:
    """Return the tensors of a task that differ between the processes in an evaluation.

    Running statistics of batch norm do, as each process has seen other rows. For the test process 0
    has loaded the best weights.
    """
    values = [buffer.detach() for buffer in task.buffers()]
    if split == "test":
        values += [param.detach() for param in task.parameters()]
    return values


class LedEvaluations:
    """The evaluations of process 0, which other processes take part in by order."""

    def __init__(self, group: Processes, feed: DividingFeed, task: nn.Module) -> None:
        self.group = group
        self.feed = feed
        self.task = task

    @contextmanager
    def evaluation(self, stage: Stage, batches: Batches, split: str) -> Iterator[Iterator[Any]]:
        """Give the batches that this process scores within the block."""
        if not is_divided(stage, batches, self.group.size):
            yield self.feed.batches(batches.epoch(0))
            return
        self.group.send(Order(EVALUATE, SPLITS.index(split)))
        self.group.share_values(evaluated_values(self.task, split))
        own_batches, first_row = own_part(batches, self.group.share)
        collection = Collection(self.group)
        try:
            with combining(collection.states_of_others, first_row):
                yield self.feed.batches(own_batches)
        except BaseException:
            collection.give_up()
            raise
        if not collection.is_begun:
            collection.give_up()
            raise never_combined(stage)


class Collection:
    """Collects the states of the other processes at the end of one evaluation."""

    def __init__(self, group: Processes) -> None:
        self.group = group
        self.is_begun = False

    def states_of_others(self, states: Sequence[Combinable]) -> Sequence[States]:
        """Return the states of the other processes, in their order."""
        self.is_begun = True
        dist.broadcast(torch.tensor(FINISHED), 0, group=self.group.control)
        contents = self.group.collect(b"")
        return [loaded(content, self.group.device) for content in contents[1:]]

    def give_up(self) -> None:
        """Let the other processes give up too, unless their states are collected already."""
        if self.is_begun:
            return
        self.is_begun = True
        with suppress(RuntimeError):  # another process is gone, and the run ends by an error
            dist.broadcast(torch.tensor(GIVEN_UP), 0, group=self.group.control)


class FollowedEvaluations:
    """The evaluations of a process that follows process 0."""

    def __init__(self, group: Processes, feed: DividingFeed, task: nn.Module) -> None:
        self.group = group
        self.feed = feed
        self.task = task

    @contextmanager
    def evaluation(self, stage: Stage, batches: Batches, split: str) -> Iterator[Iterator[Any]]:
        """Give the batches that this process scores within the block.

        Its own values of what process 0 evaluates with are restored after it.
        """
        values = evaluated_values(self.task, split)
        own_values = [value.clone() for value in values]
        self.group.share_values(values)
        own_batches, first_row = own_part(batches, self.group.share)
        end = EndOfEvaluation(self.group)
        try:
            with combining(end.send_states, first_row):
                yield end.watched(self.feed.batches(own_batches))
        finally:
            for value, own in zip(values, own_values, strict=True):
                value.copy_(own)


class EndOfEvaluation:
    """Waits for the message with which process 0 ends an evaluation or gives it up."""

    def __init__(self, group: Processes) -> None:
        self.group = group
        self.message = torch.tensor(0)
        self.work: Any = dist.broadcast(self.message, 0, group=group.control, async_op=True)

    def watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield batches; EvaluationGivenUp is raised once process 0 has given up."""
        for batch in batches:
            if self.work.is_completed():
                self._require_end()
            yield batch

    def _require_end(self) -> None:
        """Wait for the message; EvaluationGivenUp if it says so."""
        self.work.wait()
        if int(self.message) == GIVEN_UP:
            raise EvaluationGivenUp

    def send_states(self, states: Sequence[Combinable]) -> None:
        """Send the states of this process to process 0."""
        self._require_end()
        self.group.collect(saved(states))


def saved(states: Sequence[Combinable]) -> bytes:
    """Return states as bytes, with their tensors."""
    content = io.BytesIO()
    torch.save([state.state_dict() for state in states], content)
    return content.getvalue()


def loaded(content: bytes, device: torch.device) -> States:
    """Return states from bytes that another process of this run has sent.

    Tensors of its GPU come to `device`, the others stay on the CPU.
    """

    def placed(storage: Any, location: str) -> Any:
        return storage if location == "cpu" else storage.to(device=device)

    states: States = torch.load(io.BytesIO(content), map_location=placed, weights_only=True)
    return states


def never_combined(stage: Stage) -> MisfitError:
    """Return the error of an evaluation that scored some batches as if they were all."""
    name = described_function(stage.evaluate)
    return MisfitError(
        f"{name} does not combine the scores of several processes: call "
        "dltrain.types.combining.combined, or give its Stage combines_scores=False",
        stage.evaluate,
    )


def evaluations_of(group: Processes, feed: DividingFeed, task: nn.Module) -> EvaluationBy:
    """Return how this process evaluates."""
    if group.leads:
        return LedEvaluations(group, feed, task).evaluation
    return FollowedEvaluations(group, feed, task).evaluation
