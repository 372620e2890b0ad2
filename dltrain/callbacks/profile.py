"""Where the time of a step goes: `debug=profile`."""

from __future__ import annotations

import logging

from torch import profiler

from dltrain.engine import Callback, Engine
from dltrain.runs.folder import Run

log = logging.getLogger("dltrain")
FIRST, LAST = 10, 50
TRACE = "trace.json"


class Profile(Callback):
    """Profiles steps 10 to 50 and prints the operations that took longest; the trace goes into the run's folder."""

    name = "profile"
    draws = False

    def __init__(self, run: Run) -> None:
        self.run = run
        self.profiler: profiler.profile | None = None

    def step_end(self, engine: Engine) -> None:
        if engine.step == FIRST:
            self.profiler = profiler.profile()
            self.profiler.start()
        elif engine.step == LAST:
            self.stop()

    def run_end(self, engine: Engine) -> None:
        self.stop()

    def stop(self) -> None:
        if self.profiler is None:
            return
        self.profiler.stop()
        self.profiler.export_chrome_trace(str(self.run.folder / TRACE))
        log.info(
            self.profiler.key_averages().table(
                sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40
            )
        )
        log.info(
            f"trace of steps {FIRST} to {LAST}: {self.run.folder / TRACE} (open it in chrome://tracing or Perfetto)"
        )
        self.profiler = None
