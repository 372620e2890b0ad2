"""Callbacks: what ends a run, which state is the best, and what is logged."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import At, lines
from toys import Counting, Places, Recorder

from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.early_stopping import EarlyStopping
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.callbacks.limits import Limits
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.nonfinite import NonFinite
from dltrain.callbacks.timer import Timer
from dltrain.engine import Callback, Engine, Resume, Stage
from dltrain.errors import DivergedError
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import RunFolder

NAN = float("nan")


class Scripted(Counting):
    """One stage whose scores are given, an epoch for each; epochs of `count` batches."""

    def __init__(
        self, scores: list[float], count: int = 2, mode: Any = "max", watch: str = "val/score"
    ) -> None:
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
            evaluate=lambda batches: {
                "score": float(next(self.script)),
                "seen": len(list(batches)),
            },
            watch=self.watch,
            mode=self.mode,
        )


# What ends a run ----------------------------------------


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
def test_early_stopping(
    patience: int, min_delta: float, mode: str, scores: list[float], epochs: int
) -> None:
    """The stage ends after `patience` evaluations in a row that are no better by more than
    `min_delta`.
    """
    engine = Engine([EarlyStopping(patience, min_delta)])
    engine.fit(Scripted(scores, mode=mode))
    assert engine.epoch == epochs
    assert engine.stage_ended == (epochs < len(scores))


def test_early_stopping_leaves_stages_alone_that_watch_nothing() -> None:
    """Nothing can fail to improve if no metric is watched."""
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


def test_early_stopping_waits_again_where_a_resumed_run_is_extended() -> None:
    """A stage that it had ended gets `patience` evaluations more; a plain resume leaves
    it ended.
    """
    states = []

    class Keep(Callback):
        def epoch_end(self, engine: Engine) -> None:
            states.append(engine.state_dict())

    Engine([EarlyStopping(2, 0.0), Keep()]).fit(Scripted([5, 4, 3, 2, 1, 0]))
    state = states[-1]
    assert (state["epoch"], state["stage_ended"]) == (3, True)
    for extended, epochs in ((True, 5), (False, 3)):
        engine = Engine([EarlyStopping(2, 0.0)])
        engine.fit(Scripted([5, 4, 3, 2, 1, 0]), Resume(state, extended=extended))
        assert engine.epoch == epochs


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
def test_limits(
    steps: int | None, seconds: float | None, ended: int, clock: list[float], tmp_path: Path
) -> None:
    """The run ends at the first limit that it reaches; each step takes a second here."""

    class Second(Callback):
        def step_end(self, engine: Engine) -> None:
            clock[0] += 1

    timer = Timer(RunFolder(tmp_path))
    task = Counting((2, 3, 1), (2, 3, 1))
    engine = Engine([Second(), timer, Limits(timer, steps, seconds), Recorder(task.calls)])
    engine.fit(task)
    assert engine.step == ended
    assert task.calls[-1] == "run_end"
    assert task.calls.count(("evaluate", 1)) == math.ceil(ended / 3)


def test_a_run_that_has_reached_its_limit_makes_no_other_step(tmp_path: Path) -> None:
    """Killed between its last checkpoint and its results, a limited run ends at the same step; a
    longer one continues.
    """

    def fit(steps: int, resume: Resume | None = None) -> Engine:
        timer = Timer(RunFolder(tmp_path))
        engine = Engine([timer, Limits(timer, steps, None)])
        engine.fit(Counting((5, 4, 1)), resume)
        return engine

    state = fit(6).state_dict()
    assert (state["step"], state["epoch"], state["position"]) == (6, 1, 2)
    assert fit(6, Resume(state)).step == 6
    assert fit(9, Resume(state)).step == 9


@pytest.mark.parametrize(
    ("every", "at"),
    [(1, [1, 2, 3, 4, 5, 6, 7, 8]), (2, [2, 4, 6, 8]), (3, [3, 4, 6, 8]), (9, [4, 8])],
)
def test_evaluate_every(every: int, at: list[int]) -> None:
    """Evaluate every so many steps and at each epoch's end, once a step; the toy asserts that
    training mode returns.
    """
    found: list[int] = []

    class Look(Callback):
        def evaluation_end(self, engine: Engine) -> None:
            found.append(engine.step)

    Engine([Look(), EvaluateEvery(every)]).fit(Counting((2, 4, 1)))
    assert found == at


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["train", "val"])
def test_a_bad_loss_ends_the_run_before_anything_is_saved(
    bad: float, where: str, tmp_path: Path
) -> None:
    """DivergedError at the first log step or evaluation with a loss that is not a number; no
    checkpoint follows it.
    """

    class Bad(Counting):
        def step(self, batch: tuple[int, int]) -> dict[str, torch.Tensor]:
            return {"loss": torch.tensor(bad if where == "train" and batch == (1, 1) else 1.0)}

        def evaluate(self, batches: Any) -> dict[str, float]:
            self.calls.append(("evaluate", len(list(batches))))
            return {"loss": bad if where == "val" and len(self.calls) > 2 else 1.0, "score": 1.0}

    log = MetricsLog(RunFolder(tmp_path), 2)
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
    log = MetricsLog(RunFolder(tmp_path), 2)
    Engine([log, NonFinite(log)]).fit(Scripted([NAN, 1.0]))
    assert [line["val/score"] for line in lines(tmp_path) if line["split"] == "val"] == [None, 1.0]


# Best ---------------------------------------------------------------------------------------------


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
    """The best is the maximum or minimum, of equals the later; it survives the pruning."""
    saver = Checkpoint(Store(tmp_path))
    Engine([saver]).fit(Scripted(scores, mode=mode))
    figures = {
        "metric": "val/score",
        "mode": mode,
        "value": scores[epoch - 1],
        "metrics": {"val/score": scores[epoch - 1]},
    }
    assert saver.best == {**figures, "stage": "scripted", "epoch": epoch, "step": 2 * epoch}
    best, last = (
        checkpoint.load(saver.store.pointed(pointer) or tmp_path) for pointer in ("best", "last")
    )
    assert (best["step"], best["epoch"]) == (2 * epoch, epoch)
    assert last["step"] == 2 * len(scores)


def test_where_saving_is_dear_a_best_state_is_held_and_written_at_the_end(tmp_path: Path) -> None:
    """Not one of the epochs in between is on the disk, and yet the second, which was the best, is
    in the end.
    """
    saver = Checkpoint(Store(tmp_path))
    saver.cost, saver.written = 1e6, time.perf_counter()
    Engine([saver]).fit(Scripted([0.1, 0.9, 0.2, 0.3, 0.4]))
    assert [int(folder.name) for folder in saver.store.steps()] == [4, 10]
    best, last = (
        checkpoint.load(saver.store.pointed(pointer) or tmp_path) for pointer in ("best", "last")
    )
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


# The log ------------------------------------------------------------------------------------------


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
    """A line every so many steps with the mean since the last one, the rest at an epoch's end, one
    per evaluation.
    """
    Engine([MetricsLog(RunFolder(tmp_path), every)]).fit(Counting((2, 5, 3)))
    found = lines(tmp_path)
    assert [line for line in found if line["split"] == "val"] == [
        {"step": 5, "epoch": 1, "stage": "stage 0", "split": "val", "val/score": 3.0},
        {"step": 10, "epoch": 2, "stage": "stage 0", "split": "val", "val/score": 3.0},
    ]
    logged = [line for line in found if line["split"] == "train"]
    assert [(line["step"], line["epoch"], line["train/loss"]) for line in logged] == train
    assert all(set(line) == {"step", "epoch", "stage", "split", "train/loss"} for line in logged)


def test_a_stage_that_ends_within_an_epoch_is_logged_as_its_own(tmp_path: Path) -> None:
    """The window's content at a stage's end is logged for that stage, not carried into the next
    one.
    """
    log = MetricsLog(RunFolder(tmp_path), 10)
    Engine([log, At(3, Engine.end_stage)]).fit(Counting((1, 5, None), (1, 2, None)))
    found = [(line["stage"], line["step"], line["train/loss"]) for line in lines(tmp_path)]
    assert found == [("stage 0", 3, 1.0), ("stage 1", 5, 0.5)]


class Killed(Exception):
    """The end of a process, without a word."""


def test_a_resume_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    """Killed between a line and the next checkpoint, even at the last checkpoint's own step: no
    line comes twice.
    """

    class Kill(Callback):
        def epoch_end(self, engine: Engine) -> None:
            raise Killed

    def fit(folder: Path, *more: Callback, resume: Resume | None = None) -> None:
        folder.mkdir(exist_ok=True)
        saver = Checkpoint(Store(folder / "checkpoints"))
        try:
            callbacks = [MetricsLog(RunFolder(folder), 4), *more, saver, EvaluateEvery(5)]
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
