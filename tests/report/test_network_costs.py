"""Size and latency of networks: exact numbers, turns, texts."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.engine import Engine
from dltrain.report import network_costs
from dltrain.report.network_costs import BATCHES, Subject, figures_of, medians, number_of_rounds
from dltrain.report.network_figures import TITLES, figure_texts


class Net(nn.Module):
    """A task with a network of 4 x 3 weights, 3 biases, and 2 statistics, and with a copy of it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(4, 3)
        self.model.register_buffer("scale", torch.ones(2, dtype=torch.int8))
        self.dense = nn.Linear(4, 3)
        self.calls: list[int] = []
        self.threads: set[int] = set()

    def predict(self, batch: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls.append(len(batch))
        self.threads.add(torch.get_num_threads())
        outputs: Tensor = self.model(batch)
        return outputs


def subject(task: Any) -> Subject:
    engine = Engine()
    engine.task = task
    return Subject.of(engine, (torch.ones(8, 4), torch.zeros(8)))


def test_the_size_is_that_of_the_network_alone() -> None:
    task = Net()
    with torch.no_grad():
        task.model.weight[0] = 0
    figures = figures_of([subject(task)])[0]
    assert figures["parameters"] == 15
    assert figures["nonzero_parameters"] == 15 - 4
    assert figures["weight_bytes"] == 4 * 15 + 2
    assert figures["flops"] == 2 * 4 * 3
    assert figures["latency_ms_1"] > 0
    assert list(figures) == list(TITLES)
    assert set(task.calls) == set(BATCHES)


def test_passes_are_timed_on_one_thread() -> None:
    task = Net()
    threads = torch.get_num_threads()
    measured = subject(task)
    torch.set_num_threads(2)
    try:
        measured.size()
        assert task.threads == {2}
        figures_of([measured])
        assert task.threads == {1, 2}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_functions_take_turns() -> None:
    calls: list[str] = []
    once = [lambda name=name: calls.append(name) for name in "ab"]
    assert len(medians(once)) == 2
    assert calls == ["a", "b"] * (len(calls) // 2)
    assert len(calls) == 2 * (network_costs.MAX_PASSES + 1)
    assert medians([]) == []


def test_the_median_is_that_of_the_timed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass, which allocates memory, does not count."""
    clock = iter([0.0, 0.2, 1.0, 1.1, 2.0, 2.3, 3.0, 3.1])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(network_costs, "MAX_SECONDS", 0.5)
    monkeypatch.setattr(network_costs, "MIN_PASSES", 3)
    assert medians([lambda: None]) == [pytest.approx(0.1)]


def test_long_passes_are_few() -> None:
    assert number_of_rounds(2.0) == 1
    assert number_of_rounds(0.5) == network_costs.MIN_PASSES
    assert number_of_rounds(0.03) == 10
    assert number_of_rounds(0.0) == network_costs.MAX_PASSES


def test_texts() -> None:
    figures = dict.fromkeys(TITLES, 2.0) | {"flops": 0.0, "parameters": 1234.0}
    assert dict(figure_texts(figures)) == {
        "weights on disk": "2 B",
        "parameters": "1,234",
        "nonzero parameters": "2",
        "FLOPs per sample": "-",
        "latency, batch 1": "2 ms",
        "latency, batch 64": "2 ms",
    }
