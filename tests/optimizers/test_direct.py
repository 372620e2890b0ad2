"""Steps that call torch's kernels directly equal torch's own, to the last bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from dltrain.optimizers import direct
from dltrain.optimizers.direct import DirectAdam, DirectAdamW, DirectSGD

KINDS: dict[str, tuple[type[Optimizer], type[Any], dict[str, Any]]] = {
    "adam": (Adam, DirectAdam, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    "adamw": (AdamW, DirectAdamW, {"weight_decay": 0.1}),
    "sgd": (SGD, DirectSGD, {}),
    "momentum": (SGD, DirectSGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (SGD, DirectSGD, {"momentum": 0.9, "nesterov": True}),
}


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the classes whose kernel is called directly, a name for each group and step."""
    called: list[str] = []
    for kind in (DirectAdam, DirectSGD):
        update = kind.update

        def count(self: Any, group: Any, gradients: Any, update: Any = update) -> None:
            called.append(type(self).__name__)
            update(self, group, gradients)

        monkeypatch.setattr(kind, "update", count)
    return called


class Pair:
    """Two networks with the same weights: one is trained by torch's class, the other by ours."""

    def __init__(self, kind: str, groups: int = 1) -> None:
        torch_kind, direct_kind, settings = KINDS[kind]
        torch.manual_seed(0)
        self.networks = [nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))]
        self.networks.append(copy.deepcopy(self.networks[0]))
        self.optimizers = [
            make(self.groups(network, groups), lr=0.1, fused=True, **settings)
            for make, network in zip((torch_kind, direct_kind), self.networks, strict=True)
        ]

    def groups(self, network: nn.Module, count: int) -> list[dict[str, Any]]:
        params = list(network.parameters())
        return [{"params": params[place::count]} for place in range(count)]

    def train(self, steps: int, without: int | None = None) -> None:
        """Make steps with the same gradients; parameter `without` has none."""
        for _ in range(steps):
            inputs = torch.randn(6, 5)
            for network, optimizer in zip(self.networks, self.optimizers, strict=True):
                optimizer.zero_grad()
                network(inputs).square().mean().backward()
                if without is not None:
                    list(network.parameters())[without].grad = None
                optimizer.step()

    def assert_equal(self) -> None:
        weights = [list(network.parameters()) for network in self.networks]
        assert all(map(torch.equal, *weights))
        states = [list(state_tensors(optimizer)) for optimizer in self.optimizers]
        assert all(map(torch.equal, *states))


def state_tensors(optimizer: Optimizer) -> Iterator[Tensor]:
    """Yield what an optimizer keeps, in the order of its parameters."""
    for state in optimizer.state_dict()["state"].values():
        yield from (value for _, value in sorted(state.items()) if isinstance(value, Tensor))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_those_of_torch(kind: str, groups: int, kernels: list[str]) -> None:
    """All but the first one, which makes the state, are direct."""
    pair = Pair(kind, groups)
    pair.train(5)
    for optimizer in pair.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.03
    pair.train(5)
    pair.assert_equal()
    assert len(kernels) == 9 * groups


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_that_never_has_a_gradient_has_no_state(kind: str, kernels: list[str]) -> None:
    pair = Pair(kind)
    pair.train(3, without=1)
    assert not kernels
    pair.assert_equal()
    keys = [optimizer.state_dict()["state"].keys() for optimizer in pair.optimizers]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_without_a_gradient_is_left_alone(kind: str, kernels: list[str]) -> None:
    pair = Pair(kind)
    pair.train(3)
    made = len(kernels)
    pair.train(2, without=1)
    assert len(kernels) == made
    pair.train(3)
    pair.assert_equal()
    assert len(kernels) > made


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_state_is_used(kind: str, steps: int) -> None:
    """Also one from before the first step, which has no moments."""
    pair = Pair(kind)
    pair.train(steps)
    saved = [copy.deepcopy(optimizer.state_dict()) for optimizer in pair.optimizers]
    pair.train(2)
    for optimizer, state in zip(pair.optimizers, saved, strict=True):
        optimizer.load_state_dict(state)
    pair.train(3)
    pair.assert_equal()


