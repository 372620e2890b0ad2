"""Profiles some training steps, to show where their time goes: `debug=profile`."""

from __future__ import annotations

import logging

from torch import profiler

from dltrain.engine import Callback, Engine
from dltrain.runs.folder import RunFolder

log = logging.getLogger("dltrain")
WARMUP_STEPS = 10  # slower than the others, and not profiled
LAST_STEP = 50
TRACE = "trace.json"
MAX_OPERATIONS = 12  # rows of the table
MAX_NAME_CHARS = 40


class Profile(Callback):
    """Profiles steps 11 to 50: prints the slowest operations and writes a trace."""

    name = "profile"
    draws = False

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.profiler: profiler.profile | None = None

    def step_end(self, engine: Engine) -> None:
        if engine.step == WARMUP_STEPS:
            self.profiler = profiler.profile()
            self.profiler.start()
        elif engine.step == LAST_STEP:
            self.stop(engine.step)

    def run_end(self, engine: Engine) -> None:
        self.stop(engine.step)

    def stop(self, step: int) -> None:
        """Stop profiling after `step`, print the table and write the trace."""
        if self.profiler is None:
            return
        self.profiler.stop()
        path = self.run.folder / TRACE
        self.profiler.export_chrome_trace(str(path))
        log.info(
            self.profiler.key_averages().table(
                sort_by="self_cpu_time_total",
                row_limit=MAX_OPERATIONS,
                max_name_column_width=MAX_NAME_CHARS,
            )
        )
        log.info(
            f"trace of steps {WARMUP_STEPS + 1} to {step}: {path} "
            "(open it in chrome://tracing or Perfetto)"
        )
        self.profiler = None
