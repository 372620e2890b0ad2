"""Callbacks: what ends a run, what is logged, saved and drawn, and that an interrupted run loses nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import Counting, Places, Recorder

from dltrain import checkpoint
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.early_stopping import EarlyStopping
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.callbacks.limits import Limits
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.nonfinite import NonFinite
from dltrain.callbacks.signals import Signals
from dltrain.callbacks.timer import Timer
from dltrain.checkpoint import Store
from dltrain.engine import Callback, Engine, Resume, Stage
from dltrain.errors import DivergedError, Interrupted
from dltrain.run import METRICS, Run
from dltrain.tasks.classification import Classification

NAN = float("nan")


class Scripted(Counting):
    """One stage whose scores are given, an epoch for each; epochs of `count` batches."""

    def __init__(self, scores: list[float], count: int = 2, mode: Any = "max", watch: str = "val/score") -> None:
        super().__init__()
        self.script, self.count, self.mode, self.watch = iter(scores), count, mode, watch
        self.epochs = len(scores)

    def stages(self) -> Iterator[Stage]:
        yield Stage(
            name="scripted",
            epochs=self.epochs,
            batches=Places(self.count),
            step=self.step,
            held_out=Places(1),
            evaluate=lambda batches: {"score": float(next(self.script)), "seen": len(list(batches))},
            watch=self.watch,
            mode=self.mode,
        )


class At(Callback):
    """Calls `action(engine)` after the step number `step`."""

    def __init__(self, step: int, action: Callable[[Engine], None]) -> None:
        self.step, self.action = step, action

    def step_end(self, engine: Engine) -> None:
        if engine.step == self.step:
            self.action(engine)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]


# What ends a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "min_delta", "mode", "scores", "epochs"),
    [
        (2, 0.0, "max", [1, 2, 3, 3, 3, 9], 5),
        (2, 0.0, "max", [1, 2, 1, 3, 2, 2, 9], 6),
        (1, 0.0, "max", [5, 4, 9], 2),
        (2, 0.0, "min", [3, 2, 1, 1, 2, 0], 5),
        (2, 0.5, "max", [1, 1.4, 1.5, 9], 3),
        (2, 0.5, "max", [1, 1.4, 1.6, 1.7, 9], 5),
        (3, 0.0, "max", [1, 2, 3, 4], 4),
        (2, 0.0, "max", [NAN, 1, 2, NAN, NAN, 3], 5),
    ],
)
def test_early_stopping(patience: int, min_delta: float, mode: str, scores: list[float], epochs: int) -> None:
    """The stage ends after `patience` evaluations in a row that are no better by more than `min_delta`."""
    engine = Engine([EarlyStopping(patience, min_delta)])
    engine.fit(Scripted(scores, mode=mode))
    assert engine.epoch == epochs
    assert engine.stage_ended == (epochs < len(scores))


def test_early_stopping_leaves_stages_alone_that_watch_nothing() -> None:
    """Where no metric is watched nothing can fail to improve."""
    engine = Engine([EarlyStopping(1, 0.0)])
    engine.fit(Scripted([1, 1, 1, 1], watch=""))
    assert engine.epoch == 4


def test_early_stopping_counts_on_after_a_resume() -> None:
    """Its best and its patience are part of a checkpoint."""
    first, again = EarlyStopping(3, 0.0), EarlyStopping(3, 0.0)
    first.best, first.waited = 5.0, 2
    again.load_state_dict(first.state_dict())
    engine = Engine([again])
    engine.fit(Scripted([4.5, 9, 9]))
    assert engine.epoch == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr("dltrain.callbacks.timer.time.perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("steps", "seconds", "ended"),
    [
        (7, None, 7),
        (1, None, 1),
        (6, None, 6),
        (None, 5.0, 5),
        (None, 4.5, 5),
        (3, 5.0, 3),
        (9, 5.0, 5),
        (99, 99.0, 12),
    ],
)
def test_limits(steps: int | None, seconds: float | None, ended: int, clock: list[float], tmp_path: Path) -> None:
    """The run ends at the first limit that it reaches; each step takes a second here."""

    class Second(Callback):
        def step_end(self, engine: Engine) -> None:
            clock[0] += 1

    timer = Timer(Run(tmp_path))
    task = Counting((2, 3, 1), (2, 3, 1))
    engine = Engine([Second(), timer, Limits(timer, steps, seconds), Recorder(task.calls)])
    engine.fit(task)
    assert engine.step == ended
    assert task.calls[-1] == "run_end"
    assert task.calls.count(("evaluate", 1)) == math.ceil(ended / 3)


def test_a_run_that_has_reached_its_limit_makes_no_other_step(tmp_path: Path) -> None:
    """Killed between its last checkpoint and its results, a limited run ends at the same step; a longer one goes on."""

    def fit(steps: int, resume: Resume | None = None) -> Engine:
        timer = Timer(Run(tmp_path))
        engine = Engine([timer, Limits(timer, steps, None)])
        engine.fit(Counting((5, 4, 1)), resume)
        return engine

    state = fit(6).state_dict()
    assert (state["step"], state["epoch"], state["position"]) == (6, 1, 2)
    assert fit(6, Resume(state)).step == 6
    assert fit(9, Resume(state)).step == 9


@pytest.mark.parametrize(("every", "at"), [(1, [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]), (3, [3, 4, 6, 8]), (9, [4, 8])])
def test_evaluate_every(every: int, at: list[int]) -> None:
    """Beside each epoch's end, every so many steps; the task trains on in training mode (the toy asserts it)."""
    found: list[int] = []

    class Look(Callback):
        def evaluation_end(self, engine: Engine) -> None:
            found.append(engine.step)

    Engine([Look(), EvaluateEvery(every)]).fit(Counting((2, 4, 1)))
    assert found == at


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["train", "val"])
def test_a_bad_loss_ends_the_run_before_anything_is_saved(bad: float, where: str, tmp_path: Path) -> None:
    """DivergedError at the first log step or evaluation with a loss that is no number; no checkpoint follows it."""

    class Bad(Counting):
        def step(self, batch: tuple[int, int]) -> dict[str, torch.Tensor]:
            return {"loss": torch.tensor(bad if where == "train" and batch == (1, 1) else 1.0)}

        def evaluate(self, batches: Any) -> dict[str, float]:
            self.calls.append(("evaluate", len(list(batches))))
            return {"loss": bad if where == "val" and len(self.calls) > 2 else 1.0, "score": 1.0}

    log = MetricsLog(Run(tmp_path), 2)
    saver = Checkpoint(Store(tmp_path / "checkpoints"))
    engine = Engine([log, NonFinite(log), saver])
    with pytest.raises(DivergedError, match=rf"{where}/loss is {bad} at step"):
        engine.fit(Bad((3, 4, 1)))
    saver.wait()
    assert engine.step == (6 if where == "train" else 8)
    assert [int(folder.name) for folder in saver.store.steps()] == [4]
    assert lines(tmp_path)[-1][f"{where}/loss"] is None, "JSON has no NaN"


