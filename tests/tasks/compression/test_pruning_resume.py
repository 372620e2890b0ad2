"""Pruning resumes bit for bit in any stage, with its masks or its smaller network."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from pruned import CHANNELS, everything, pruning, trained

from dltrain.engine import Resume
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store

SYSTEMS: dict[str, tuple[str, ...]] = {
    "momentum": (
        "optimizer=momentum",
        "task.compare_dense=true",
        "task.scope=global",
        "task.sparsity=0.5",
    ),
    "adam, averaged": ("optimizer=adamw", "regularization=[ema,l2]"),
    "rewound, accumulating": ("optimizer=adam", "task.rewind=step:2", "trainer.accumulate=2"),
    "rewound to the beginning": ("optimizer=adam", "task.rewind=initial"),
    "initial weights": ("optimizer=adam", "task.train_epochs=0"),
    "channels": ("optimizer=adam", *CHANNELS, "regularization=[ema]"),
    "channels of all layers": ("optimizer=momentum", *CHANNELS, "task.scope=global"),
}
SHIFT = {system: number for number, system in enumerate(SYSTEMS)}
assert_same = partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.mark.usefixtures("quick_disk", "save_every_epoch")
@pytest.mark.parametrize("system", SYSTEMS)
def test_pruning_resumes_bit_for_bit_in_every_stage(system: str, tmp_path: Path) -> None:
    """The same metrics, scores, masks and moments from every fourth checkpoint."""
    overrides = ("task.rounds=2", *SYSTEMS[system])
    whole, history = trained(pruning(*overrides), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends, resumed = store.stage_ends(), set()
    for number, folder in enumerate(store.steps()[SHIFT[system] % 4 :: 4]):
        state = checkpoint.load(folder)
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = trained(pruning(*overrides), tmp_path / str(number), Resume(state, before))
        late = {step: m for step, m in history.metrics.items() if step > state["step"]}
        assert again.metrics == late, folder.name
        assert_same(everything(engine), everything(whole))
        losses = {step: scores["val/loss"] for step, scores in again.scores}
        assert losses.items() <= {step: s["val/loss"] for step, s in history.scores}.items()
        resumed.add(state["index"])
    expected = {1, 2} if "task.train_epochs=0" in overrides else {0, 1, 2}
    assert resumed >= expected
