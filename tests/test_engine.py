"""The engine, with tasks that count, that have two optimizers, that use no gradient: order, halts, resume."""

from __future__ import annotations

import functools
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import GAN, Counting, History, Places, Points, Recorder, TwoStages

import dltrain.engine
from dltrain import checkpoint, rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.checkpoint import Store
from dltrain.engine import Callback, Engine, Resume, Stage, Task
from dltrain.optim import Optim


def fit(task: Counting, *callbacks: Callback) -> Engine:
    engine = Engine([Recorder(task.calls), *callbacks])
    engine.fit(task)
    return engine


class On(Callback):
    """Calls `action(engine)` at the `number`-th `event`."""

    def __init__(self, event: str, number: int, action: Any) -> None:
        self.event, self.number, self.action, self.count = event, number, action, 0

    def _hear(self, event: str, engine: Engine) -> None:
        self.count += event == self.event
        if event == self.event and self.count == self.number:
            self.action(engine)

    def step_end(self, engine: Engine) -> None:
        self._hear("step_end", engine)

    def evaluation_step(self, engine: Engine) -> None:
        self._hear("evaluation_step", engine)

    def evaluation_end(self, engine: Engine) -> None:
        self._hear("evaluation_end", engine)


def test_order_of_everything() -> None:
    """Steps, evaluations and events come in order over stages and epochs, and stage 1 is built after stage 0."""
    task = Counting((2, 2, 3), (1, 1, None))
    engine = fit(task)
    steps = [[("step", epoch, i) if j == 0 else "step_end" for i in range(2) for j in range(2)] for epoch in range(2)]
    scored = [("evaluate", 3), "evaluation_end", "epoch_end"]
    assert task.calls == [
        *["build 0", *steps[0], *scored, *steps[1], *scored, "stage_end", "after 0"],
        *["build 1", ("step", 0, 0), "step_end", "epoch_end", "stage_end", "after 1", "run_end"],
    ]
    assert engine.step == 5


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_counts(epochs: int, count: int) -> None:
    """Every batch of every epoch is stepped on once, also where there is none."""
    task = Counting((epochs, count, 1))
    engine = fit(task)
    assert [c for c in task.calls if c[0] == "step"] == [("step", e, i) for e in range(epochs) for i in range(count)]
    assert task.calls.count(("evaluate", 1)) == task.calls.count("epoch_end") == epochs
    assert (engine.step, engine.epoch, engine.position) == (epochs * count, epochs, 0)


@pytest.mark.parametrize(
    ("action", "built", "ended"),
    [(Engine.end_stage, 2, ["stage_end", "stage_end"]), (Engine.end_run, 1, ["stage_end"])],
)
@pytest.mark.parametrize(
    ("event", "steps", "place"), [("step_end", 2, (0, 2)), ("step_end", 3, (1, 0)), ("evaluation_end", 3, (1, 0))]
)
def test_end_stage_and_end_run(
    action: Any, built: int, ended: list[str], event: str, steps: int, place: tuple[int, int]
) -> None:
    """A halt takes effect after its step or evaluation, the stage is scored once more; only end_stage goes on."""
    task = Counting((5, 3, 1), (1, 1, 1))
    places: list[tuple[int, int]] = []

    class Where(Callback):
        def stage_end(self, engine: Engine) -> None:
            places.append((engine.epoch, engine.position))

    fit(task, On(event, steps if event == "step_end" else 1, action), Where())
    assert [c for c in task.calls if isinstance(c, str) and c.startswith("build")] == [
        f"build {i}" for i in range(built)
    ]
    first = task.calls[: task.calls.index("stage_end")]
    assert first.count("step_end") == steps
    assert first.count("epoch_end") == first.count(("evaluate", 1)) == 1
    assert places[0] == place
    assert [c for c in task.calls if c == "stage_end"] == ended
    assert task.calls[-1] == "run_end"


def test_held_out_none_is_not_evaluated() -> None:
    """Without held-out batches there is no evaluation, and no scores of an earlier stage remain."""
    task = Counting((1, 1, 2), (2, 1, None))
    engine = fit(task)
    assert [c for c in task.calls if c[0] == "evaluate"] == [("evaluate", 2)]
    assert engine.scores == {}


def test_stages_are_lazy() -> None:
    """Code between two yields sees what the first stage trained."""
    task = TwoStages()
    Engine().fit(task)
    assert len(task.seen) == 1
    assert torch.equal(task.seen[0], task.mean)
    assert not torch.equal(task.mean, torch.zeros(2))
    assert torch.equal(task.center, task.mean + 1)


def test_only_overridden_events_are_called() -> None:
    """A callback is listened to for what it overrides, through inheritance too; a bare one costs nothing."""

    class Some(Callback):
        def epoch_end(self, engine: Engine) -> None: ...

    class Inherited(Some):
        pass

    engine = Engine([Callback(), Some(), Inherited()])
    counts = {event: len(listeners) for event, listeners in engine.listeners.items()}
    assert counts == {**dict.fromkeys(dltrain.engine.EVENTS, 0), "epoch_end": 2}
    events = {name for name, _ in inspect.getmembers(Callback, inspect.isfunction)}
    assert events == {*dltrain.engine.EVENTS, "state_dict", "load_state_dict"}


# Resume -----------------------------------------------------------------------------------------------------------