def test_a_score_that_is_no_loss_may_be_nan(tmp_path: Path) -> None:
    """A metric without a value in some epoch is no divergence."""
    log = MetricsLog(Run(tmp_path), 2)
    Engine([log, NonFinite(log)]).fit(Scripted([NAN, 1.0]))
    assert [line["val/score"] for line in lines(tmp_path) if line["split"] == "val"] == [None, 1.0]


# Best -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "scores", "epoch"),
    [
        ("max", [1, 3, 2], 2),
        ("min", [3, 1, 2], 2),
        ("max", [1, 3, 3, 2], 3),
        ("min", [1, 1, 2], 2),
        ("max", [NAN, 1, NAN], 2),
        ("max", [5, 4, 3, 2, 1, 0], 1),
    ],
)
def test_best_checkpoint(mode: str, scores: list[float], epoch: int, tmp_path: Path) -> None:
    """By max or min, of equals the later; it survives the pruning."""
    saver = Checkpoint(Store(tmp_path))
    Engine([saver]).fit(Scripted(scores, mode=mode))
    figures = {"metric": "val/score", "value": scores[epoch - 1], "metrics": {"val/score": scores[epoch - 1]}}
    assert saver.best == {**figures, "stage": "scripted", "epoch": epoch, "step": 2 * epoch}
    best, last = (checkpoint.load(saver.store.pointed(pointer) or tmp_path) for pointer in ("best", "last"))
    assert (best["step"], best["epoch"]) == (2 * epoch, epoch)
    assert last["step"] == 2 * len(scores)


