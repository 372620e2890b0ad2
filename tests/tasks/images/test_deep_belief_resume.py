"""Deep belief nets and deep autoencoders resume bit for bit in any stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from belief_nets import PERSISTENT, assert_same, coder, is_unrolled, net
from toys import History

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.engine import Callback, Engine, Resume
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, snapshot
from dltrain.types import Image


def run(task: Any, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit with history and, of a whole run, a checkpoint at every step; seeds the generators."""
    rng.seed_all(3)
    store, history = Store(folder), History()
    store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    saver = Checkpoint(store)

    class EveryStep(Callback):
        def step_end(self, engine: Engine) -> None:
            saver.save(engine)

    engine = Engine([history, saver, *([] if resume else [EveryStep()])])
    engine.fit(task, resume)
    return engine, history


def figures(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers and the pictures of an evaluation."""
    return {
        k: v.pixels if isinstance(v, Image) else v
        for k, v in scores.items()
        if isinstance(v, float | Image)
    }


def everything(engine: Engine) -> dict[str, Any]:
    """Return weights, buffers, moments and the generators' state."""
    state = engine.state_dict()
    return {**{key: state[key] for key in ("task", "optims", "step")}, "rng": state["rng"]["torch"]}


SYSTEMS: dict[str, Callable[[], Any]] = {
    "contrastive divergence": net,
    "persistent": lambda: net(PERSISTENT),
    "autoencoder": coder,
    "persistent autoencoder, accumulating": lambda: coder(PERSISTENT, "trainer.accumulate=4"),
    "few labels": lambda: net("task.labels=700"),
}


@pytest.mark.usefixtures("quick_disk", "save_every_epoch")
@pytest.mark.parametrize("system", SYSTEMS)
def test_resume_is_bit_identical_in_every_stage(system: str, tmp_path: Path) -> None:
    """The same metrics, scores, pictures and state from every twelfth checkpoint.

    There are six batches in each of two epochs, so that every stage is covered.
    """
    make = SYSTEMS[system]
    whole, history = run(make(), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends, resumed = store.stage_ends(), set()
    for number, folder in enumerate(store.steps()[SHIFT[system] :: 12]):
        state = checkpoint.load(folder)
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = run(make(), tmp_path / str(number), Resume(state, before))
        where = f"resumed from {folder.name}"
        assert again.metrics == {s: m for s, m in history.metrics.items() if s > state["step"]}, (
            where
        )
        late = [
            (s, m)
            for s, m in history.scores
            if s > state["step"] or (s == state["step"] and not state["settled"])
        ]
        assert_same([(s, figures(m)) for s, m in again.scores], [(s, figures(m)) for s, m in late])
        assert_same(everything(engine), everything(whole))
        resumed.add(state["index"])
    assert resumed == set(range(whole.index + 1))


SHIFT = {system: number for number, system in enumerate(SYSTEMS)}


@pytest.mark.usefixtures("quick_disk")
def test_resuming_fine_tuning_restores_the_trained_decoder(tmp_path: Path) -> None:
    """Unrolling is repeated between the stages, and the saved weights replace its copies."""
    run(coder(), tmp_path)
    store = Store(tmp_path)
    state = checkpoint.load(store.steps()[-2])
    assert state["index"] == 3
    task = coder()
    Engine().position_at(
        task, Resume(state, {i: end for i, end in store.stage_ends().items() if i < 3})
    )
    assert_same(snapshot(task.state_dict()), state["task"])
    assert not is_unrolled(task)
