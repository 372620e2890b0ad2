"""Options of the user's own (--config-dir) are known wherever options are named."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.config.groups import config_dir, groups, summary
from dltrain.config.policy import locate
from dltrain.errors import UsageError

PLUGIN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_features: int, num_classes: int, width: int = 8) -> None:
        super().__init__(nn.Flatten(), nn.Linear(in_features, width), nn.Linear(width, num_classes))
"""
SMOKE = ("debug=smoke", "callbacks=quiet", "plugins=[own_net]")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of options, and the module that they name."""
    write("own/model/mine.yaml", "# My network\n_target_: own_net.Net\nwidth: 16\n")
    write(
        "own/experiment/first.yaml",
        "# @package _global_\n# Mine on digits\n"
        "defaults:\n  - override /model: mine\nmodel:\n  width: 4\n",
    )
    write("own_net.py", PLUGIN)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path / "own"
    sys.modules.pop("own_net", None)


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


def test_outside_it_there_are_no_options_of_ones_own() -> None:
    before = groups()
    with config_dir("own"):
        assert groups()["model"] == sorted([*before["model"], "mine"])
        assert summary("model", "mine") == "My network"
    assert groups() == before
    with config_dir(None):
        assert groups() == before


def test_list_and_show_know_them(dltrain, own: Path) -> None:
    assert (
        dltrain("list", "model", "--config-dir", "own", "--json").json["model"]["mine"]
        == "My network"
    )
    assert "mine" in dltrain("--config-dir=own", "--help").out
    shown = dltrain("show", "model/mine", "--config-dir", "own", "plugins=[own_net]")
    assert shown.code == 0, shown.err
    assert "width: 16" in shown.out
    assert "a whole number" in shown.out
    assert dltrain("show", "model/mine").code == 2


@pytest.mark.parametrize(
    ("words", "value", "origin"),
    [
        (["model=mine"], 16, "model/mine.yaml"),
        (["experiment=first"], 4, "experiment/first.yaml"),
        (["experiment=first", "model.width=5"], 5, "the command line: model.width=5"),
    ],
    ids=str,
)
def test_show_says_where_a_value_comes_from(
    words: list[str], value: int, origin: str, dltrain, own: Path
) -> None:
    outcome = dltrain(
        "show", "model.width", *words, "--config-dir", "own", "plugins=[own_net]", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["model.width"]["value"] == value
    expected = origin if "command line" in origin else str(own / origin)
    assert outcome.json["model.width"]["set_by"] == expected


def test_a_run_is_whole_without_the_folder(dltrain, own: Path) -> None:
    trained = dltrain("--config-dir", "own", "experiment=first", *SMOKE, "--json")
    assert trained.code == 0, trained.err
    manifest = json.loads((Path(trained.json["run"]) / "manifest.json").read_text())
    assert manifest["config"]["model"] == {"_target_": "own_net.Net", "width": 4}
    assert "--config-dir own" in manifest["command"]
    refused = dltrain("evaluate", "last-any")
    assert refused.code == 2
    assert "plugins=[own_net]" in refused.err
    own.rename(own.with_name("elsewhere"))
    assert dltrain("evaluate", "last-any", "plugins=[own_net]").code == 0
    assert (
        dltrain(
            "resume", "last-any", "plugins=[own_net]", "trainer.epochs=2", "trainer.stage_steps=4"
        ).code
        == 0
    )


def test_a_grid_and_check_choose_among_them(dltrain) -> None:
    grid = dltrain(
        "--config-dir", "own", "-m", "launcher=inline", "model=mine,mlp", *SMOKE, "--json"
    )
    assert grid.code == 0, grid.err
    assert [job["status"] for job in grid.json["jobs"]] == ["completed"] * 2
    checked = dltrain("check", "--config-dir", "own", "model=mine", "plugins=[own_net]")
    assert checked.code == 0, checked.err


def test_what_was_meant_may_be_ones_own(dltrain) -> None:
    assert "did you mean mine?" in dltrain("--config-dir", "own", "model=mnie").err
    assert "did you mean first?" in dltrain("--config-dir", "own", "experiment=frist").err
    message = dltrain("--config-dir", "own", "model=mine", "model.widht=3", "plugins=[own_net]").err
    assert "did you mean model.width?" in message


def test_an_option_of_theirs_may_extend_one_of_ours() -> None:
    write("own/model/wide.yaml", "# A wide MLP\ndefaults:\n  - mlp\nhidden_sizes: [1024]\n")
    with config_dir("own"):
        composed = compose(["model=wide"])
    assert problems_of(composed) == []
    assert composed.config["model"]["hidden_sizes"] == [1024]
    assert composed.config["model"]["_target_"] == "dltrain.models.mlp.MLP"


def test_a_composing_option_of_ones_own() -> None:
    write(
        "own/regularization/hard.yaml",
        "# Much\nhard:\n  _target_: dltrain.regularization.l2.L2\n  weight: 0.5\n",
    )
    with config_dir("own"):
        composed = compose(["regularization=[l1,hard]"])
    assert problems_of(composed) == []
    assert composed.config["regularization"]["hard"]["weight"] == 0.5


@pytest.mark.parametrize("folder", ["o'wn conf", "a,b=[c]", "{d} é"])
def test_its_name_may_be_any(folder: str, dltrain, own: Path) -> None:
    own.rename(own.with_name(folder))
    outcome = dltrain("check", f"--config-dir={folder}", "model=mine", "plugins=[own_net]")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        (
            {"own/model/cnn.yaml": ""},
            [],
            "own/model/cnn.yaml: dltrain has a model=cnn of its own; give yours another",
        ),
        (
            {"own/modle/x.yaml": ""},
            [],
            "own/modle/x.yaml: modle is not a group; did you mean own/model?",
        ),
        ({"own/quux/x.yaml": ""}, [], "quux is not a group; groups are callbacks, "),
        ({"own/model/bad.yaml": "a: ["}, ["model=bad"], "own/model/bad.yaml"),
        ({"own/model/bad.yaml": "- a"}, ["model=bad"], "bad"),
        ({"own/model/bad.yaml": "a: 1"}, ["model=bad"], "expected a choice with a _target_"),
        (
            {"own/model/bad.yaml": "defaults: [nope]\n"},
            ["model=bad"],
            "own/model/bad.yaml, line 1: model=nope: no such model",
        ),
        ({"own/model/deep/x.yaml": ""}, [], "own/model/deep/x.yaml would not be read"),
        (
            {"own/model/bad.yaml": "_target_: own_net.Net\nwidht: 3"},
            ["model=bad"],
            "did you mean model.width?",
        ),
        (
            {"own/experiment/bad.yaml": "seed: 3"},
            ["experiment=bad"],
            "own/experiment/bad.yaml: the first line must be",
        ),
        (
            {"own/experiment/bad.yaml": "defaults:\n  - override /model: mlp\n"},
            ["experiment=bad"],
            "must be # @package _global_",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_it_is_told(
    files: dict[str, str], words: list[str], message: str, dltrain
) -> None:
    for name, text in files.items():
        write(name, text)
    outcome = dltrain("--config-dir", "own", "plugins=[own_net]", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert "unexpected" not in outcome.err
    assert not Path("outputs").exists()


def test_a_folder_that_is_missing_or_holds_nothing(dltrain) -> None:
    assert "--config-dir nope: the folder does not exist" in dltrain("--config-dir", "nope").err
    Path("empty").mkdir()
    outcome = dltrain("list", "--config-dir", "empty")
    assert outcome.code == 2
    assert "options are empty/GROUP/NAME.yaml" in outcome.err
    assert "--config-dir needs a value" in dltrain("list", "--config-dir").err


def test_a_file_names_no_plugins(dltrain) -> None:
    """Otherwise a folder that somebody shares could run code."""
    write(
        "own/experiment/sly.yaml",
        "# @package _global_\nplugins: [own_net]\nmodel:\n  _target_: own_net.Net\n",
    )
    outcome = dltrain("check", "--config-dir", "own", "experiment=sly")
    assert outcome.code == 2
    assert 'type "plugins=[own_net]" yourself' in outcome.err
    assert "own_net" not in sys.modules


# plugins that are not what they should be


@pytest.mark.parametrize(
    ("files", "target", "message"),
    [
        ({}, "absent.Net", "no module absent is installed, and "),
        ({}, "own_net.Nett", "own_net.py) has no Nett; did you mean own_net.Net?"),
        (
            {"own_pack/__init__.py": ""},
            "own_pack.nets.Net",
            "own_pack/__init__.py) has no module nets",
        ),
        (
            {"own_pack/__init__.py": "", "own_pack/nets.py": ""},
            "own_pack.nets.Net",
            "own_pack/nets.py) has no Net",
        ),
        (
            {"own_bad.py": "x = 1\nimport absent_too\n"},
            "own_bad.Net",
            "No module named 'absent_too' (",
        ),
        ({"own_bad.py": "x = 1\n1 / 0\n"}, "own_bad.Net", "own_bad.py, line 2)"),
        (
            {"own_bad.py": "x = (\n"},
            "own_bad.Net",
            "SyntaxError: '(' was never closed (own_bad.py, line 1)",
        ),
    ],
    ids=str,
)
def test_a_wrong_path_says_what_is_missing(
    files: dict[str, str], target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        write(name, text)
    for name in ("own_pack", "own_pack.nets", "own_bad"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UsageError) as refused:
        locate(target, [target.partition(".")[0]])
    assert message in str(refused.value)
    for name in ("own_pack", "own_pack.nets", "own_bad"):
        sys.modules.pop(name, None)


def test_a_range_in_a_signature_of_ones_own_is_held(dltrain) -> None:
    """Ranges are those of the package annotated-types, which pydantic's types are made of."""
    own_range = PLUGIN.replace("width: int", "width: Annotated[int, annotated_types.Gt(0)]")
    imports = "from typing import Annotated\nimport annotated_types\n"
    write("own_net.py", imports + own_range)
    words = ("--config-dir", "own", "model=mine", "plugins=[own_net]")
    outcome = dltrain("check", *words, "model.width=-5")
    assert outcome.code == 2
    assert "model.width=-5  expected a whole number > 0, got -5" in outcome.err
    assert "a whole number > 0" in dltrain("show", "model.width", *words).out


def test_an_annotation_that_cannot_be_read_is_told(dltrain) -> None:
    write(
        "own_net.py",
        "from __future__ import annotations\n" + PLUGIN.replace("width: int", "width: Missing"),
    )
    outcome = dltrain("check", "--config-dir", "own", "model=mine", "plugins=[own_net]")
    assert outcome.code == 2
    assert "own_net.Net: an annotation cannot be read: name 'Missing' is not defined" in outcome.err
