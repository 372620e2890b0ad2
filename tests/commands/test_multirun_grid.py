"""Grids with values that stand twice: each run is trained once, and counted once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

QUIET = ("debug=smoke", "callbacks=quiet", "model=mlp", "model.hidden_sizes=[4]")


@pytest.mark.parametrize(
    ("words", "seeds", "said"),
    [
        (["seed=1,1"], [1], "is left out: it is the same run as"),
        (["seed=1,2", "seed=3,4"], [3, 4], "seed=1,2 is not read: seed=3,4 comes after it"),
        (["seed=2,2,3"], [2, 3], "left out"),
        (["seed=5", "optimizer.lr=0.001,1e-3"], [5], "left out"),
    ],
    ids=str,
)
def test_a_run_that_stands_twice_is_trained_once(
    words: list[str], seeds: list[int], said: str, dltrain
) -> None:
    """-m seed=1,1 has no deviation of 0, and -m seed=1,2 seed=3,4 is two runs, not four."""
    outcome = dltrain("-m", "launcher=inline", *QUIET, *words, "--json")
    assert outcome.code == 0, outcome.err
    jobs = outcome.json["jobs"]
    trained = [json.loads((Path(job["run"]) / "manifest.json").read_text())["seed"] for job in jobs]
    assert trained == seeds
    assert said in outcome.out
    noun = "job" if len(seeds) == 1 else "jobs"
    assert f"{len(seeds)} {noun} over" in outcome.out
    assert ("95 % interval" in outcome.out) == (len(seeds) > 1)


def test_escapes_reach_the_runs_of_a_grid(dltrain) -> None:
    r"""-m 'name=a\,b,c' is a run called a,b and one called c."""
    outcome = dltrain("-m", "launcher=inline", *QUIET, r"name=a\,b,c", "--json")
    assert outcome.code == 0, outcome.err
    runs = [Path(job["run"]) for job in outcome.json["jobs"]]
    assert [json.loads((run / "manifest.json").read_text())["config"]["name"] for run in runs] == [
        "a,b",
        "c",
    ]


def test_a_seed_that_is_swept_with_a_plus_is_still_a_seed(dltrain) -> None:
    """Runs that differ in their seed only are averaged."""
    outcome = dltrain("-m", "launcher=inline", *QUIET, "++seed=1,2", "optimizer.lr=0.1", "--json")
    assert outcome.code == 0, outcome.err
    assert "95 % interval" in outcome.out
    assert outcome.out.splitlines()[-1].split()[:2] == ["all", "best"]