def test_where_saving_is_dear_a_best_state_is_held_and_written_at_the_end(tmp_path: Path) -> None:
    """Not one of the epochs in between is on the disk, and yet the second, which was the best, is in the end."""
    saver = Checkpoint(Store(tmp_path))
    saver.cost, saver.written = 1e6, time.perf_counter()
    Engine([saver]).fit(Scripted([0.1, 0.9, 0.2, 0.3, 0.4]))
    assert [int(folder.name) for folder in saver.store.steps()] == [4, 10]
    best, last = (checkpoint.load(saver.store.pointed(pointer) or tmp_path) for pointer in ("best", "last"))
    assert (best["step"], last["step"]) == (4, 10)
    assert last["callbacks"]["checkpoint"]["best"]["value"] == 0.9


def test_the_best_within_an_epoch_is_saved_at_once(tmp_path: Path) -> None:
    """An evaluation inside an epoch that is the best so far makes a checkpoint there."""
    saver = Checkpoint(Store(tmp_path))
    task = Scripted([1, 9, 2], count=5)
    task.epochs = 1
    Engine([saver, EvaluateEvery(2)]).fit(task)
    state = checkpoint.load(saver.store.pointed("best") or tmp_path)
    assert (state["step"], state["epoch"], state["position"]) == (4, 0, 4)


# The log ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "train"),
    [
        (1, [(step, 1 + (step > 5), (step - 1) % 5) for step in range(1, 11)]),
        (2, [(2, 1, 0.5), (4, 1, 2.5), (5, 1, 4), (6, 2, 0), (8, 2, 1.5), (10, 2, 3.5)]),
        (3, [(3, 1, 1), (5, 1, 3.5), (6, 2, 0), (9, 2, 2), (10, 2, 4)]),
        (50, [(5, 1, 2), (10, 2, 2)]),
    ],
)
def test_metrics_lines(every: int, train: list[tuple[int, int, float]], tmp_path: Path) -> None:
    """A line every so many steps with the mean since the last one, the rest at an epoch's end, one per evaluation."""
    Engine([MetricsLog(Run(tmp_path), every)]).fit(Counting((2, 5, 3)))
    found = lines(tmp_path)
    assert [line for line in found if line["split"] == "val"] == [
        {"step": 5, "epoch": 1, "stage": "stage 0", "split": "val", "val/score": 3.0},
        {"step": 10, "epoch": 2, "stage": "stage 0", "split": "val", "val/score": 3.0},
    ]
    logged = [line for line in found if line["split"] == "train"]
    assert [(line["step"], line["epoch"], line["train/loss"]) for line in logged] == train
    assert all(set(line) == {"step", "epoch", "stage", "split", "train/loss"} for line in logged)


