"""One test body for every image network in both forms; published sizes; auxiliary heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_options import LARGE, build, image_arguments, keys
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models as published

from dltrain.config.compose import compose
from dltrain.errors import ConfigError
from dltrain.models.images.alexnet import AlexNet
from dltrain.models.images.densenet import DenseNet
from dltrain.models.images.googlenet import GoogLeNet
from dltrain.models.images.inception import InceptionV3
from dltrain.models.images.resnet import ResNet
from dltrain.models.images.torchvision_classifier import TorchvisionClassifier
from dltrain.models.images.vgg import VGG
from dltrain.tasks.supervised import loss_with_heads
from dltrain.types import AuxiliaryHeads
from dltrain.weights.freezing import trainable_count

# The minimum sides of the small and the large form; parameters without auxiliary heads and
# multiply-adds of the large form at 1000 classes, as published with torchvision's weights.
NETWORKS: dict[str, tuple[int, int, int, float]] = {
    "alexnet": (8, 63, 61_100_840, 0.714e9),
    "vgg11": (8, 32, 132_863_336, 7.609e9),
    "vgg13": (8, 32, 133_047_848, 11.308e9),
    "vgg16": (8, 32, 138_357_544, 15.470e9),
    "vgg19": (8, 32, 143_667_240, 19.632e9),
    "googlenet": (8, 32, 6_624_904, 1.498e9),
    "inception_v3": (14, 75, 23_834_568, 5.713e9),
    "resnet18": (8, 32, 11_689_512, 1.814e9),
    "resnet34": (8, 32, 21_797_672, 3.664e9),
    "resnet50": (8, 32, 25_557_032, 4.089e9),
    "resnet101": (8, 32, 44_549_160, 7.801e9),
    "densenet121": (8, 29, 7_978_856, 2.834e9),
    "densenet169": (8, 29, 14_149_480, 3.360e9),
}
FORMS = [(name, form) for name in NETWORKS for form in ("small", "large")]
DEEPER = (
    "vgg13",
    "vgg16",
    "vgg19",
    "resnet34",
    "resnet101",
    "densenet169",
)  # than another, and of the same stages
COMPUTED = [
    (name, "small")
    for name in ("alexnet", "vgg11", "googlenet", "inception_v3", "resnet18", "densenet121")
]
COMPUTED += [(name, "large") for name in ("googlenet", "resnet18", "densenet121")]


def network(
    name: str, side: int, *overrides: str, channels: int = 1, num_classes: int = 5
) -> nn.Module:
    return build(name, image_arguments(side, channels, num_classes), *overrides)


def imagined(
    name: str, side: int, *overrides: str, channels: int = 1, num_classes: int = 5
) -> nn.Module:
    """Return the same network on the meta device, which has shapes only."""
    with torch.device("meta"):
        return network(name, side, *overrides, channels=channels, num_classes=num_classes)


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return the loss as the task computes it in training, with that of every head."""
    outputs, targets = model(x), torch.arange(len(x), device=x.device) % 5
    if isinstance(model, AuxiliaryHeads):
        return loss_with_heads(nn.CrossEntropyLoss(), outputs, targets, model.auxiliary_weight)[0]
    return F.cross_entropy(outputs, targets)


def test_every_network_of_the_folder_is_in_the_table() -> None:
    assert {*NETWORKS, "torchvision"} == set(LARGE)


