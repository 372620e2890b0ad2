"""`compare` and `evaluate` show the size and the latency of networks beside their accuracy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from outcome import Outcome

import dltrain as dltrain_package
from dltrain.report.network_figures import TITLES

Command = Callable[..., Outcome]
CNN = ("dataset=digits", "model=cnn", "model.channels=[4]", "device=cpu", "callbacks=quiet")
BRIEF = ("trainer.epochs=1", "dataset.batch_size=256")
PRUNED = ("task=pruning", "task.train_epochs=0", "task.sparsity=0.5")


@pytest.fixture
def train(dltrain: Command) -> Callable[..., str]:
    """Return a function that trains a run and returns its folder."""

    def trained(*overrides: str) -> str:
        outcome = dltrain(*overrides, "--json")
        assert outcome.code == 0, outcome.err
        folder: str = outcome.json["run"]
        return folder

    return trained


def test_dense_pruned_and_smaller_networks_stand_side_by_side(
    dltrain: Command, train: Callable[..., str]
) -> None:
    runs = [
        train(*CNN, *BRIEF),
        train(*CNN, *BRIEF, *PRUNED),
        train(*CNN, *BRIEF, *PRUNED, "task.kind=channels"),
    ]
    outcome = dltrain("compare", *runs, "--json")
    assert outcome.code == 0, outcome.err
    size = outcome.json["size"]
    assert size.keys() >= TITLES.keys()
    # one convolution of 1 to 4 channels with a norm, and a linear layer of 4 x 4 x 4 inputs
    dense = 4 * 9 + 2 * 4 + 64 * 10 + 10
    smaller = 2 * 9 + 2 * 2 + 32 * 10 + 10
    assert size["parameters"] == {"A": dense, "B": dense, "C": smaller}
    zeros = (4 * 9 + 64 * 10) // 2
    assert size["nonzero_parameters"]["B"] == pytest.approx(dense - zeros, abs=8)
    assert size["flops"]["A"] == size["flops"]["B"] == 2 * (64 * 4 * 9 + 64 * 10)
    assert size["flops"]["C"] == 2 * (64 * 2 * 9 + 32 * 10)
    assert size["weight_bytes"]["A"] > size["weight_bytes"]["C"]
    assert all(value > 0 for value in size["latency_ms_64"].values())
    shown = dltrain("compare", *runs)
    assert "latency, batch 64" in shown.out
    evaluated = dltrain("evaluate", runs[2], "--json")
    assert evaluated.json["network"]["parameters"] == smaller
    assert evaluated.json["network"].keys() == TITLES.keys()
    network = dltrain_package.evaluate(runs[2]).network
    assert network.keys() == TITLES.keys()
    assert network["parameters"] == smaller
    for line in Path(runs[2], "metrics.jsonl").read_text().splitlines():
        assert "latency" not in line


def test_rounded_weights_count_as_the_numbers_that_they_stand_for(
    dltrain: Command, train: Callable[..., str]
) -> None:
    mlp = ("dataset=digits", "model=mlp", "model.hidden_sizes=[32]", "device=cpu", *BRIEF)
    methods = ("static", "dynamic", "int4")
    runs = [train(*mlp, "callbacks=quiet")]
    runs += [
        train(*mlp, "callbacks=quiet", "task=quantization", f"task.method={method}")
        for method in methods
    ]
    size = dltrain("compare", *runs, "--json").json["size"]
    numbers = 64 * 32 + 32 + 32 * 10 + 10
    assert size["parameters"] == dict.fromkeys("ABCD", numbers)
    assert size["flops"] == dict.fromkeys("ABCD", 2 * (64 * 32 + 32 * 10))
    assert size["nonzero_parameters"]["B"] > 0.9 * numbers
    dense = size["weight_bytes"]["A"]
    assert dense == 4 * numbers
    assert size["weight_bytes"]["B"] < 0.35 * dense
    assert size["weight_bytes"]["D"] < 0.3 * dense


def test_measuring_can_be_left_out(dltrain: Command, train: Callable[..., str]) -> None:
    runs = [train(*CNN, *BRIEF), train(*CNN, *BRIEF, "seed=1")]
    size = dltrain("compare", *runs, "measure=false", "--json").json["size"]
    assert "flops" not in size
    assert "parameters" in size
    assert dltrain("compare", *runs, "measure=perhaps").code == 2


def test_a_run_that_cannot_be_measured_is_named(
    dltrain: Command, train: Callable[..., str]
) -> None:
    runs = [train(*CNN, *BRIEF), train(*CNN, *BRIEF, "seed=1"), train(*CNN, *BRIEF, "seed=2")]
    for weights in Path(runs[1], "checkpoints").glob("*/task.safetensors"):
        weights.write_bytes(b"x")
    shutil.rmtree(Path(runs[2], "checkpoints"))
    outcome = dltrain("compare", *runs)
    assert outcome.code == 0, outcome.err
    assert "B is not measured:" in outcome.out + outcome.err
    size = dltrain("compare", *runs, "--json").json["size"]
    assert size["flops"].keys() == {"A", "B", "C"}
    assert size["flops"]["B"] is size["flops"]["C"] is None
    assert size["parameters"]["C"] == size["parameters"]["A"]


def test_other_tasks_have_no_latency(dltrain: Command, train: Callable[..., str]) -> None:
    run = train("experiment=qlearning_frozenlake", "trainer.steps=20", "callbacks=quiet")
    outcome = dltrain("evaluate", run, "--json")
    assert outcome.code == 0, outcome.err
    assert "network" not in outcome.json
