"""Orders of process 0, and the callbacks that send them and obey them.

All callbacks of a run are in process 0. After each of their events it tells the other processes
whether the stage or the run has ended, and what else they take part in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress

import torch

from dltrain.distributed.processes import Order, Processes
from dltrain.engine import Batches, Callback, Engine
from dltrain.optim import Optim

CONTINUE = 0  # the value: flags, as below
OBSERVE = 1  # the value: the watched metric of an evaluation
SAVE_GRADIENTS = 2  # the value: the number of an optimizer
GATHER_WEIGHTS = 3
GATHER_TASK = 4
GATHER_OPTIMIZER = 5  # the value: the number of an optimizer
LOAD_TASK = 6  # the state follows as an object
LEAVE = 7
EVALUATE = 8  # the value: the place of a split in SPLITS

SPLITS = ("val", "test")

STAGE_ENDED = 1
RUN_ENDED = 2
RECORDS_NORM = 4  # the next step computes the norm of the gradient, which may need all processes


class EvaluationGivenUp(Exception):
    """Process 0 has given up an evaluation, for example because of a signal."""


class Lead(Callback):
    """Tells the other processes what the callbacks of process 0 have decided.

    It comes after every other callback. `end_training` is called once all stages are trained.
    """

    name = "processes"
    draws = False

    def __init__(self, group: Processes, end_training: Callable[[], None]) -> None:
        self.group = group
        self.end_training = end_training

    def run_end(self, engine: Engine) -> None:
        self.end_training()

    def step_end(self, engine: Engine) -> None:
        records_norm = any(optim.record_grad_norm for optim in engine.stage.optims)
        flags = STAGE_ENDED * engine.stage_ended + RUN_ENDED * engine.run_ended
        self.group.send(Order(CONTINUE, flags + RECORDS_NORM * records_norm))

    def evaluation_end(self, engine: Engine) -> None:
        value = engine.scores.get(engine.stage.watch, math.nan)
        self.group.send(Order(OBSERVE, float(value)))

    def epoch_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def stage_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def resumed(self, engine: Engine) -> None:
        self.step_end(engine)


class Follow(Callback):
    """Obeys the orders of process 0, after each event at which it may send some.

    `gather` makes networks whole that are divided among the processes. `splits` returns the batches
    of each split by its name.
    """

    name = "processes"
    draws = False

    def __init__(
        self,
        group: Processes,
        gather: Callable[[], None],
        splits: Mapping[str, Callable[[], Batches]],
    ) -> None:
        self.group = group
        self.splits = splits
        self.obey: dict[int, Callable[[Engine, Order], None]] = {
            OBSERVE: observe,
            SAVE_GRADIENTS: save_gradients,
            GATHER_WEIGHTS: lambda engine, order: gather(),
            GATHER_TASK: gather_task,
            GATHER_OPTIMIZER: gather_optimizer,
            LOAD_TASK: self._load_task,
            EVALUATE: self._evaluate,
        }

    def step_end(self, engine: Engine) -> None:
        order = self._obey_until(engine, CONTINUE)
        flags = int(order.value)
        engine.stage_ended = bool(flags & STAGE_ENDED)
        engine.run_ended = bool(flags & RUN_ENDED)
        for optim in engine.stage.optims:
            optim.record_grad_norm = bool(flags & RECORDS_NORM)

    def epoch_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def stage_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def resumed(self, engine: Engine) -> None:
        use_generator_of_first_gpu()
        self.step_end(engine)

    def run_end(self, engine: Engine) -> None:
        self._obey_until(engine, LEAVE)

    def _load_task(self, engine: Engine, order: Order) -> None:
        engine.task.load_state_dict(self.group.share_object())

    def _evaluate(self, engine: Engine, order: Order) -> None:
        """Score this process's batches of a split."""
        split = SPLITS[int(order.value)]
        with suppress(EvaluationGivenUp):
            engine.score(self.splits[split](), split)
        engine.task.train()

    def _obey_until(self, engine: Engine, last: int) -> Order:
        """Obey orders up to one of the kind `last`, and return that one."""
        while True:
            order = self.group.receive()
            if order.kind == last:
                return order
            self.obey[order.kind](engine, order)


def use_generator_of_first_gpu() -> None:
    """Let this process's GPU continue with the random numbers of the first, that of process 0."""
    if torch.cuda.is_initialized():
        torch.cuda.set_rng_state(torch.cuda.get_rng_state(0))


def observe(engine: Engine, order: Order) -> None:
    """Pass the watched metric of an evaluation on to the schedules."""
    for optim in engine.stage.optims:
        optim.observe(order.value)


def save_gradients(engine: Engine, order: Order) -> None:
    """Combine the gradients of an incomplete step for a checkpoint of process 0."""
    optim = ordered_optim(engine, order)
    optim.reduction.complete_for_saving(optim.params)


def gather_optimizer(engine: Engine, order: Order) -> None:
    """Gather the state of a divided optimizer for a checkpoint of process 0."""
    ordered_optim(engine, order).state_dict()


def gather_task(engine: Engine, order: Order) -> None:
    """Gather the state of a divided task for a checkpoint of process 0."""
    engine.task.state_dict()


def ordered_optim(engine: Engine, order: Order) -> Optim:
    """Return the optimizer whose number is the value of an order."""
    optims = {optim.reduction.number: optim for optim in engine.stage.optims}
    return optims[int(order.value)]
