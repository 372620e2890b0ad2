"""Grids: Hydra's own sweeper is the reference for the values, their order and the jobs."""

from __future__ import annotations

import random

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from dltrain.config.compose import compose
from dltrain.config.grid import MAX_JOBS, expand
from dltrain.config.overrides import parse
from dltrain.errors import ConfigError, UsageError


def by_hydra(typed: list[str]) -> list[list[str]]:
    overrides = OverridesParser.create().parse_overrides(typed)
    return BasicSweeper.split_arguments(overrides, None)[0]


def values(jobs: list[list[str]]) -> list[dict[str, object]]:
    parsed = [OverridesParser.create().parse_overrides(job) for job in jobs]
    return [{override.key_or_group: override.value() for override in job} for job in parsed]


@pytest.mark.parametrize(
    "typed",
    [
        *("seed=range(3)", "seed=range(1,4)", "seed=range(0,10,3)", "seed=range(5,0,-2)"),
        *("seed=range(stop=3,start=1)", "seed=range(-2,2)", "seed=int(range(0.0,3.0))"),
        *("optimizer.lr=range(0,0.5,0.1)", "optimizer.lr=range(0.1,0.4,0.1)"),
        *("optimizer.lr=range(1,0,-0.25)", "optimizer.lr=range(1e-5,3e-5,1e-5)"),
        *("optimizer.lr=range(2.5)", "optimizer.lr=float(range(1,3))", "seed=tag(a,range(2))"),
        *("seed=sort(3,1,2)", "seed=sort(3,1,2,reverse=true)", "seed=sort(range(3,0,-1))"),
        *("seed=sort(range(0,3),reverse=true)", "name=sort(b,a)", "seed=choice(4)"),
        *("seed=choice(1,1,2)", "name=choice('a,b',c)", 'name="a,b",c', "name=null,a"),
        *("model.channels=choice([1,2],[3])", "model.channels=[1,2],[]", "name='é','中文','🙂'"),
        *("optimizer=choice({lr: 1},{lr: 2})", "name='it\\'s',x", r"name=a\,b,c", r"name=a\ b,c"),
        *("name=${seed},${dataset.split_seed}", "name='${a}','{b}'", "seed=tag(x,choice(1,2))"),
        *("name=true,false", "name=1e3,1_000", "name='1',1", "name=nan,inf", "name=' a ',b"),
        *("name='a=b',c", "name='',b", "name=[],{}", "name=a/b:c,d", "name=str([1,2]),3"),
    ],
)
def test_values_are_those_of_hydra(typed: str) -> None:
    theirs = by_hydra([typed, "+x=0"])
    assert repr(values(expand([typed, "+x=0"]))) == repr(values(theirs))


def test_the_last_key_varies_fastest() -> None:
    typed = ["seed=range(2)", "name=a,b", "optimizer.lr=0.1"]
    assert expand(typed) == by_hydra(typed)
    assert expand(typed)[1] == ["seed=0", "name=b", "optimizer.lr=0.1"]


@pytest.mark.parametrize(
    "typed",
    [
        *("seed=range(0)", "seed=range(0,0)", "seed=range(3,0)", "seed=range(0,3,-1)"),
        *("seed=range(0,5,0)", "optimizer.lr=range(0.0,1,0.0)", "optimizer.lr=range(nan,1)"),
        *("optimizer.lr=range(0,1,nan)", "seed=shuffle(range(0,0))", "seed=sort(range(2,2))"),
    ],
)
def test_a_range_without_values_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="has no values: range"):
        expand([typed])


@pytest.mark.parametrize(
    "typed",
    [
        *("seed=choice()", "seed=range()", "seed=range(a)", "seed=sort()", "name=choice(null,a)"),
        *("name='it''s',x", "seed=str(range(2)),3", "name=é,中文", "model=shuffle(glob(m*))"),
    ],
)
def test_a_sweep_that_hydra_cannot_read_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        expand([typed])


def test_a_shuffle_has_the_same_order_each_time() -> None:
    for typed in ("seed=shuffle(range(20))", "seed=shuffle(1,2,3,4,5,6,7,8)"):
        jobs = expand([typed])
        random.seed(3)
        assert expand([typed]) == jobs
        in_order = sorted(jobs, key=lambda job: int(job[0].partition("=")[2]))
        assert jobs != in_order
        assert len({job[0] for job in jobs}) == len(jobs)
        assert sorted(values(jobs), key=str) == sorted(values(by_hydra([typed])), key=str)
    assert expand(["seed=shuffle(range(20))", "name=a"]) == [
        [*job, "name=a"] for job in expand(["seed=shuffle(range(20))"])
    ]


def test_a_shuffled_list_is_the_same_where_a_run_is_resumed() -> None:
    typed = "model.channels=shuffle([1,2,3,4,5,6,7,8])"
    first = parse([typed])[0][0].value()
    assert parse([typed])[0][0].value() == first
    assert first != sorted(first)
    assert sorted(first) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert parse(["name=shuffle(list=[a,b,c,d])"]) == parse(["name=shuffle(list=[a,b,c,d])"])
    assert compose(["model=cnn", typed]).config["model"]["channels"] == first


@pytest.mark.parametrize(
    ("typed", "count"),
    [
        (["seed=range(0,1000)", "optimizer.lr=range(1,1001)"], "1,000,000 jobs"),
        (["seed=range(0,1000)", "name=a,b", "optimizer.lr=range(1,1001)"], "2,000,000 jobs"),
        ([f"seed=range(0,{MAX_JOBS + 1})"], "the values of seed"),
        (["seed=range(0,1000000000000)"], "the values of seed"),
        (["seed=shuffle(range(0,1000000000000))"], "the values of seed"),
        (["optimizer.lr=range(0,inf)"], "the values of optimizer.lr"),
        (["optimizer.lr=range(0,1,1e-300)"], "the values of optimizer.lr"),
    ],
    ids=str,
)
def test_too_many_jobs_are_refused_before_they_take_memory(typed: list[str], count: str) -> None:
    with pytest.raises(UsageError, match=f"{count}.* 10,000 jobs .*sweep=random"):
        expand(typed)


def test_as_many_jobs_as_a_grid_may_have() -> None:
    assert len(expand(["seed=range(0,100)", "optimizer.lr=range(0,100)"])) == MAX_JOBS
