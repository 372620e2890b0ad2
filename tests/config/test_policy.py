"""A configuration builds only what the user named, judged by its kind; a saved run is data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from torch import nn

from dltrain.config.policy import locate
from dltrain.errors import UsageError
from dltrain.runs.folder import CONFIG

PLUGIN = """
from pathlib import Path
Path("imported").touch()
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_features: int, num_classes: int) -> None:
        Path("built").touch()
        super().__init__(nn.Flatten(), nn.Linear(in_features, num_classes))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that leaves a file behind when it is imported."""
    home = tmp_path / "site" / "hostile_plugin"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(home.parent)
    monkeypatch.delitem(sys.modules, "hostile_plugin", raising=False)
    return "hostile_plugin"


@pytest.fixture
def run(tmp_path: Path, dltrain) -> Path:
    """A finished run to tamper with."""
    outcome = dltrain("model=mlp", "debug=smoke", "callbacks=quiet", "--json")
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


def tamper(run: Path, **changes: Any) -> None:
    """Replace keys, given as group__name, in a run's saved configuration."""
    saved = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    for key, value in changes.items():
        node = saved
        *parents, name = key.split("__")
        for parent in parents:
            node = node[parent]
        node[name] = value
    (run / CONFIG).write_text(yaml.safe_dump(saved), encoding="utf-8")


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.ReLU",
        "torch.optim.Adam",
        "torch.optim.lr_scheduler.StepLR",
        "torchvision.transforms.v2.RandomCrop",
        "torchvision.models.resnet.ResNet",
        "dltrain.models.images.cnn.CNN",
        "dltrain.optimizers.sgd.sgd",
        "dltrain.data.images.in_memory.InMemory",
        "dltrain.config.settings.Trainer",
    ],
)
def test_allowed_targets(target: str) -> None:
    assert locate(target).__name__ == target.rpartition(".")[2]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("os.system", "not imported"),
        ("builtins.eval", "not imported"),
        ("subprocess.Popen", "not imported"),
        ("dltrainer.models.CNN", "not imported"),
        ("torch.load", "targets from torch must be in torch.nn, torch.optim"),
        ("torch.nn.modules.module.torch.load", "torch.nn.modules.module.torch is the module torch"),
        ("torch.hub.load", "targets from torch must be in torch.nn, torch.optim"),
        ("torch.os.system", "targets from torch must be in torch.nn, torch.optim"),
        ("torch.utils.cpp_extension.load", "targets from torch must be in torch.nn, torch.optim"),
        ("torch.nn.functional.relu", "the function torch.nn.functional.relu"),
        ("torch.nn.Parameter", "the class torch.nn.parameter.Parameter"),
        ("torch.nn", "the module torch.nn"),
        ("torchvision", "targets from torchvision must be in torchvision.models, "),
        ("torch.utils.data.DataLoader", "targets from torch must be in torch.nn, torch.optim"),
        ("torchvision.datasets.FakeData", "targets from torchvision must be in"),
        ("torchvision.transforms.v2.Lambda", "the class torchvision.transforms.v2._misc.Lambda"),
        ("torchvision.models.resnet18", "the function torchvision.models.resnet.resnet18"),
        ("torch.nn.parallel.DistributedDataParallel", "the class torch.nn.parallel."),
        (
            "dltrain.runs.initial_files.subprocess.run",
            "targets from dltrain must be in dltrain.losses, ",
        ),
        (
            "dltrain.runs.initial_files.subprocess",
            "targets from dltrain must be in dltrain.losses, ",
        ),
        ("dltrain.data.images.mnist.np", "the module numpy"),
        ("dltrain.cli.os.system", "targets from dltrain must be in dltrain.losses, "),
        (
            "dltrain.data.images.mnist.torch.load",
            "dltrain.data.images.mnist.torch is the module torch",
        ),
        ("dltrain.data.io.download.fetch", "the function dltrain.data.io.download.fetch"),
        ("dltrain.data.io.archive.unpack", "the function dltrain.data.io.archive.unpack"),
        ("dltrain.cli.main", "targets from dltrain must be in dltrain.losses, "),
        ("dltrain.models.images.cnn.CNN.forward", "dltrain.models.images.cnn.CNN is the class"),
        ("dltrain.runs.folder.RunFolder", "targets from dltrain must be in dltrain.losses, "),
        ("dltrain.model.cnn.CNN", "did you mean dltrain.models.images.cnn.CNN?"),
        ("dltrain.models.images.cnn.CNN.__init__", "public name"),
        ("torch._C._jit_init", "public name"),
        ("dltrain.commands.train.__builtins__.eval", "public name"),
        ("dltrain.models.images.cnn.", "public name"),
        ("torch.nn.ReLU()", "public name"),
        (
            "dltrain.models.images.cnn.CNNN",
            "has no CNNN; did you mean dltrain.models.images.cnn.CNN?",
        ),
        ("dltrain.models.nope.Nope", "dltrain.models has no module nope"),
        ("torch.nn.Relu", "torch.nn has no Relu; did you mean torch.nn.ReLU?"),
        ("dltrain.config.policy.PACKAGES", "may not be built"),
        ("__main__.Net", "plugins=[__main__]"),
        ("__builtins__.eval", "is not imported"),
        ("torch.__main__.Net", "public name"),
    ],
)
def test_other_targets_are_refused_with_a_reason(target: str, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        locate(target)
    message = str(refused.value)
    assert message.startswith(target)
    assert reason in message
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "name", ["os", "subprocess", "builtins", "dltrain", "torch", "torchvision"]
)
def test_python_and_torch_cannot_be_plugins(name: str) -> None:
    """Naming them lets nothing through that does not pass without."""
    target = {
        "dltrain": "dltrain.cli.main",
        "torch": "torch.load",
        "torchvision": "torchvision.io.write_file",
    }.get(name)
    with pytest.raises(UsageError):
        locate(target or f"{name}.system", [name])