@pytest.mark.parametrize(("name", "form"), COMPUTED)
def test_a_network_learns_with_every_parameter_and_trains_in_half_precision(
    name: str, form: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    side = max(16, NETWORKS[name][form == "large"])
    model, x = network(name, side, f"model.stem={form}"), torch.randn(4, 1, side, side)
    loss = loss_of(model, x)
    assert torch.isfinite(loss)
    loss.backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert torch.isfinite(p.grad).all(), parameter
        assert p.grad.abs().sum() > 0, parameter

    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = imagined(name, side, f"model.stem={form}").eval()
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"), assign=True)
    with torch.no_grad():
        logits = model.eval()(x)
        assert logits.shape == (4, 5)
        scale = float(logits.abs().max())  # of a network that has seen one batch
        torch.testing.assert_close(
            again(x), logits, rtol=1e-4, atol=1e-5 * scale
        )  # elsewhere in memory: other kernels
    kept = again.state_dict()
    assert all(torch.equal(t, kept[n]) for n, t in model.state_dict().items())

    model.to(
        memory_format=torch.channels_last
    )  # as in a run: a CPU without bfloat16 is so several times as fast
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, x[:2])
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert any(not torch.equal(old, p) for old, p in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(("name", "form"), [form for form in FORMS if form[0] not in DEEPER])
def test_a_network_takes_every_size_from_its_minimum_and_refuses_smaller_ones(
    name: str, form: str
) -> None:
    """The shapes show which parameters a gradient reaches."""
    stem, least = f"model.stem={form}", NETWORKS[name][form == "large"]
    dense = name.startswith(
        ("alexnet", "vgg")
    )  # most of it is: without numbers that is soon made; batch norms are not
    device, make = ("meta", imagined) if dense else ("cpu", network)
    model = make(name, least, stem, channels=4)  # no weight depends on the size
    with torch.no_grad():
        for side in (least, least + 1, 2 * least + 3):
            assert model.eval()(torch.ones(2, 4, side, side, device=device)).shape == (2, 5)
    loss_of(model.train(), torch.ones(2, 4, 2 * least, 2 * least, device=device)).backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(
        ConfigError, match=rf"at least {least} pixels per side.*preprocessing.resize.size={least}"
    ):
        imagined(name, least - 1, stem, channels=4)


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "googlenet", "inception_v3", "resnet18", "densenet121"]
)
def test_the_form_is_chosen_by_the_size(name: str) -> None:
    small, large, of_32, of_96 = (
        repr(imagined(name, side, f"model.stem={stem}"))
        for side, stem in ((96, "small"), (96, "large"), (32, "auto"), (96, "auto"))
    )
    assert of_32 == small != large
    assert of_96 == large


