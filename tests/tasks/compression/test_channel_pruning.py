"""Structured pruning: channels that are removed together, and the smaller network."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from model_options import build, image_arguments
from pruned import CHANNELS, CNN, DIGITS, pruning
from torch import Tensor, nn

from dltrain.engine import Engine
from dltrain.runs.checkpoint import Store, snapshot
from dltrain.tasks.compression.pruned.channels import Channels
from dltrain.tasks.compression.pruned.couplings import STAYS
from dltrain.types import Spec
from dltrain.weights.shapes import shrink_to

IMAGES = Spec((3, 32, 32), tuple("abcdefg"), 8, 8)
NETWORKS = {
    "cnn": ("model.channels=[[6,8],12]", "model.hidden_sizes=[10]"),
    "cnn without norm": ("model.norm=none", "model.channels=[6,8]"),
    "cnn with layer norm": ("model.norm=layer", "model.channels=[6,8]", "model.head=average"),
    "mlp": ("model.hidden_sizes=[16,12]",),
    "lenet5": ("model.activation=relu",),
    "resnet_small": (),
    "resnet18": (),
    "vgg_small": (),
    "densenet121": (),
}


class Depthwise(nn.Module):
    """A network with a depthwise convolution and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 6, 1)
        self.last = nn.Linear(14, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        y = self.pointwise(self.depthwise(x)).relu()
        logits: Tensor = self.last(torch.cat([x, y], 1).mean((2, 3)))
        return logits


class Grouped(nn.Module):
    """A network with a convolution of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.last = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.grouped(self.first(x).relu()).relu().mean((2, 3)))
        return logits


def network(name: str) -> nn.Module:
    """Return a network of images (B, 3, 32, 32) with seven classes, and norms that do something."""
    torch.manual_seed(0)
    if name == "depthwise":
        made: nn.Module = Depthwise()
    else:
        available = image_arguments(32, channels=3)
        made = build(name.split()[0], available, *NETWORKS[name])
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return made.eval()


def masked(dense: nn.Module, channels: Channels, rest: Tensor) -> nn.Module:
    """Return the dense network with zeros wherever a unit that is not in `rest` has an output."""
    copied = copy.deepcopy(dense)
    for side, units in zip(channels.sides, channels._units(), strict=True):
        if side.end == "in":
            continue
        removed = (units != STAYS) & ~rest[units.clamp_min(0)]
        layer = copied.get_submodule(side.layer)
        for p in layer.parameters():
            p.data[removed] = 0
    return copied


EXACT = [*(name for name in NETWORKS if "layer norm" not in name), "depthwise"]


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_smaller_network_equals_the_one_with_zeros(name: str, scope: Any) -> None:
    """The outputs stay the same within rounding when channels of zeros are removed."""
    if scope == "global" and name in ("resnet18", "densenet121"):
        pytest.skip("large: one scope suffices")
    dense = network(name)
    inputs = torch.randn(4, 3, 32, 32)
    channels = Channels(dense, IMAGES, scope, ())
    smaller = copy.deepcopy(dense)
    channels.prune(smaller, 0.4)
    rest = channels.alive[: channels.count]
    zeros = masked(dense, channels, rest)
    size = sum(p.numel() for p in smaller.parameters())
    assert size < 0.75 * sum(p.numel() for p in dense.parameters())
    with torch.no_grad():
        wanted = zeros(inputs)
        assert not torch.allclose(wanted, dense(inputs), atol=1e-2)
        torch.testing.assert_close(smaller(inputs), wanted, rtol=1e-3, atol=1e-4)
    assert channels.figures(smaller)["nonzero_parameters"] == size
    again = copy.deepcopy(smaller)
    channels.prune(again, 0.6)
    with torch.no_grad():
        assert again(inputs).shape == (4, 7)
    assert channels.figures(again)["sparsity"] >= 0.6 - 0.1


@pytest.mark.parametrize("name", [*NETWORKS, "depthwise"])
def test_a_fresh_network_takes_the_shapes_of_a_state(name: str) -> None:
    dense = network(name)
    smaller = copy.deepcopy(dense)
    Channels(dense, IMAGES, "layer", ()).prune(smaller, 0.5)
    fresh = copy.deepcopy(dense)
    shrink_to(fresh, smaller.state_dict())
    fresh.load_state_dict(smaller.state_dict())
    inputs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(fresh(inputs), smaller(inputs))
    assert str(fresh) == str(smaller)  # the sizes that the layers say they have
    assert str(fresh) != str(dense)


def test_each_layer_loses_half_of_its_channels() -> None:
    task = pruning(*CHANNELS)
    engine = Engine()
    engine.fit(task)
    scores = engine.score(task.data.test, "test")
    assert scores["test/sparsity"] == pytest.approx(0.5)
    table = scores["test/per_layer"]
    rows = dict(zip(table.rows, table.values.tolist(), strict=True))
    assert rows["0"] == [8, 4, 0.5]
    assert rows["all"] == [30, 15, 0.5]
    left = sum(p.numel() for p in task.model.parameters())
    assert scores["test/nonzero_parameters"] == left
    assert 0 < scores["test/parameter_sparsity"] < 1


def test_skipped_layers_keep_their_channels() -> None:
    task = pruning(*CHANNELS, "task.skip=[0]")
    stages = task.stages()
    next(stages)
    next(stages)
    convolutions = [layer for layer in task.model.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [8, 6]


def test_the_channels_with_the_smallest_weights_are_removed() -> None:
    task = pruning(*CHANNELS)
    stages = task.stages()
    next(stages)
    first = task.model.get_submodule("0")
    kept = [1, 3, 4, 6]
    with torch.no_grad():
        small = [channel for channel in range(8) if channel not in kept]
        first.weight[small] = 0
        for layer in task.model.modules():
            if isinstance(layer, nn.Conv2d) and layer is not first:
                layer.weight[:, small] = 0
    wanted = first.weight[kept].clone()
    next(stages)
    assert torch.equal(first.weight, wanted)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (["model=googlenet"], "auxiliary heads"),
        (["model=perceptron"], "no channels that can be removed"),
    ],
)
def test_networks_without_removable_channels_are_refused(
    model: list[str], why: str, dltrain
) -> None:
    outcome = dltrain(*DIGITS, *CHANNELS, *model, "dataset.scaling=unit", "debug=smoke")
    assert outcome.code == 2, outcome.err
    assert why in outcome.err


def test_grouped_convolutions_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the channels of grouped, Conv2d\(.*cannot be removed"):
        Channels(Grouped(), IMAGES, "layer", ())


def test_texts_are_refused() -> None:
    spec = Spec((8,), ("a", "b"), 8, 8, vocab_size=50)
    with pytest.raises(ValueError, match="networks of images and numbers"):
        Channels(nn.Linear(8, 2), spec, "layer", ())


# --- Runs


def test_a_smaller_network_is_evaluated_resumed_and_loaded_without_the_library(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dltrain as api

    brief = (*DIGITS, *CNN, *CHANNELS, "task.train_epochs=1", "dataset.batch_size=256")
    outcome = dltrain(*brief, "task.rounds=2", "trainer.epochs=1", "--json")
    assert outcome.code == 0, outcome.err
    run = outcome.json["run"]
    monkeypatch.setitem(sys.modules, "torch_pruning", None)  # as if it were not installed
    evaluated = dltrain("evaluate", run, "--json")
    assert evaluated.code == 0, evaluated.err
    for name in ("accuracy", "loss", "nonzero_parameters"):
        metric = f"test/{name}"
        assert evaluated.json["metrics"][metric] == outcome.json["metrics"][metric]
    network = api.load(run).model
    assert network.get_submodule("0").out_channels == 4
    longer = dltrain("resume", run, "trainer.epochs=2", "--json")
    assert longer.code == 0, longer.err
    settings = ("task.train_epochs=0", "trainer.epochs=1", "task.sparsity=0.6")
    continued = dltrain(*DIGITS, *CNN, *CHANNELS, *settings, f"init.from={run}", "--json")
    assert continued.code == 0, continued.err
    assert continued.json["metrics"]["test/sparsity"] > 0.6
    other = dltrain("dataset=digits", *CNN, f"init.from={run}", "trainer.epochs=1")
    assert other.code == 3
    assert "task=pruning task.kind=channels continues with the smaller network" in other.err
    fresh = dltrain(*brief, "trainer.epochs=1")
    assert fresh.code == 2
    assert 'pip install "dltrain-cli[compress]"' in fresh.err


def test_a_checkpoint_of_another_network_is_refused() -> None:
    task = pruning(*CHANNELS)
    state = snapshot(task.state_dict())
    state["pruner._extra_state"] = torch.zeros(3, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match="those of another network"):
        pruning(*CHANNELS).load_state_dict(state)


def test_the_file_of_a_smaller_network_is_smaller(dltrain) -> None:
    sizes = {}
    for name, more in {"dense": (), "smaller": ("task=pruning", *CHANNELS)}.items():
        settings = ("dataset=digits", *CNN, "device=cpu", "callbacks=quiet", "trainer.epochs=1")
        outcome = dltrain(*settings, *more, "--json")
        assert outcome.code == 0, outcome.err
        store = Store(Path(outcome.json["run"]) / "checkpoints")
        weights = store.read("best")[1]["task"]
        network = [value for name, value in weights.items() if name.startswith("model.")]
        sizes[name] = sum(value.numel() for value in network)
    assert sizes["smaller"] < 0.6 * sizes["dense"]
