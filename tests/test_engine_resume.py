"""The engine resumed: from every checkpoint, between stages and within evaluations, to the last
bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toys import GAN, Counting, History, On, Places, Points, TwoStages

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.engine import Callback, Engine, Resume, Stage, Task
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store

pytestmark = pytest.mark.usefixtures("quick_disk")


SYSTEMS = {
    "gan": GAN,
    "gan accumulating": lambda: GAN(accumulate=2),
    "two stages": TwoStages,
}


def run(
    task: Task, folder: Path, *more: Callback, resume: Resume | None = None
) -> tuple[Engine, History]:
    """Fit with history and checkpoints, of a whole run at every step; the generators start at the
    same place.
    """
    rng.seed_all(3)
    saver, history = Checkpoint(Store(folder)), History()

    class EveryStep(Callback):
        def step_end(self, engine: Engine) -> None:
            saver.save(engine)

    engine = Engine([history, saver, *([] if resume else [EveryStep()]), *more])
    saver.store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    if resume:  # the best state so far is in the folder of the whole run
        saver.store.pointed = lambda pointer: folder  # type: ignore[method-assign]
    engine.fit(task, resume)
    return engine, history


def assert_same(a: Any, b: Any) -> None:
    """Equal to the last bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def everything(engine: Engine) -> dict[str, Any]:
    """The engine's whole state, but for the callbacks that only some of its runs have."""
    state = engine.state_dict()
    return {**state, "callbacks": state["callbacks"]["checkpoint"]}


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("system", SYSTEMS)
def test_resume_is_bit_identical_from_every_checkpoint(system: str, tmp_path: Path) -> None:
    """From every committed step, in mid-epoch, at an epoch's end and in stage 2: the same metrics,
    scores and state.
    """
    make = SYSTEMS[system]
    whole, history = run(make(), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    saved = store.steps()
    assert len(saved) > whole.step, "a checkpoint at every step, and one at every epoch's end"
    ends = store.stage_ends()
    for number, folder in enumerate(saved):
        state = checkpoint.load(folder)
        task = make()
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = run(task, tmp_path / str(number), resume=Resume(state, before))
        where = f"resumed from {folder.name}"
        assert again.metrics == {s: m for s, m in history.metrics.items() if s > state["step"]}, (
            where
        )
        late = [
            (s, m)
            for s, m in history.scores
            if s > state["step"] or (s == state["step"] and not state["settled"])
        ]
        assert again.scores == late, where
        assert_same(everything(whole), everything(engine))


def test_between_the_stages_a_resume_sees_trained_values(tmp_path: Path) -> None:
    """Resumed in stage 2, the code between the stages runs again, on the first stage's
    end state.
    """
    whole, _ = run(first := TwoStages(), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    state = checkpoint.load(store.steps()[-1])
    assert state["index"] == 1
    run(again := TwoStages(), tmp_path / "again", resume=Resume(state, store.stage_ends()))
    assert_same(first.means, again.means)
    assert whole.stage.name == "spread"


@pytest.mark.usefixtures("save_every_epoch")
def test_killed_between_stages(tmp_path: Path) -> None:
    """Ended right after stage 1's last checkpoint, a resume continues with stage 2 and trains
    nothing twice.
    """
    whole, history = run(TwoStages(), tmp_path / "whole")
    states = [checkpoint.load(folder) for folder in Store(tmp_path / "whole").steps()]
    last = [s for s in states if s["index"] == 0][-1]
    assert last["epoch"] == 2
    engine, again = run(TwoStages(), tmp_path / "again", resume=Resume(last))
    assert again.metrics == {s: m for s, m in history.metrics.items() if s > last["step"]}
    assert_same(everything(whole), everything(engine))


class Stop(Exception):
    """An interruption."""


def interrupt(engine: Engine) -> None:
    raise Stop


@pytest.mark.parametrize("evaluation", [1, 2, 3])
@pytest.mark.parametrize("halt", [None, Engine.end_stage], ids=["runs on", "halts at step 7"])
def test_interrupted_evaluation_is_done_again(evaluation: int, halt: Any, tmp_path: Path) -> None:
    """A state saved in the middle of an evaluation leads to that same evaluation, also when the
    stage was ending.
    """
    halts = [On("step_end", 7, halt)] if halt else []
    whole, history = run(GAN(), tmp_path / "whole", *halts)
    if evaluation > len(history.scores):
        return
    task, before = GAN(), History()
    rng.seed_all(3)
    engine = Engine(
        [
            before,
            On("step_end", 7, halt or (lambda e: None)),
            On("evaluation_step", 2 * evaluation, interrupt),
        ]
    )
    with pytest.raises(Stop):
        engine.fit(task)
    state = checkpoint.snapshot(engine.state_dict())
    assert len(before.scores) == evaluation - 1
    again = History()
    resumed = Engine([again, On("step_end", 7 - engine.step, halt or (lambda e: None))])
    rng.seed_all(77)
    resumed.fit(GAN(), Resume(state))
    assert before.scores + again.scores == history.scores
    assert before.metrics | again.metrics == history.metrics
    assert_same(whole.task.state_dict(), resumed.task.state_dict())
    assert (whole.epoch, whole.position) == (resumed.epoch, resumed.position)


def test_evaluations_leave_the_training_alone() -> None:
    """However often a task that draws random numbers is evaluated, it trains the same."""
    ends = []
    for callbacks in ([], [EvaluateEvery(2)]):
        rng.seed_all(0)
        Engine(callbacks).fit(task := GAN())
        ends.append(task.state_dict())
    assert_same(*ends)


def test_the_wrong_stage_is_refused() -> None:
    """A checkpoint of a stage that has another name now is not loaded."""
    engine = Engine()
    engine.fit(TwoStages())
    state = {**engine.state_dict(), "name": "other"}
    ends = {0: {**engine.stage_end_state(), "name": "mean"}}
    with pytest.raises(ValueError, match="'spread' now; the checkpoint is of 'other'"):
        Engine().fit(TwoStages(), Resume(state, {0: {**ends[0], "task": {"mean": torch.zeros(2)}}}))


def test_position_at_loads_without_training(tmp_path: Path) -> None:
    """The task is as it was saved, in its stage, and no step is made."""
    whole, _ = run(TwoStages(), tmp_path)
    store = Store(tmp_path)
    state = checkpoint.load(store.pointed("last"))
    engine = Engine([history := History()])
    engine.position_at(task := TwoStages(), Resume(state, store.stage_ends()))
    assert_same(whole.task.state_dict(), task.state_dict())
    assert (engine.stage.name, engine.step, history.metrics) == ("spread", whole.step, {})
    assert engine.score(Points(1, seed=9), "test") == {"test/far": whole.scores["val/far"]}


def test_stateful_batches_are_restored() -> None:
    """Batches with a state of their own, such as a replay memory, get it back."""

    class Stream(Places):
        drawn = 0

        def epoch(self, number: int, start: int = 0) -> Any:
            for _ in range(start, self.count):
                self.drawn += 1
                yield number, self.drawn

        def state_dict(self) -> dict[str, Any]:
            return {"drawn": self.drawn}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.drawn = state["drawn"]

    class Streaming(Counting):
        def stages(self) -> Any:
            yield Stage("stream", 1, Stream(6), self.step)

    engine = Engine([On("step_end", 4, interrupt)])
    with pytest.raises(Stop):
        engine.fit(Streaming())
    Engine().fit(again := Streaming(), Resume(engine.state_dict()))
    assert again.calls == [("step", 0, 5), ("step", 0, 6)]