def test_a_package_that_was_not_named_is_refused_unimported(plugin: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"not imported.*plugins=\[{plugin}\]"):
        locate(f"{plugin}.Net")
    assert plugin not in sys.modules
    assert not (tmp_path / "imported").exists()


def test_a_named_package_is_imported_and_its_own_definitions_pass(
    plugin: str, tmp_path: Path
) -> None:
    assert locate(f"{plugin}.Net", [plugin]).__module__ == plugin
    assert (tmp_path / "imported").exists()


def test_an_alias_in_a_plugin_does_not_allow_what_it_imports(plugin: str) -> None:
    assert (
        locate(f"{plugin}.nn.ReLU", [plugin]).__name__ == "ReLU"
    )  # a torch layer by another name is what it is
    with pytest.raises(UsageError, match="the class pathlib"):
        locate(f"{plugin}.Path", [plugin])
    with pytest.raises(UsageError, match=r"the module torch\.nn"):
        locate(f"{plugin}.nn", [plugin])


def test_a_plugin_is_built_only_when_the_command_line_names_it(
    plugin: str, tmp_path: Path, dltrain
) -> None:
    own = ("model=perceptron", f"model._target_={plugin}.Net")
    refused = dltrain("check", *own)
    assert refused.code == 2
    assert f"plugins=[{plugin}]" in refused.err
    assert not (tmp_path / "imported").exists()
    built = dltrain("check", *own, f"plugins=[{plugin}]")
    assert built.code == 0, built.err
    assert (tmp_path / "built").exists()


@pytest.mark.parametrize("verb", ["evaluate", "resume"])
@pytest.mark.parametrize(
    "how", ["target", "target and plugins", "nested", "callback", "own function", "interpolated"]
)
def test_a_saved_configuration_is_data(
    verb: str, how: str, plugin: str, run: Path, tmp_path: Path, dltrain
) -> None:
    hostile = {"_target_": f"{plugin}.Net"}
    changes: dict[str, Any] = {
        "target": {"model": hostile},
        "target and plugins": {"model": hostile, "plugins": [plugin]},
        "nested": {"dataset__source": hostile, "plugins": [plugin]},
        "callback": {"callbacks__x": hostile, "plugins": [plugin]},
        "own function": {
            "loss": {
                "_target_": "dltrain.data.io.download.fetch",
                "mirrors": ["http://localhost:9/"],
                "files": {"x": "0"},
                "folder": str(tmp_path / "stolen"),
            }
        },
        "interpolated": {
            "model__activation": "${plugins.0}",
            "model___target_": "${plugins.0}",
            "plugins": [f"{plugin}.Net"],
        },
    }[how]
    tamper(run, **changes)
    before = (run / CONFIG).read_bytes()
    outcome = dltrain(verb, str(run), *(["trainer.steps=4"] if verb == "resume" else []))
    assert outcome.code == 2, outcome.err
    assert "problem" in outcome.err
    assert not (tmp_path / "imported").exists()
    assert not (tmp_path / "stolen").exists()
    assert (run / CONFIG).read_bytes() == before


def test_a_saved_configuration_builds_a_plugin_that_is_named_again(
    plugin: str, run: Path, tmp_path: Path, dltrain
) -> None:
    tamper(run, model={"_target_": f"{plugin}.Net"}, plugins=[plugin])
    outcome = dltrain("evaluate", str(run), f"plugins=[{plugin}]")
    assert (tmp_path / "built").exists(), outcome.err


@pytest.mark.parametrize(
    "missing", ["paths", "seed", "model", "callbacks", "regularization", "expect", "debug"]
)
def test_a_saved_configuration_without_a_key_is_completed_or_refused(
    missing: str, run: Path, dltrain
) -> None:
    saved = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    del saved[missing]
    (run / CONFIG).write_text(yaml.safe_dump(saved), encoding="utf-8")
    outcome = (
        dltrain("evaluate", str(run), "debug=null")
        if missing == "debug"
        else dltrain("evaluate", str(run))
    )
    assert outcome.code in (0, 2), outcome.err
    assert "unexpected" not in outcome.err


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "model: [", ""])
def test_a_malformed_saved_configuration_is_an_input_error(text: str, run: Path, dltrain) -> None:
    (run / CONFIG).write_text(text, encoding="utf-8")
    outcome = dltrain("evaluate", str(run))
    assert outcome.code == 3
    assert str(run / CONFIG) in outcome.err


def test_the_manifest_of_a_run_is_json_that_holds_no_plugin_unless_one_was_named(run: Path) -> None:
    assert (
        json.loads((run / "manifest.json").read_text(encoding="utf-8"))["config"]["plugins"] == []
    )


def test_the_program_itself_is_a_plugin_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of a script or of a notebook's cells; what it imports stays refused."""
    program = ModuleType("__main__")
    own_class = type("Net", (nn.Module,), {"__module__": "__main__"})
    program.Net = own_class  # type: ignore[attr-defined]
    program.subprocess = subprocess  # type: ignore[attr-defined]
    program.run = subprocess.run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", program)
    assert locate("__main__.Net", ["__main__"]) is own_class
    for target in ("__main__.subprocess.run", "__main__.run", "__main__.__loader__"):
        with pytest.raises(UsageError):
            locate(target, ["__main__"])
