"""Sharing between jobs changes nothing: each is composed and checked as if it were alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.config.composing.shared import pooled, shared, sharing
from dltrain.config.groups import config_dir, groups

DRAWS = 60
JOBS_A_DRAW = 4
# Overrides of every kind: choices, values, additions, deletions, interpolations, and mistakes.
OVERRIDES = [
    *("model=mlp", "model=cnn", "+model=mlp", "model={_target_: torch.nn.Identity}", "model=nlp"),
    *("model.activation=gelu", "model.activation=gelo", "model.dropout=0.1", "model.dropout=2"),
    *("dataset=digits", "dataset=wine", "dataset.batch_size=all", "dataset.batch_size=-1"),
    *("optimizer=sgd", "optimizer=adam", "optimizer={lr: 0.5}", "optimizer.lr=0.1"),
    *("optimizer.lr=1e-1", "++optimizer.lr=${oc.env:DLTRAIN_TEST_LR}", "~optimizer.lr"),
    *("optimizer.momentum=0.9", "optimizer.lr=fast", "optimizr.lr=1", "optimizer.lr=${name}"),
    *("regularization=[l2,dropout]", "regularization=l2", "regularization.l2.weight=0.5"),
    *("regularization=mixup", "~regularization=l2", "preprocessing=[]", "loss=focal"),
    *("experiment=cnn_mnist", "experiment=gan_mnist", "experiment=null", "debug=smoke", "~debug"),
    *("seed=1", "seed=1.0", "seed=true", "seed=-1", "seed=${dataset.split_seed}", "+seed=2"),
    *("name=a", "name=1", "name='a,b'", "name=${oc.env:TEST_SECRET}", "name=${seed}", "name="),
    *("expect={test/accuracy: '>=0.9'}", "expect={test/accuracy: good}", "plugins=[json]"),
    *("trainer.epochs=3", "trainer.epochs=null", "trainer.steps=${seed}", "dataset.epochs=9"),
    *("callbacks=quiet", "callbacks.tensorboard=null", "paths.output=~/runs", "init.from=x"),
    *("seed", "seed=[", "seed=1,2", "name=shuffle([a,b,c,d])", "model@x=mlp", "resume=now"),
]


def outcome(job: list[str]) -> tuple[Any, Any, str]:
    """Return the configuration of a job and its problems; the text tells 1 from 1.0 and True."""
    composed = compose(job)
    problems = problems_of(composed)
    return composed, problems, repr(composed)


def test_shared_results_are_those_of_each_job_alone(monkeypatch) -> None:
    monkeypatch.setenv("DLTRAIN_TEST_LR", "0.25")
    monkeypatch.setenv("TEST_SECRET", "hidden")
    draw = random.Random(7)
    with_problems = 0
    for _ in range(DRAWS):
        common = draw.sample(OVERRIDES, draw.randint(0, 3))
        jobs = [[*common, *draw.sample(OVERRIDES, 2)] for _ in range(JOBS_A_DRAW)]
        alone = [outcome(job) for job in jobs]
        with sharing():
            together = [outcome(job) for job in [*jobs, *jobs]]
        assert together == [*alone, *alone], jobs
        with_problems += sum(bool(problems) for _, problems, _ in alone)
    assert 0.2 < with_problems / (DRAWS * JOBS_A_DRAW) < 0.95, "both kinds have to be drawn"


def test_a_job_gets_an_object_of_its_own() -> None:
    with sharing():
        first = compose(["seed=1"])
        first.config["optimizer"]["lr"] = -1
        first.choices["model"] = "changed"
        second = compose(["seed=1"])
    assert second == compose(["seed=1"])


def test_nothing_is_kept_between_two_sweeps(tmp_path: Path, monkeypatch) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    for lr, width in (("0.25", 4), ("0.5", 8)):
        monkeypatch.setenv("DLTRAIN_TEST_LR", lr)
        text = f"_target_: dltrain.models.mlp.MLP\nhidden_sizes: [{width}]\n"
        (own / "mine.yaml").write_text(text, encoding="utf-8")
        (own / f"mine{width}.yaml").write_text(text, encoding="utf-8")
        with config_dir(str(own.parent)), sharing():
            for _ in range(2):
                composed = compose(["model=mine", "name=${oc.env:DLTRAIN_TEST_LR}"])
                assert composed.config["model"]["hidden_sizes"] == [width]
                assert composed.config["name"] == lr
            assert f"mine{width}" in groups()["model"]
    assert "mine" not in groups()["model"]


def test_another_folder_of_options_counts_within_a_sweep(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name / "model").mkdir(parents=True)
        text = f"_target_: dltrain.models.mlp.MLP\nhidden_sizes: [{len(name)}]\n"
        (tmp_path / name / "model" / "mine.yaml").write_text(text, encoding="utf-8")
    sizes = []
    with sharing():
        for name in ("first", "second", "first"):
            with config_dir(str(tmp_path / name)):
                sizes.append(compose(["model=mine"]).config["model"]["hidden_sizes"])
    assert sizes == [[5], [6], [5]]


def test_errors_are_not_kept() -> None:
    calls = []

    @shared
    def double(number: int) -> int:
        calls.append(number)
        if len(calls) == 1:
            raise ValueError("the first time")
        return 2 * number

    with sharing():
        with pytest.raises(ValueError, match="the first time"):
            double(1)
        assert [double(1), double(1), double(2)] == [2, 2, 4]
    assert calls == [1, 1, 2]
    assert double(1) == 2
    assert calls == [1, 1, 2, 1]


def test_equal_parts_are_one_object() -> None:
    with sharing():
        one = pooled({"lr": 1})
        assert pooled({"lr": 1}) is one
        for other in ({"lr": True}, {"lr": 1.0}, {"lr": "1"}):
            assert repr(pooled(other)) == repr(other)
    assert pooled({"lr": 1}) is not one
