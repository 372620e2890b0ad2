"""Evaluations that two processes share: the scores are those of one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest
import torch
from test_equal_to_one_process import PROSE, REVERSAL, TIMEOUT

import dltrain
from dltrain.distributed.evaluating import is_divided, own_part
from dltrain.distributed.feeding import DividingFeed
from dltrain.distributed.processes import Processes
from dltrain.engine import Batches, Engine, Stage
from dltrain.types.rows import Share

SMALL = ("trainer.stage_steps=8", "dataset.epochs=2", TIMEOUT, "callbacks=quiet")
OWN_METRIC = "task.metrics.entropy={_target_: torch.nn.CrossEntropyLoss}"
DIVIDED = {
    "classification": ("model=mlp", "dataset.eval_batch_size=25", OWN_METRIC),
    "averages": ("model=mlp", "dataset.eval_batch_size=50", "regularization=[ema]"),
    "batch_norm": ("model=resnet_small", "dataset.eval_batch_size=50"),
    "regression": ("model=mlp", "dataset=diabetes", "dataset.eval_batch_size=7"),
    "forecasting": ("model=mlp", "dataset=mackey_glass", "dataset.eval_batch_size=100"),
    "language_model": ("model=transformer_lm", "model.dim=16", *PROSE, "dataset.eval_batch_size=2"),
    "seq2seq": ("model=seq2seq_attention", *REVERSAL, "dataset.eval_batch_size=7"),
}
ALONE = {
    "one_batch": ("model=mlp", "dataset.eval_batch_size=1000"),
    "no_combination": ("model=vae", "dataset.eval_batch_size=50"),
}


@dataclass
class Evaluated:
    """The scores of one evaluation: as the run has them, and as process 0 alone computes them."""

    split: str
    own: dict[str, Any]
    alone: dict[str, Any]
    is_divided: bool


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Evaluated]:
    """The evaluations of the runs of this test; each is repeated by process 0 alone."""
    score = Engine.score
    collect = Processes.collect
    evaluations: list[Evaluated] = []
    collected = 0

    def counted(group: Processes, value: Any) -> list[Any]:
        nonlocal collected
        collected += 1
        return collect(group, value)

    def both(engine: Engine, batches: Batches, split: str) -> dict[str, Any]:
        feed = engine.feed
        before = collected
        scores = score(engine, batches, split)
        if not isinstance(feed, DividingFeed):
            return scores
        evaluate_by = feed.evaluate_by
        feed.evaluate_by = lambda *_: nullcontext(feed.batches(batches.epoch(0)))
        alone = score(engine, batches, split)
        feed.evaluate_by = evaluate_by
        evaluations.append(Evaluated(split, scores, alone, collected > before))
        return scores

    monkeypatch.setattr(Processes, "collect", counted)
    monkeypatch.setattr(Engine, "score", both)
    return evaluations


def require_same(one: Any, other: Any, name: str) -> None:
    """Fail unless two scores, or what is shown, are equal up to rounding."""
    assert type(one) is type(other), name
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6, equal_nan=True, msg=name)
    elif is_dataclass(one):
        for field in fields(one):
            place = f"{name}.{field.name}"
            require_same(getattr(one, field.name), getattr(other, field.name), place)
    elif isinstance(one, Mapping):
        assert list(one) == list(other), name
        for key, value in one.items():
            require_same(value, other[key], f"{name}.{key}")
    elif isinstance(one, Sequence) and not isinstance(one, str):
        assert len(one) == len(other), name
        for number, (value, other_value) in enumerate(zip(one, other, strict=True)):
            require_same(value, other_value, f"{name}.{number}")
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-5, abs=1e-7, nan_ok=True), name
    else:
        assert one == other, name


@pytest.mark.parametrize("family", DIVIDED)
def test_two_processes_score_as_one(
    family: str, torchrun: None, evaluated: list[Evaluated]
) -> None:
    dltrain.train(*DIVIDED[family], *SMALL)
    assert {evaluation.split for evaluation in evaluated} == {"val", "test"}
    for evaluation in evaluated:
        assert evaluation.is_divided
        require_same(evaluation.alone, evaluation.own, evaluation.split)


@pytest.mark.parametrize("family", ALONE)
def test_some_evaluations_are_those_of_process_0(
    family: str, torchrun: None, evaluated: list[Evaluated]
) -> None:
    dltrain.train(*ALONE[family], *SMALL)
    assert evaluated
    assert not any(evaluation.is_divided for evaluation in evaluated)


def test_the_test_uses_the_best_weights(torchrun: None, evaluated: list[Evaluated]) -> None:
    words = ("model=mlp", "dataset.eval_batch_size=50", "trainer.watch=val/loss", "task.mode=max")
    run = dltrain.train(*words, *SMALL, "trainer.evaluate_every=4", "trainer.stage_steps=12")
    losses = [evaluation.own["val/loss"] for evaluation in evaluated[:-1]]
    assert losses[0] == max(losses)  # the best weights are not the last
    test = evaluated[-1]
    assert test.split == "test"
    assert test.is_divided
    require_same(test.alone, test.own, "test")
    alone = dltrain.evaluate(run.folder, split="test")
    assert alone.metrics["test/loss"] == pytest.approx(test.own["test/loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("samples", "batches", "processes", "first_rows"),
    [(350, 7, 3, [0, 150, 250]), (331, 7, 2, [0, 200]), (100, 2, 2, [0, 50])],
)
def test_every_batch_has_one_process(
    samples: int, batches: int, processes: int, first_rows: list[int]
) -> None:
    """The first processes may have one batch more."""
    split = Numbered(samples, batches)
    assert is_divided(scored_stage(), split, processes)
    parts = [own_part(split, Share(rank, processes)) for rank in range(processes)]
    assert [number for part, _ in parts for number in part] == list(range(batches))
    assert [first_row for _, first_row in parts] == first_rows


@pytest.mark.parametrize(
    ("samples", "batches", "combines"), [(50, 1, True), (350, 9, True), (350, 7, False)]
)
def test_evaluations_that_are_not_divided(samples: int, batches: int, combines: bool) -> None:
    """Too few batches, batches of different sizes, and scores that are not combined."""
    assert not is_divided(scored_stage(combines), Numbered(samples, batches), 2)


class Numbered:
    """Batches of up to 50 samples that are their numbers."""

    batch_size = 50

    def __init__(self, samples: int, batches: int) -> None:
        self.samples = samples
        self.numbers = range(batches)

    def __len__(self) -> int:
        return len(self.numbers)

    def epoch(self, number: int, start: int = 0) -> Iterator[int]:
        return iter(self.numbers[start:])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def scored_stage(combines: bool = True) -> Stage:
    """Return a stage that is only evaluated."""
    return Stage("scored", 1, Numbered(1, 1), lambda batch: {}, combines_scores=combines)
