"""Training needs as much memory after many steps as after some."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from dltrain.callbacks.timer import Timer
from dltrain.engine import Engine

FIRST_STEP, LAST_STEP = 1200, 3200  # both at the end of an epoch of 40 steps
ALLOWED_BYTES = 32_000  # 16 for each step between them: a number that is kept takes more
RUN = (
    *("dataset=synthetic", "dataset.source.channels=1", "dataset.source.height=2"),
    *("dataset.source.width=2", "dataset.source.train_samples=50", "dataset.batch_size=1"),
    *("dataset.source.test_samples=10", "dataset.val_fraction=0.2", "model=perceptron"),
    *("trainer.epochs=1000", f"trainer.steps={LAST_STEP}", "callbacks.progress=null"),
)


@pytest.mark.parametrize("grows", [False, True])
def test_memory_does_not_grow_with_the_steps(
    grows: bool, dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the default callbacks, but progress: pytest keeps its lines.

    It does grow if a callback keeps a number for each step.
    """
    sizes: dict[int, int] = {}
    kept: list[float] = []
    step_end = Timer.step_end

    def measured_step_end(timer: Timer, engine: Engine) -> None:
        step_end(timer, engine)
        if grows:
            kept.append(float(engine.step))
        if engine.step in (FIRST_STEP, LAST_STEP):
            gc.collect()
            sizes[engine.step] = tracemalloc.get_traced_memory()[0]

    monkeypatch.setattr(Timer, "step_end", measured_step_end)
    tracemalloc.start()
    try:
        outcome = dltrain(*RUN)
    finally:
        tracemalloc.stop()
    assert outcome.code == 0, outcome.err
    grown = sizes[LAST_STEP] - sizes[FIRST_STEP]
    assert (grown > ALLOWED_BYTES) == grows, f"{grown} bytes"
