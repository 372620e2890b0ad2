"""A plugin with a callback that interrupts a run, as a signal would, after INTERRUPT_AT steps."""

from __future__ import annotations

import os
import signal

from dltrain import Callback, Engine
from dltrain.errors import Interrupted


class InterruptAt(Callback):
    """Interrupts the run at the step that the environment names."""

    name = "interrupt_at"
    draws = False

    def step_end(self, engine: Engine) -> None:
        if engine.step == int(os.environ.get("INTERRUPT_AT", "0")):
            raise Interrupted(signal.SIGTERM)