def test_a_stage_that_ends_within_an_epoch_is_logged_as_its_own(tmp_path: Path) -> None:
    """What the window holds when a stage is ended is written under that stage, not carried into the next one."""
    log = MetricsLog(Run(tmp_path), 10)
    Engine([log, At(3, Engine.end_stage)]).fit(Counting((1, 5, None), (1, 2, None)))
    found = [(line["stage"], line["step"], line["train/loss"]) for line in lines(tmp_path)]
    assert found == [("stage 0", 3, 1.0), ("stage 1", 5, 0.5)]


class Killed(Exception):
    """The end of a process, without a word."""


def test_a_resume_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    """Killed between a line and the next checkpoint, even at the last checkpoint's own step: no line comes twice."""

    class Kill(Callback):
        def epoch_end(self, engine: Engine) -> None:
            raise Killed

    def fit(folder: Path, *more: Callback, resume: Resume | None = None) -> None:
        folder.mkdir(exist_ok=True)
        saver = Checkpoint(Store(folder / "checkpoints"))
        try:
            callbacks = [MetricsLog(Run(folder), 4), *more, saver, EvaluateEvery(5)]
            Engine(callbacks).fit(Counting((2, 5, 1)), resume)
        finally:
            saver.wait()

    fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "killed", Kill())
    state = checkpoint.load(Store(tmp_path / "killed" / "checkpoints").pointed("last") or tmp_path)
    assert (state["step"], state["position"]) == (5, 5)
    fit(tmp_path / "killed", resume=Resume(state))
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


# Signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_at_the_step(number: signal.Signals, code: int) -> None:
    """The step under way is finished and seen by all; the handlers are gone after the context."""
    before = signal.getsignal(number)
    task = Counting((3, 4, 1))
    signals = Signals()
    engine = Engine([At(6, lambda engine: os.kill(os.getpid(), number)), Recorder(task.calls), signals])
    with signals:
        assert signal.getsignal(number) == signals.handle
        with pytest.raises(Interrupted) as caught:
            engine.fit(task)
    assert signal.getsignal(number) == before
    assert caught.value.exit_code == code
    assert (engine.step, task.calls[-1]) == (6, "step_end")


SMALL = ("model=mlp", "model.hidden_sizes=[16]", "dataset.batch_size=128", "trainer.epochs=2", "trainer.log_every=4")
QUIET = ("callbacks=quiet", "trainer.accumulate=2")
AVERAGED = ("regularization=[dropout,ema]",)
STOPPING = ("regularization=[early_stopping]", "regularization.early_stopping.patience=2", "optimizer.lr=1e-9")
STEPS = 11  # of an epoch of digits in batches of 128

INTERRUPTIONS = {
    "in a window": ("step", 7, AVERAGED),
    "at the epoch's last step": ("step", STEPS, AVERAGED),
    "at the run's last step": ("step", 2 * STEPS, AVERAGED),
    "at a step that evaluates": ("step", 10, (*AVERAGED, "trainer.evaluate_every=5")),
    "in an evaluation within an epoch": ("evaluate", 2, (*AVERAGED, "trainer.evaluate_every=5")),
    "in an epoch's evaluation": ("evaluate", 1, AVERAGED),
    "in the last evaluation": ("evaluate", 2, AVERAGED),
    "at the last step of a limit": ("step", 15, ("trainer.steps=15",)),
    "in the evaluation at a limit": ("evaluate", 2, ("trainer.steps=15",)),
    "in the evaluation that stops early": ("evaluate", 3, ("trainer.evaluate_every=3", *STOPPING)),
    "in the evaluation after an early stop": ("evaluate", 4, ("trainer.evaluate_every=3", *STOPPING)),
}


def assert_same_end(one: Path, other: Path) -> None:
    """The same log to the last byte, the same results but for times, the same last weights."""
    assert (one / METRICS).read_text(encoding="utf-8") == (other / METRICS).read_text(encoding="utf-8")
    results = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in (one, other)]
    for key in ("status", "metrics", "best", "epochs", "steps"):
        assert results[0][key] == results[1][key], key
    weights, again = (checkpoint.load(Store(f / "checkpoints").pointed("last") or f)["task"] for f in (one, other))
    assert weights.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