SYSTEMS = {
    "gan": GAN,
    "gan accumulating": lambda: GAN(accumulate=2),
    "two stages": TwoStages,
}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests kill no machine: they need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def run(task: Task, folder: Path, *more: Callback, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit with history and checkpoints, of a whole run at every step; the generators start at the same place."""
    rng.seed_all(3)
    saver, history = Checkpoint(Store(folder)), History()

    class EveryStep(Callback):
        def step_end(self, engine: Engine) -> None:
            saver.save(engine)

    engine = Engine([history, saver, *([] if resume else [EveryStep()]), *more])
    saver.store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
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
    """From every committed step, in mid-epoch, at an epoch's end and in stage 2: the same metrics, scores and state."""
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
        assert again.metrics == {s: m for s, m in history.metrics.items() if s > state["step"]}, where
        late = [(s, m) for s, m in history.scores if s > state["step"] or (s == state["step"] and not state["settled"])]
        assert again.scores == late, where
        assert_same(everything(whole), everything(engine))


def test_between_the_stages_a_resume_sees_trained_values(tmp_path: Path) -> None:
    """Resumed in stage 2, the code between the stages runs again, on the first stage's end state."""
    whole, _ = run(first := TwoStages(), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    state = checkpoint.load(store.steps()[-1])
    assert state["index"] == 1
    run(again := TwoStages(), tmp_path / "again", resume=Resume(state, store.stage_ends()))
    assert_same(first.seen, again.seen)
    assert whole.stage.name == "spread"


@pytest.mark.usefixtures("save_every_epoch")
def test_killed_between_stages(tmp_path: Path) -> None:
    """Ended right after stage 1's last checkpoint, a resume goes on with stage 2 and trains nothing twice."""
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
    """A state saved in the middle of an evaluation leads to that same evaluation, also when the stage was ending."""
    halts = [On("step_end", 7, halt)] if halt else []
    whole, history = run(GAN(), tmp_path / "whole", *halts)
    if evaluation > len(history.scores):
        return
    task, before = GAN(), History()
    rng.seed_all(3)
    engine = Engine(
        [before, On("step_end", 7, halt or (lambda e: None)), On("evaluation_step", 2 * evaluation, interrupt)]
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


# Precision and form -----------------------------------------------------------------------------------------------


def test_autocast_is_on_in_steps_and_evaluations_only() -> None:
    """Under autocast to bf16 the forward pass is in bf16, the weights stay fp32, callbacks see no autocast."""
    types: list[tuple[torch.dtype, bool]] = []

    class Probe(GAN):
        def step(self, real: torch.Tensor) -> dict[str, torch.Tensor]:
            types.append((self.discriminator(real).dtype, torch.is_autocast_enabled("cpu")))
            return super().step(real)

        def evaluate(self, batches: Any) -> dict[str, float]:
            types.append((self.generator(torch.zeros(1, 2)).dtype, torch.is_autocast_enabled("cpu")))
            return super().evaluate(batches)

    def outside(engine: Engine) -> None:
        assert not torch.is_autocast_enabled("cpu")

    task = Probe(epochs=1)
    before = [p.clone() for p in task.parameters()]
    checks = [On("step_end", 1, outside), On("evaluation_end", 1, outside)]
    Engine(checks, autocast=torch.autocast("cpu", torch.bfloat16)).fit(task)
    assert set(types) == {(torch.bfloat16, True)}
    assert all(
        p.dtype == torch.float32 and not torch.equal(p, b) for p, b in zip(task.parameters(), before, strict=True)
    )


def test_averaged_weights_are_what_is_evaluated() -> None:
    """The engine scores with the average that an Optim keeps, and trains on without it."""

    def sevens(averages: list[torch.Tensor], values: list[torch.Tensor], count: int, total: int) -> None:
        averages[0].fill_(7)

    class Averaging(Task):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(2, 1, bias=False)
            self.during: list[torch.Tensor] = []

        def stages(self) -> Any:
            nn.init.zeros_(self.net.weight)
            optim = Optim(self.net, functools.partial(torch.optim.SGD, lr=1.0), average=sevens)

            def step(batch: torch.Tensor) -> dict[str, torch.Tensor]:
                optim.update(self.net(torch.ones(1, 2)).sum())
                return {}

            yield Stage("s", 2, Points(3), step, Points(1), self.evaluate, (optim,))

        def evaluate(self, batches: Any) -> dict[str, float]:
            self.during.append(self.net.weight.clone())
            return {}

        def predict(self, batch: Any) -> Any:
            return self.net(batch)

    Engine().fit(task := Averaging())
    assert [w.tolist() for w in task.during] == [[[7.0, 7.0]]] * 2
    assert task.net.weight.tolist() == [[-6.0, -6.0]]


def test_the_engine_is_short_and_names_no_algorithm() -> None:
    """Under 250 lines; the loop has at most 25 lines, and no word of what is trained, on what, or where."""
    source = Path(dltrain.engine.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) < 250
    assert len(inspect.getsource(Engine.fit).splitlines()) <= 25
    code = re.sub(r'"""[\s\S]*?"""|#.*', "", source).lower()
    words = ("gan", "rbm", "dbn", "qlearn", "word2vec", "classif", "supervis", "isinstance", "hasattr", "cuda", "hydra")
    assert [word for word in words if re.search(rf"\b{word}|_{word}", code)] == []
    imported = re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE)
    assert {name for name in imported if name.startswith("dltrain")} == {"dltrain", "dltrain.optim"}