@pytest.mark.parametrize("kind", KINDS)
def test_added_parameters_are_trained(kind: str, kernels: list[str]) -> None:
    pair = Pair(kind)
    pair.train(2)
    for network, optimizer in zip(pair.networks, pair.optimizers, strict=True):
        network.append(nn.Linear(3, 2))
        network[3].load_state_dict({"weight": torch.ones(2, 3), "bias": torch.ones(2)})
        optimizer.add_param_group({"params": list(network[3].parameters())})
    made = len(kernels)
    pair.train(3)
    pair.assert_equal()
    assert not torch.equal(pair.networks[1][3].bias, torch.ones(2))
    assert len(kernels) == made + 2 * 2, "the first step makes the moments"


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_trained_alike(kind: str) -> None:
    pair = Pair(kind)
    pair.train(3)
    pair.networks, pair.optimizers = copy.deepcopy((pair.networks, pair.optimizers))
    pair.train(3)
    pair.assert_equal()


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_are_called_once_a_step(
    kind: str, is_wrapped: bool, kernels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an optimizer of torch's class exists, whose step torch has wrapped."""
    pair = Pair(kind)  # of which one is of torch's class
    if not is_wrapped:
        for torch_kind in (Adam, AdamW, SGD):
            step = torch_kind.step
            monkeypatch.setattr(torch_kind, "step", vars(step).get("__wrapped__", step))
    pair.train(2)
    made = len(kernels)
    calls: list[str] = []
    pair.optimizers[1].register_step_pre_hook(lambda *_: calls.append("before"))
    pair.optimizers[1].register_step_post_hook(lambda *_: calls.append("after"))
    pair.train(2)
    assert calls == ["before", "after"] * 2
    assert len(kernels) == made
    pair.assert_equal()


def test_a_scaled_step_is_torchs(kernels: list[str]) -> None:
    """An overflow under the loss scaling of fp16 skips the step within torch's kernel."""
    pair = Pair("adam")
    pair.train(2)
    made = len(kernels)
    for optimizer in pair.optimizers:
        optimizer.grad_scale = torch.ones(())  # type: ignore[attr-defined]
        optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    before = [weight.clone() for weight in pair.networks[1].parameters()]
    pair.train(1)
    assert len(kernels) == made
    pair.assert_equal()
    assert all(map(torch.equal, before, pair.networks[1].parameters()))


def test_a_profiled_step_has_its_name(kernels: list[str]) -> None:
    pair = Pair("adam")
    pair.train(2)
    made = len(kernels)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        pair.train(1)
    names = {event.key for event in trace.key_averages()}
    assert "Optimizer.step#DirectAdam.step" in names
    assert len(kernels) == made


UNFIT: dict[str, Callable[[nn.Module], Any]] = {
    "not fused": lambda network: DirectAdam(network.parameters(), lr=0.1),
    "amsgrad": lambda network: DirectAdam(network.parameters(), fused=True, amsgrad=True),
    "a tensor as rate": lambda network: DirectAdam(
        network.parameters(), lr=torch.tensor(0.1), fused=True
    ),
    "SGD, not fused": lambda network: DirectSGD(network.parameters(), lr=0.1),
}


@pytest.mark.parametrize("name", UNFIT)
def test_other_steps_are_torchs(name: str, kernels: list[str]) -> None:
    network = nn.Linear(2, 1)
    optimizer = UNFIT[name](network)
    before = network.weight.clone()
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert not kernels
    assert not torch.equal(before, network.weight)


def test_groups_of_two_types_are_torchs(kernels: list[str]) -> None:
    """Torch sorts the parameters of a group by device and type."""
    assert not direct.is_alike({"params": [torch.ones(1), torch.ones(1, dtype=torch.float64)]})
    params = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1, dtype=torch.float64))]
    optimizer = DirectSGD(params, lr=0.1, fused=True)
    for _ in range(2):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
    assert not kernels
    assert [float(param.detach()) for param in params] == pytest.approx([0.8, 0.8])
