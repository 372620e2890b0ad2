"""The engine, with tasks that count, that have two optimizers, that use no gradient: order, halts,
precision, form.
"""

from __future__ import annotations

import functools
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import GAN, Counting, On, Points, Recorder, TwoStages

import dltrain.engine
from dltrain.engine import Callback, Engine, Stage, Task
from dltrain.optim import Optim


def fit(task: Counting, *callbacks: Callback) -> Engine:
    engine = Engine([Recorder(task.calls), *callbacks])
    engine.fit(task)
    return engine


def test_order_of_everything() -> None:
    """Steps, evaluations and events come in order over stages and epochs, and stage 1 is built
    after stage 0.
    """
    task = Counting((2, 2, 3), (1, 1, None))
    engine = fit(task)
    steps = [
        [("step", epoch, i) if j == 0 else "step_end" for i in range(2) for j in range(2)]
        for epoch in range(2)
    ]
    scored = [("evaluate", 3), "evaluation_end", "epoch_end"]
    assert task.calls == [
        *["build 0", *steps[0], *scored, *steps[1], *scored, "stage_end", "after 0"],
        *["build 1", ("step", 0, 0), "step_end", "epoch_end", "stage_end", "after 1", "run_end"],
    ]
    assert engine.step == 5


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_counts(epochs: int, count: int) -> None:
    """Every batch of every epoch is stepped on once; a state is evaluated once, and without batches
    it does not change.
    """
    task = Counting((epochs, count, 1))
    engine = fit(task)
    assert [c for c in task.calls if c[0] == "step"] == [
        ("step", e, i) for e in range(epochs) for i in range(count)
    ]
    assert task.calls.count("epoch_end") == epochs
    assert task.calls.count(("evaluate", 1)) == (epochs if count else min(epochs, 1))
    assert (engine.step, engine.epoch, engine.position) == (epochs * count, epochs, 0)


@pytest.mark.parametrize(
    ("action", "built", "ended"),
    [(Engine.end_stage, 2, ["stage_end", "stage_end"]), (Engine.end_run, 1, ["stage_end"])],
)
@pytest.mark.parametrize(
    ("event", "steps", "place"),
    [("step_end", 2, (0, 2)), ("step_end", 3, (1, 0)), ("evaluation_end", 3, (1, 0))],
)
def test_end_stage_and_end_run(
    action: Any, built: int, ended: list[str], event: str, steps: int, place: tuple[int, int]
) -> None:
    """A halt takes effect after its step or evaluation, the stage is scored once more; only
    end_stage continues.
    """
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
    assert len(task.means) == 1
    assert torch.equal(task.means[0], task.mean)
    assert not torch.equal(task.mean, torch.zeros(2))
    assert torch.equal(task.center, task.mean + 1)


def test_only_overridden_events_are_called() -> None:
    """A callback is listened to for what it overrides, through inheritance too; a bare one costs
    nothing.
    """

    class Some(Callback):
        def epoch_end(self, engine: Engine) -> None: ...

    class Inherited(Some):
        pass

    engine = Engine([Callback(), Some(), Inherited()])
    counts = {event: len(listeners) for event, listeners in engine.listeners.items()}
    assert counts == {**dict.fromkeys(dltrain.engine.EVENTS, 0), "epoch_end": 2}
    events = {name for name, _ in inspect.getmembers(Callback, inspect.isfunction)}
    others = {"state_dict", "load_state_dict", "summary_rows", "results"}
    assert events == {*dltrain.engine.EVENTS, *others}


# Precision and form ------------------------------------------------------------------------------


def test_autocast_is_on_in_steps_and_evaluations_only() -> None:
    """Under autocast to bf16 the forward pass is in bf16, the weights stay fp32, callbacks see no
    autocast.
    """
    types: list[tuple[torch.dtype, bool]] = []

    class Probe(GAN):
        def step(self, real: torch.Tensor) -> dict[str, torch.Tensor]:
            types.append((self.discriminator(real).dtype, torch.is_autocast_enabled("cpu")))
            return super().step(real)

        def evaluate(self, batches: Any) -> dict[str, float]:
            types.append(
                (self.generator(torch.zeros(1, 2)).dtype, torch.is_autocast_enabled("cpu"))
            )
            return super().evaluate(batches)

    def outside(engine: Engine) -> None:
        assert not torch.is_autocast_enabled("cpu")

    task = Probe(epochs=1)
    before = [p.clone() for p in task.parameters()]
    checks = [On("step_end", 1, outside), On("evaluation_end", 1, outside)]
    Engine(checks, autocast=torch.autocast("cpu", torch.bfloat16)).fit(task)
    assert set(types) == {(torch.bfloat16, True)}
    assert all(
        p.dtype == torch.float32 and not torch.equal(p, b)
        for p, b in zip(task.parameters(), before, strict=True)
    )


def test_averaged_weights_are_what_is_evaluated() -> None:
    """The engine scores with the average that an Optim keeps, and trains on without it."""

    def sevens(
        averages: list[torch.Tensor], values: list[torch.Tensor], count: int, total: int
    ) -> None:
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


def without_comments(source: str) -> str:
    """Return source code without docstrings and comments."""
    return re.sub(r'"""[\s\S]*?"""|#.*', "", source)


def test_the_engine_is_short_and_names_no_algorithm() -> None:
    """The engine has under 200 lines of code, its loop at most 25; no word of what is trained, on
    what, or where.
    """
    source = Path(dltrain.engine.__file__).read_text(encoding="utf-8")
    engine = without_comments(inspect.getsource(Engine))
    assert len([line for line in engine.splitlines() if line.strip()]) < 200
    assert len(inspect.getsource(Engine.fit).splitlines()) <= 25
    code = without_comments(source).lower()
    words = (
        "gan",
        "rbm",
        "dbn",
        "qlearn",
        "word2vec",
        "classif",
        "supervis",
        "isinstance",
        "hasattr",
        "cuda",
        "hydra",
    )
    assert [word for word in words if re.search(rf"\b{word}|_{word}", code)] == []
    imported = re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE)
    assert {name for name in imported if name.startswith("dltrain")} == {"dltrain", "dltrain.optim"}
