"""The jobs of a sweep are those that were composed one by one, and share their equal parts."""

from __future__ import annotations

import logging

import pytest

from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.config.grid import expand
from dltrain.errors import ConfigError
from dltrain.sweeps.samplers.expansion import MAX_PROBLEMS_SHOWN, MAX_WRONG_JOBS, checked_jobs

BASE = ["dataset=digits", "model=mlp"]


@pytest.mark.parametrize(
    "typed",
    [
        ["seed=range(3)", "optimizer.lr=0.1,0.2"],
        ["optimizer=sgd,adam", "regularization=l2,[l2,dropout]", "schedule=glob(c*)"],
        ["experiment=cnn_mnist,lenet5_mnist", "trainer.epochs=${seed}", "seed=1,2"],
        ["+model.num_classes=3,4", "~debug", "++name=a,${seed}"],
        ["seed=1,1,2", "optimizer.lr=0.1,1e-1"],
    ],
    ids=str,
)
def test_jobs_are_those_composed_one_by_one(typed: list[str]) -> None:
    words = typed
    if not typed[0].startswith("experiment"):
        words = [*BASE, *typed]
    jobs, configurations = checked_jobs(words)
    assert [repr(compose(job)) for job in jobs] == [repr(one) for one in configurations]
    distinct = dict.fromkeys(repr(compose(job).config) for job in expand(words))
    assert [repr(one.config) for one in configurations] == list(distinct)


def test_equal_parts_are_in_memory_once() -> None:
    _, configurations = checked_jobs([*BASE, "seed=range(4)", "optimizer.lr=0.1,0.2"])
    for group, count in (("model", 1), ("optimizer", 2), ("trainer", 1)):
        nodes = [one.config[group] for one in configurations]
        nodes += [one.public[group] for one in configurations]
        assert len({id(node) for node in nodes}) == count, group
    assert len({id(one.choices) for one in configurations}) == 1


def test_a_warning_names_a_job_that_stands_twice(caplog) -> None:
    with caplog.at_level(logging.WARNING, "dltrain"):
        jobs, _ = checked_jobs([*BASE, "seed=1,1"])
    assert len(jobs) == 1
    assert "is left out: it is the same run as" in caplog.text


def test_each_problem_is_reported_once_and_in_order() -> None:
    words = [*BASE, "seed=-1,-2", "optimizer.lr=-1,1", "optimizer.nope=1"]
    alone = [problem for job in expand(words) for problem in problems_of(compose(job))]
    with pytest.raises(ConfigError) as caught:
        checked_jobs(words)
    assert sorted(caught.value.problems) == sorted(set(alone))


def test_many_problems_are_reported_in_a_readable_length() -> None:
    with pytest.raises(ConfigError) as caught:
        checked_jobs([*BASE, f"optimizer.lr=range(-{MAX_WRONG_JOBS},2)", "+foo=1"])
    problems = caught.value.problems
    assert len(problems) == MAX_PROBLEMS_SHOWN + 3
    shown = dict(problems)
    assert shown["optimizer.lr=-200"].startswith("expected a number > 0")
    left = MAX_WRONG_JOBS - MAX_PROBLEMS_SHOWN
    assert shown["optimizer.lr=..."] == f"{left} more problems of this key"
    assert "no such key" in shown["+foo=1"]
    assert shown["..."] == "2 of 202 jobs are not checked yet: 200 jobs have problems"