@pytest.mark.parametrize("name", [*NETWORKS, "vgg11_bn", "vgg16_bn"])
def test_the_large_form_is_torchvisions_layer_by_layer_with_the_published_parameters_and_operations(
    name: str,
) -> None:
    """Published weights load: names, shapes and layers are the same, in the same order."""
    own, side = name.removesuffix("_bn"), 299 if name == "inception_v3" else 224
    overrides = ["model.norm=batch"] if own != name else []
    settings: dict[str, Any] = (
        {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    )
    settings |= {"dropout": 0.4} if name == "googlenet" else {}  # the paper's; torchvision's is 0.2
    with torch.device("meta"):
        theirs = published.get_model(name, weights=None, **settings)
    model = imagined(own, side, *overrides, channels=3, num_classes=1000)
    assert [(n, t.shape) for n, t in model.state_dict().items()] == [
        (n, t.shape) for n, t in theirs.state_dict().items()
    ]
    layers, wanted = (
        [repr(m) for m in network.modules() if not list(m.children())]
        for network in (model, theirs)
    )
    assert layers == wanted
    if own != name:
        return
    _, _, parameters, multiply_adds = NETWORKS[name]
    heads = model.auxiliary_heads() if isinstance(model, AuxiliaryHeads) else []
    assert trainable_count(model) - sum(map(trainable_count, heads)) == parameters
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model.eval()(torch.empty(1, 3, side, side, device="meta"))
    assert counted.get_total_flops() == pytest.approx(2 * multiply_adds, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "overrides", "count", "multiply_adds"),
    [
        ("vgg16", ["model.norm=batch"], 14_728_266, 313.2e6),
        ("resnet18", [], 11_173_962, 555.4e6),
        ("resnet50", [], 23_520_842, 1297.8e6),
        ("densenet121", [], 6_956_298 + 2 * 64, 888.4e6),  # and the norm behind the stem
        ("alexnet", [], 7_506_762, 172.2e6),
        ("googlenet", ["model.auxiliary_weight=0"], 5_490_986, 1337.1e6),
        ("inception_v3", ["model.auxiliary_weight=0"], 21_806_058, 937.8e6),
        ("resnet_small", [], 447_482, 37.75e6),
        (
            "resnet_small",
            ["model.stem_channels=[24,64]", "model.stem_halving=stride"],
            470_786,
            38.56e6,
        ),
    ],
)
def test_the_small_forms_have_the_known_parameters_and_operations(
    name: str, overrides: list[str], count: int, multiply_adds: float
) -> None:
    """VGG, ResNet, DenseNet: github.com/kuangliu/pytorch-cifar."""
    model = imagined(name, 32, *overrides, channels=3, num_classes=10).eval()
    assert trainable_count(model) == count
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.empty(1, 3, 32, 32, device="meta"))
    assert counted.get_total_flops() == pytest.approx(2 * multiply_adds, rel=1e-3)


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "googlenet", "inception_v3", "densenet121"])
def test_dropout_is_a_setting_of_the_networks_whose_papers_have_it(name: str) -> None:
    def rates(dropout: float) -> set[float]:
        model = imagined(name, 32, f"model.dropout={dropout}")
        layers = {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
        return layers | {m.drop_rate for m in model.modules() if hasattr(m, "drop_rate")}

    assert 0.125 in rates(0.125)
    assert 0.125 not in rates(0.25)


@pytest.mark.parametrize(("name", "count"), [("googlenet", 2), ("inception_v3", 1)])
def test_auxiliary_heads_are_only_in_training_and_their_loss_is_weighted(
    name: str, count: int
) -> None:
    torch.manual_seed(0)
    model, x, targets = (
        network(name, 16, "model.auxiliary_weight=0.25"),
        torch.randn(3, 1, 16, 16),
        torch.tensor([0, 1, 2]),
    )
    assert isinstance(model, AuxiliaryHeads)
    outputs = model(x)
    assert [z.shape for z in outputs] == [(3, 5)] * (1 + count)
    losses = [F.cross_entropy(z, targets) for z in outputs]
    total, weight = loss_with_heads(nn.CrossEntropyLoss(), outputs, targets, 0.25)
    assert weight == len(targets)
    assert torch.allclose(total, losses[0] + 0.25 * sum(losses[1:]))
    with torch.no_grad():
        logits = model.eval()(x)
        for head in model.auxiliary_heads():
            for p in head.parameters():
                p.zero_()
        assert torch.equal(model(x), logits)
    plain = network(name, 16, "model.auxiliary_weight=0")
    assert not trainable_count(nn.ModuleList(plain.auxiliary_heads()))  # type: ignore[operator]
    assert plain(x).shape == (3, 5)


def test_a_run_trains_the_heads_and_predicts_without_them(dltrain) -> None:
    """Evaluate and predict get the logits alone; the logged training loss is the sum of three."""
    tiny = ["dataset.source.height=8", "dataset.source.width=8", "dataset.source.num_classes=3"]
    outcome = dltrain(
        "model=googlenet",
        "dataset=synthetic",
        *tiny,
        "optimizer=sgd",
        "debug=smoke",
        "callbacks=quiet",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    assert 0 <= outcome.json["metrics"]["test/accuracy"] <= 1
    assert outcome.json["metrics"]["train/loss"] > 1.2 * outcome.json["metrics"]["test/loss"]


def test_check_prints_parameters_and_operations_without_the_heads(dltrain) -> None:
    """They are the published ones with 10 classes instead of 1000, for one view of an image."""
    fewer = 990 * 1025
    size = [f"dataset.source.{side}=224" for side in ("height", "width")]
    tiny = [
        "dataset.source.num_classes=10",
        "dataset.batch_size=1",
        "optimizer=sgd",
        "task.views=[flip]",
    ]
    outcome = dltrain("check", "model=googlenet", "dataset=synthetic", *size, *tiny, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["parameters"] == 6_624_904 - fewer
    assert outcome.json["forward_flops_per_sample"] == pytest.approx(2 * 1.497e9, rel=1e-3)
    assert f"{6_379_984 - 2 * fewer:,}, which only training has" in outcome.out


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("mobilenet_v3_small", 32),
        ("convnext_tiny", 40),
        ("vit_b_32", 64),
        ("shufflenet_v2_x0_5", 32),
    ],
)
def test_torchvisions_other_classifiers_take_any_channels_and_classes(name: str, side: int) -> None:
    model = imagined("torchvision", side, f"model.name={name}", channels=2)
    assert model(torch.empty(2, 2, side, side, device="meta")).shape == (2, 5)
    loss_of(model, torch.empty(4, 2, side, side, device="meta")).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_network_of_torchvision_whose_builder_reads_values_is_built_too() -> None:
    """RegNet computes its widths from tensors, which are empty where only shapes are made."""
    model = network("torchvision", 32, "model.name=regnet_y_400mf", channels=2)
    assert model(torch.randn(2, 2, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "side", "why"),
    [
        ("convnext_tinny", 32, "did you mean convnext_tiny"),
        ("zzz", 32, "it has alexnet, convnext_base"),
        ("googlenet", 32, "model=googlenet trains them"),
        ("vit_b_16", 28, "patches of 16 pixels, which do not tile 28x28: .*resize.size=32"),
        ("vgg11", 8, "vgg11 does not take images of 1x8x8 .*resize.size=224"),
    ],
)
def test_torchvisions_names_and_sizes_are_checked(name: str, side: int, why: str) -> None:
    config = {"in_channels": 1, "image_size": (side, side), "num_classes": 3}
    with torch.device("meta"), pytest.raises(ValueError, match=why):
        TorchvisionClassifier(**config, name=name)


def test_a_size_that_a_network_refuses_is_a_problem_of_the_configuration(dltrain) -> None:
    outcome = dltrain("check", "model=inception_v3", "dataset=digits")
    assert outcome.code == 2
    assert "at least 14 pixels per side, not 8x8" in outcome.err
    assert "preprocessing.resize.size=14" in outcome.err


def test_a_small_residual_network_follows_its_settings() -> None:
    def maps(*overrides: str) -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []
        model = imagined("resnet_small", 32, *overrides)
        for block in list(model.children())[:-3]:
            block.register_forward_hook(lambda _m, _x, y: seen.append(tuple(y.shape[1:])))
        model(torch.empty(2, 1, 32, 32, device="meta"))
        return seen

    stages = [*[(112, 8, 8)] * 2, *[(128, 4, 4)] * 2]
    assert maps() == [(16, 32, 32), (48, 16, 16), *stages]
    assert maps("model.stem_halving=stride") == [(16, 32, 32), (48, 16, 16), *stages]
    changed = maps(
        "model.stem_channels=[4,5]", "model.stem_halving=none", "model.widths=[9]", "model.blocks=2"
    )
    assert changed == [(4, 32, 32), (5, 32, 32), *[(9, 16, 16)] * 3]
    with pytest.raises(ConfigError, match=r"model.widths is empty"):
        imagined("resnet_small", 32, "model.widths=[]")
    with pytest.raises(ConfigError, match=r"resnet_small .* at least 8 pixels per side, not 7x7"):
        imagined("resnet_small", 7)


def test_classes_name_their_arguments_alike() -> None:
    """The data passes its arguments to every network under the same names."""
    for target in (AlexNet, VGG, GoogLeNet, InceptionV3, ResNet, DenseNet):
        config: dict[str, Any] = {"in_channels": 2, "image_size": (40, 48), "num_classes": 3}
        with torch.device("meta"):
            assert target(**config).eval()(torch.empty(1, 2, 40, 48, device="meta")).shape == (1, 3)
    assert compose(["model=resnet18"]).config["model"].keys() == {"_target_", *keys("resnet18")} - {
        "defaults"
    }
