"""A plugin with a callback that ends the process of a job once, in the way that it is set to."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from dltrain import Callback, Engine

STEP = 30


class ClusterSabotage(Callback):
    """Acts at a step of the first attempt."""

    name = "cluster_sabotage"
    draws = False

    def __init__(self, how: str) -> None:
        self.how = how

    def step_end(self, engine: Engine) -> None:
        marker = Path(f"{self.how}.done")
        if self.how == "slow":
            time.sleep(0.05)
        if engine.step != STEP or marker.exists():
            return
        marker.touch()
        if self.how == "die":
            os._exit(9)
        if self.how == "preempt":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR2)
        if self.how == "end_of_time":
            os.kill(os.getpid(), signal.SIGUSR2)
