"""The callback of `debug=profile`: it times the phases of each stage, and writes the table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import profiler

from dltrain.device import Device
from dltrain.engine import Callback, Engine
from dltrain.files import replace_file
from dltrain.profiling.advice import Shares, settings_for, shares_of, verdict
from dltrain.profiling.clock import CHECKPOINT, REST, Clock, Ledger
from dltrain.profiling.kernels import call_seconds, events_of, kernel_seconds
from dltrain.profiling.report import epoch_note, merged, phase_rows, text_of
from dltrain.runs.folder import RunFolder

log = logging.getLogger("dltrain")
# The steps of a stage: slow first ones, some as they are without profiling, those whose phases are
# timed, and the ones that torch's profiler traces. The first record loads TensorBoard: by default
# that is step 50, and the next one is timed.
WARMUP_STEPS = 50
PLAIN_STEPS = 10
TIMED_UNTIL = 100
TRACED_UNTIL = 110
JSON = "profile.json"
TEXT = "profile.txt"
WAITS = (
    "the device is waited for at the end of each phase, so that a step takes longer than otherwise"
)


@dataclass
class StageProfile:
    """The measurements of one stage; `kernels` are seconds a step."""

    name: str
    batches: int
    learns: bool
    warmup: Ledger = field(default_factory=Ledger)
    plain: Ledger = field(default_factory=Ledger)
    timed: Ledger = field(default_factory=Ledger)
    traced: Ledger = field(default_factory=Ledger)
    kernels: float | None = None
    trace: str = ""
    steps: int = 0

    def measured(self) -> Ledger:
        """Return the timed steps; those of the warm-up if the stage has no others."""
        if self.timed.steps:
            return self.timed
        return merged([self.warmup, self.plain, self.timed])

    def stepping(self) -> Ledger:
        """Return the ledger whose steps are as long as they are without profiling."""
        if self.plain.steps:
            return self.plain
        return self.measured()


class Profile(Callback):
    """Times the phases of training and traces some steps of each stage.

    It comes last of all callbacks, so that the time of the others is charged before it acts.
    """

    name = "profile"
    draws = False

    def __init__(
        self,
        run: RunFolder,
        clock: Clock,
        config: dict[str, Any],
        device: Device,
    ) -> None:
        self.run = run
        self.clock = clock
        self.config = config
        self.device = device
        # of a GPU, whose steps take longer while each phase waits for it
        is_asynchronous = device.torch_device().type != "cpu"
        self.plain_until = WARMUP_STEPS + PLAIN_STEPS * is_asynchronous
        self.stages: list[StageProfile] = []
        self.index = -1
        self.trace: profiler.profile | None = None
        self.content: dict[str, Any] = {}

    def step_end(self, engine: Engine) -> None:
        if engine.index != self.index:
            self._begin(engine)
        stage = self.stages[-1]
        stage.steps += 1
        self.clock.ledger.steps += 1
        if engine.halted:  # what follows are the evaluation and the last checkpoint
            self._end_trace()
            self.clock.switch(stage.timed, waits=True)
        elif stage.steps == WARMUP_STEPS:
            is_plain = self.plain_until > WARMUP_STEPS
            self.clock.switch(stage.plain if is_plain else stage.timed, waits=not is_plain)
        elif stage.steps == self.plain_until:
            self.clock.switch(stage.timed, waits=True)
        elif stage.steps == TIMED_UNTIL:
            self._begin_trace()
        elif stage.steps == TRACED_UNTIL:
            self._end_trace()
            self.clock.switch(stage.timed, waits=True)

    def _begin(self, engine: Engine) -> None:
        """Begin the profile of a stage, whose first step was made."""
        self.index = engine.index
        optims = engine.stage.optims
        batches = len(engine.stage.batches)
        stage = StageProfile(engine.stage.name, batches, learns=bool(optims))
        self.stages.append(stage)
        first_step = self.clock.ledger
        self.clock.switch(stage.warmup)
        for phase, seconds in first_step.seconds.items():
            if phase != REST:  # which is the time since the program built the stage
                stage.warmup.seconds[phase] += seconds
                stage.warmup.total += seconds

    def _begin_trace(self) -> None:
        self.clock.switch(self.stages[-1].traced)
        self.clock.is_traced = True
        self.trace = profiler.profile()
        self.trace.start()

    def _end_trace(self) -> None:
        """Stop tracing, write the trace, and measure the kernels in it."""
        if self.trace is None:
            return
        self.clock.switch(Ledger())  # writing the trace belongs to no part of the run
        trace = self.trace
        self.trace = None
        self.clock.is_traced = False
        trace.stop()
        stage = self.stages[-1]
        stage.trace = "trace.json"
        if len(self.stages) > 1:
            stage.trace = f"trace-{len(self.stages)}.json"
        trace.export_chrome_trace(str(self.run.folder / stage.trace))
        stage.kernels = kernel_seconds(events_of(trace), call_seconds())

    def evaluation_end(self, engine: Engine) -> None:
        self.clock.ledger.evaluations += 1

    def stage_end(self, engine: Engine) -> None:
        self._end_trace()
        self.clock.switch(Ledger())

    def run_end(self, engine: Engine) -> None:
        """Print the table and the verdict, and write them."""
        if not self.stages:
            return
        self._add_last_checkpoint()
        self.content = self._content()
        text = text_of(self.content)
        self.run.write_json(JSON, self.content)
        replace_file(self.run.folder / TEXT, f"{text}\n".encode())
        log.info(text)

    def _add_last_checkpoint(self) -> None:
        """Charge the checkpoint that is written after the last stage to that stage."""
        rest = self.clock.ledger
        self.clock.switch(Ledger())
        last = self.stages[-1].timed
        last.seconds[CHECKPOINT] += rest.seconds[CHECKPOINT]
        last.total += rest.seconds[CHECKPOINT]

    def _content(self) -> dict[str, Any]:
        """Return the table, the shares and the verdict."""
        timed = [stage for stage in self.stages if stage.timed.steps]
        stages = timed or self.stages
        whole = merged([stage.measured() for stage in stages])
        stepping = merged([stage.stepping() for stage in stages])
        shares = shares_of(stepping, kernels_a_step(stages))
        learns = any(stage.learns for stage in stages)
        settings = settings_for(shares, self.config, self.device, learns)
        part = "after the first, slower ones" if timed else "the first ones, which are slower"
        notes = [epoch_note(stage.measured(), stage.batches) for stage in stages[-1:]]
        traces = ", ".join(filter(None, (stage.trace for stage in stages)))
        if traces:
            notes.append(f"traces for chrome://tracing or Perfetto: {traces} in {self.run.folder}")
        if any(stage.plain.steps for stage in stages):
            notes.append(WAITS)
        return {
            "steps": whole.steps,
            "part": part,
            "seconds": round(whole.total, 6),
            "phases": phase_rows(whole),
            "stages": [stage_content(stage) for stage in stages],
            "shares": share_content(shares),
            "bound_by": shares.bound(),
            "settings": settings,
            "notes": notes,
            "verdict": verdict(shares, settings),
        }

    def close(self, engine: Engine) -> None:
        """Stop tracing after a failure, too."""
        if self.trace is not None:
            self.trace.stop()
            self.trace = None


def kernels_a_step(stages: Sequence[StageProfile]) -> float | None:
    """Return the mean seconds of kernels in a step over stages; None if no step was traced."""
    traced = [stage for stage in stages if stage.kernels is not None]
    steps = sum(stage.stepping().steps for stage in traced)
    if not steps:
        return None
    seconds = sum((stage.kernels or 0.0) * stage.stepping().steps for stage in traced)
    return seconds / steps


def stage_content(stage: StageProfile) -> dict[str, Any]:
    """Return the figures of one stage."""
    ledger = stage.stepping()
    return {
        "stage": stage.name,
        "steps": ledger.steps,
        "ms_a_step": round(1000 * ledger.of_steps() / max(1, ledger.steps), 4),
        "bound_by": shares_of(ledger, stage.kernels).bound(),
        "trace": stage.trace,
    }


def share_content(shares: Shares) -> dict[str, float | None]:
    """Return the shares of a step for the file of the profile; None for what is unknown."""
    kernels = shares.kernels
    if kernels is not None:
        kernels = round(kernels, 4)
    return {
        "data": round(shares.data, 4),
        "kernels": kernels,
        "python": round(shares.python, 4),
    }
