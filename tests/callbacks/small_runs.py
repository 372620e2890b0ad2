"""Helpers for tests of callbacks: settings of a small run, the lines of its log, and a call at one
of its steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dltrain.engine import Callback, Engine
from dltrain.runs.folder import METRICS


class At(Callback):
    """Calls `action(engine)` after the step number `step`."""

    def __init__(self, step: int, action: Callable[[Engine], None]) -> None:
        self.step, self.action = step, action

    def step_end(self, engine: Engine) -> None:
        if engine.step == self.step:
            self.action(engine)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()
    ]


SMALL = (
    "model=mlp",
    "model.hidden_sizes=[16]",
    "dataset.batch_size=128",
    "trainer.epochs=2",
    "trainer.log_every=4",
)
