"""Compilation: what is compiled, and how often, by a backend that counts instead of compiling."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.acceleration import compiling
from dltrain.acceleration.activations import recompute_activations
from dltrain.acceleration.compiling import (
    MAX_GRAPHS,
    Compilation,
    compile_networks,
    reason_of,
    silent_torch,
)
from dltrain.engine import Engine


class System(nn.Module):
    """A task, as far as compilation knows one: a network."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Autoencoder(nn.Module):
    """A network whose methods are called instead of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(3, 4), nn.Tanh())

    def encode(self, x: Tensor) -> Tensor:
        codes: Tensor = self.encoder(x)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(codes)
        return decoded


class Table(nn.Module):
    """A network that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(3))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the logger dltrain."""
    return [record.getMessage() for record in caplog.records if record.name == "dltrain"]


def train(model: Callable[..., Tensor], *sizes: int, width: int = 4) -> Tensor:
    """The outputs of the last of several training steps."""
    out = torch.zeros(())
    for size in sizes:
        torch.manual_seed(size)
        out = model(torch.randn(size, width))
        out.sum().backward()
    return out


def test_two_epochs_with_a_short_batch_and_evaluations_are_compiled_once(
    graphs: list[Any],
) -> None:
    task = System(network())
    compile_networks(task)
    for _ in range(2):
        task.train()
        train(task.model, 8, 8, 8, 3)
        task.eval()
        with torch.no_grad():
            task.model(torch.randn(8, 4))
            task.model(torch.randn(5, 4))
    assert len(graphs) == 1


def test_a_compiled_network_computes_what_the_plain_one_does(graphs: list[Any]) -> None:
    plain, task = network(), System(network())
    compile_networks(task)
    for size in (8, 8, 3, 8):
        assert train(task.model, size).equal(train(plain, size))
    assert len(graphs) == 1
    for ours, theirs in zip(task.model.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert ours.grad.equal(theirs.grad)
    for name, value in plain.state_dict().items():
        assert task.model.state_dict()[name].equal(value), name


def test_a_batch_size_that_stays_is_compiled_as_well(graphs: list[Any]) -> None:
    task = System(network())
    compile_networks(task)
    train(task.model, 8, 8, *[4] * 10)
    assert len(graphs) == 2


def test_sequences_of_all_lengths_share_a_graph(graphs: list[Any]) -> None:
    task = System(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()))
    compile_networks(task)
    for length in (8, 9, 10, 11, 12, 13, 9):
        task.model(torch.randn(4, 1, length)).sum().backward()
    assert len(graphs) == 2


def test_more_graphs_than_the_limit_are_not_made(graphs: list[Any], caplog: Any) -> None:
    task = System(network())
    compile_networks(task)
    with caplog.at_level(logging.WARNING, "dltrain"):
        for size in range(2, MAX_GRAPHS + 5):
            train(task.model, *[size] * (5 * size))
    assert len(graphs) == MAX_GRAPHS
    assert len(messages(caplog)) == 1
    assert f"for {MAX_GRAPHS} shapes" in caplog.text


def test_frozen_layers_get_a_graph_of_their_own(graphs: list[Any]) -> None:
    task = System(network())
    compile_networks(task)
    for layer in (0, 3):
        train(task.model, 8, 8)
        next(task.model[layer].parameters()).requires_grad_(False)
    assert len(graphs) == 2


def test_methods_of_a_network_compile_the_parts_that_they_call(graphs: list[Any]) -> None:
    task = System(Autoencoder())
    compile_networks(task)
    for _ in range(3):
        task.model.decode(task.model.encode(torch.randn(8, 4))).sum().backward()
    assert len(graphs) == 2


def test_a_compiler_that_fails_is_named_once(monkeypatch: Any, caplog: Any) -> None:
    def fail(graph: Any, inputs: list[Any]) -> Any:
        raise RuntimeError("no compiler on this machine")

    monkeypatch.setattr(compiling, "BACKEND", fail)
    plain, task = network(), System(network())
    compile_networks(task)
    with caplog.at_level(logging.WARNING, "dltrain"):
        for size in (8, 8, 3):
            assert train(task.model, size).equal(train(plain, size))
    for name, value in plain.state_dict().items():
        assert task.model.state_dict()[name].equal(value), name
    (message,) = messages(caplog)
    assert "model cannot be compiled and runs without compilation" in message
    assert "no compiler on this machine" in message


def test_an_error_of_the_network_is_raised_as_it_is(graphs: list[Any], caplog: Any) -> None:
    task = System(network())
    compile_networks(task)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(task.model, 8, width=5)
    assert not messages(caplog)


def test_copies_and_state_dicts_know_nothing_of_compilation(graphs: list[Any]) -> None:
    task = System(network())
    names = list(task.state_dict())
    compile_networks(task)
    train(task.model, 8)
    assert list(task.state_dict()) == names
    for twin in (copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert train(twin.model, 8).shape == (8, 2)
    assert len(graphs) == 1


def test_a_resumed_run_compiles_for_the_same_calls(graphs: list[Any]) -> None:
    first, second = System(network()), System(network())
    for task in (first, second):
        compile_networks(task)
    train(first.model, 8, 8, 3)
    Compilation(second).load_state_dict(Compilation(first).state_dict())
    train(second.model, 3)
    assert len(graphs) == 1
    train(second.model, 8)
    assert len(graphs) == 2


def test_a_task_without_anything_to_compile_says_so_at_its_end(caplog: Any) -> None:
    task = System(Table())
    compile_networks(task)
    callback = Compilation(task)
    with caplog.at_level(logging.WARNING, "dltrain"):
        callback.run_end(Engine())
    (message,) = messages(caplog)
    assert "no stage of this task calls a network as a whole, so nothing was compiled" in message


def test_only_torch_is_silent_while_it_compiles(caplog: Any) -> None:
    torch_logger = logging.getLogger("torch._dynamo.convert_frame")
    with caplog.at_level(logging.WARNING), silent_torch():
        torch_logger.error("of the compiler")
        logging.getLogger("dltrain").warning("of the run")
    torch_logger.error("after it")
    assert [record.getMessage() for record in caplog.records] == ["of the run", "after it"]


def test_a_reason_has_no_advice_about_torch_itself() -> None:
    error = RuntimeError("no compiler\n\nSet TORCHDYNAMO_VERBOSE=1 for the stack trace")
    assert reason_of(error) == "RuntimeError: no compiler"


def test_blocks_that_recompute_are_compiled_one_by_one(graphs: list[Any]) -> None:
    blocks = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)]
    task = System(nn.Sequential(*blocks))
    plain = copy.deepcopy(task)
    assert recompute_activations(task) == 3
    compile_networks(task)
    for size in (8, 8):
        assert train(task.model, size).equal(train(plain.model, size))
    assert len(graphs) == 3
    for ours, theirs in zip(task.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert ours.grad.equal(theirs.grad)