@pytest.mark.parametrize("moment", INTERRUPTIONS)
def test_an_interrupted_run_is_resumed_to_the_same_end(
    moment: str, dltrain: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C saves and exits with 130; after `resume` log, results and weights are those of a run left alone."""
    kind, number, more = INTERRUPTIONS[moment]
    whole = dltrain(*SMALL, *QUIET, *more, "--json")
    assert whole.code == 0, whole.err
    owner: type = Timer if kind == "step" else Classification
    name = "step_end" if kind == "step" else "evaluate"
    original, calls = getattr(owner, name), []

    def interrupting(self: Any, given: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupting)
        cut = dltrain(*SMALL, *QUIET, *more, "--json")
    assert cut.code == 130, cut.err
    folder = max(tmp_path.glob("outputs/*/*"))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["status"] == "interrupted"
    assert results["steps"] == checkpoint.load(Store(folder / "checkpoints").pointed("last") or folder)["step"]
    resumed = dltrain("resume", str(folder), "--json")
    assert resumed.code == 0, resumed.err
    assert_same_end(Path(whole.json["run"]), folder)


def test_the_same_seed_gives_the_same_log(dltrain: Callable[..., Any]) -> None:
    """Twice the same command: the same metrics.jsonl and weights, to the last bit; another seed, others."""
    runs = [Path(dltrain(*SMALL, *QUIET, *AVERAGED, f"seed={seed}", "--json").json["run"]) for seed in (3, 3, 4)]
    assert_same_end(runs[0], runs[1])
    assert (runs[0] / METRICS).read_bytes() != (runs[2] / METRICS).read_bytes()


# TensorBoard ------------------------------------------------------------------------------------------------------


def test_tensorboard_has_everything(dltrain: Callable[..., Any]) -> None:
    """Scalars, learning rate, gradient norm, HParams with final and best metrics, graph, pictures and text."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = dltrain(*SMALL, "callbacks.progress=null", "--json")
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run"])
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {"train/loss", "train/lr", "train/grad_norm", "val/loss", "val/accuracy", "test/accuracy", "test/f1"}
    assert scalars | {"final/test/accuracy", "best/val/accuracy"} <= set(tags["scalars"])
    pictures = {f"{split}/{name}" for split in ("val", "test") for name in ("samples", "mistakes", "confusion")}
    assert pictures <= set(tags["images"])
    assert all(events.Images(tag)[0].width > 8 for tag in pictures)
    assert tags["graph"]
    for name in ("train/loss", "train/lr", "train/grad_norm", "val/accuracy"):
        logged = {line["step"]: line[name] for line in lines(folder) if name in line}
        assert {event.step: event.value for event in events.Scalars(name)} == pytest.approx(logged, rel=1e-6), name
    text = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"] if "text" in tag}
    assert "model=mlp" in text["command/text_summary"]
    assert '"hidden_sizes"' in text["configuration/text_summary"]
    hparams = b"".join(events.summary_metadata[tag].plugin_data.content for tag in events.summary_metadata)
    for name in (
        "optimizer.lr",
        "model.hidden_sizes",
        "dataset.batch_size",
        "final/test/accuracy",
        "best/val/accuracy",
    ):
        assert name.encode() in hparams, name


@pytest.mark.parametrize("failing", ["add_scalar", "add_image", "add_hparams", "flush"])
def test_tensorboard_does_not_stop_a_run(failing: str, dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writing thread raises in whatever is called next: one line, and the run is done and whole."""
    from torch.utils.tensorboard import SummaryWriter

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, failing, full)
    outcome = dltrain("model=mlp", "dataset=digits", "trainer.epochs=1", "trainer.log_every=5", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("TensorBoard cannot be written (No space left on device); training goes on") == 1
    assert outcome.json["metrics"]["test/accuracy"] > 0.5
