"""Orders of process 0, and the callbacks that send them and obey them.

All callbacks of a run are in process 0. After each of their events it tells the other processes
whether the stage or the run has ended, and what else they take part in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from dltrain.distributed.processes import Order, Processes
from dltrain.engine import Callback, Engine

CONTINUE = 0  # the value: what has ended
OBSERVE = 1  # the value: the watched metric of an evaluation
SAVE_GRADIENTS = 2  # the value: the number of an optimizer in its stage
EVALUATE = 3
TEST = 4
LOAD_WEIGHTS = 5
STATE = 6
LEAVE = 7

STAGE_ENDED = 1
RUN_ENDED = 2


class Lead(Callback):
    """Tells the other processes what the callbacks of process 0 have decided.

    It comes after every other callback.
    """

    name = "processes"
    draws = False

    def __init__(self, group: Processes) -> None:
        self.group = group

    def step_end(self, engine: Engine) -> None:
        ended = STAGE_ENDED * engine.stage_ended + RUN_ENDED * engine.run_ended
        self.group.send(Order(CONTINUE, ended))

    def evaluation_end(self, engine: Engine) -> None:
        value = engine.scores.get(engine.stage.watch, math.nan)
        self.group.send(Order(OBSERVE, float(value)))

    def epoch_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def stage_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def resumed(self, engine: Engine) -> None:
        self.step_end(engine)


Obey = Callable[[Engine, Order], None]


class Follow(Callback):
    """Obeys the orders of process 0, after each event at which it may send some.

    `others` obey the orders that change no place in training, by their kinds.
    """

    name = "processes"
    draws = False

    def __init__(self, group: Processes, others: dict[int, Obey]) -> None:
        self.group = group
        self.obey: dict[int, Obey] = {
            OBSERVE: observe,
            SAVE_GRADIENTS: save_gradients,
            **others,
        }

    def step_end(self, engine: Engine) -> None:
        order = self._obey_until(engine, CONTINUE)
        engine.stage_ended = bool(int(order.value) & STAGE_ENDED)
        engine.run_ended = bool(int(order.value) & RUN_ENDED)

    def epoch_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def stage_end(self, engine: Engine) -> None:
        self.step_end(engine)

    def resumed(self, engine: Engine) -> None:
        self.step_end(engine)

    def run_end(self, engine: Engine) -> None:
        self._obey_until(engine, LEAVE)

    def _obey_until(self, engine: Engine, last: int) -> Order:
        """Obey orders up to one of the kind `last`, and return that one."""
        while True:
            order = self.group.receive()
            if order.kind == last:
                return order
            self.obey[order.kind](engine, order)


def observe(engine: Engine, order: Order) -> None:
    """Pass the watched metric of an evaluation on to the schedules."""
    for optim in engine.stage.optims:
        optim.observe(order.value)


def save_gradients(engine: Engine, order: Order) -> None:
    """Combine the gradients of an incomplete step for a checkpoint of process 0."""
    optim = engine.stage.optims[int(order.value)]
    optim.reduction.complete_for_saving(optim.params)
