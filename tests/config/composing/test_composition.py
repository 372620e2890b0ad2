"""Files of conf/ and of a user's folder are composed as by Hydra; other grammar is refused."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from hydra_reference import folders_by_hydra
from omegaconf.errors import OmegaConfBaseException

from dltrain.config import groups as groups_module
from dltrain.config.composing import composition
from dltrain.config.composing.composition import compose_files
from dltrain.config.composing.defaults import Choice, package_header, parse_defaults
from dltrain.config.groups import config_dir
from dltrain.errors import UsageError

DRAWS = 300
GROUPS = ("loss", "model", "dataset", "experiment")
OURS = ("one", "two")
OWN = ("three", "four")
REFUSED_HERE = ("is chosen already", "overrides stand at the end", "must be # @package")


class Drawn:
    """A random conf folder and a random folder of a user's, of a few short files (JSON is YAML)."""

    def __init__(self, draw: random.Random, folder: Path) -> None:
        self.draw = draw
        self.conf = folder / "conf"
        self.own = folder / "own"
        order = draw.sample(GROUPS[:3], 3)
        defaults: list[Any] = [
            {group: draw.choice(["one", "two", ["one"], None])} for group in order
        ]
        defaults.insert(draw.randint(0, 3), "_self_")
        defaults.append({"experiment": None})
        self.write(self.conf / "config.yaml", {"defaults": defaults, "top": 1, "loss": {"a": 0}})
        for group in GROUPS:
            for name in OURS:
                self.write(self.conf / group / f"{name}.yaml", self.content(group), header(group))
            for name in OWN:
                node = {"defaults": self.defaults(group, name), **self.content(group)}
                package = draw.choice([None, None, None, "_global_", "model.inner"])
                own_header = header(group) or (f"# @package {package}\n" if package else "")
                self.write(self.own / group / f"{name}.yaml", node, own_header)

    def write(self, path: Path, node: dict[str, Any], first_line: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(first_line + json.dumps(node), encoding="utf-8")

    def content(self, group: str) -> dict[str, Any]:
        keys = {"a": 1, "b": [1, 2], "c": {"d": 1, "e": None}, "source": {"f": 2}, "g": "${top}"}
        drawn = self.draw.sample(list(keys), self.draw.randint(0, 3))
        node = {key: self.draw.choice([keys[key], self.draw.randint(0, 9)]) for key in drawn}
        node = {key: keys[key] if isinstance(keys[key], dict) else node[key] for key in drawn}
        return {self.draw.choice(GROUPS[:3]): node} if group == "experiment" else node

    def defaults(self, group: str, name: str) -> list[Any]:
        """Return entries of every kind, those that override at the end."""
        draw = self.draw
        entries = [self.entry(group, name) for _ in range(draw.randint(0, 2))]
        if draw.random() < 0.3:
            entries.insert(draw.randint(0, len(entries)), "_self_")
        overrides = [self.override() for _ in range(draw.choice([0, 0, 1, 2]))]
        return entries + overrides

    def entry(self, group: str, name: str) -> Any:
        draw = self.draw
        other = draw.choice([option for option in (*OURS, *OWN) if option != name])
        option: Any = draw.choice(["one", "two", "three", ["one", "two"], None])
        target = draw.choice(GROUPS[:3])
        package = draw.choice(["@x", "@x.y", "@_here_", "@_global_.top2", "@_group_.z", ""])
        kinds = [
            other,
            f"{other}@x",
            f"/{target}/one",
            {f"/{target}{package}": option},
            {f"optional /{target}@o": draw.choice(["one", "absent"])},
        ]
        return draw.choice(kinds)

    def override(self) -> Any:
        group = self.draw.choice(GROUPS[:3])
        where = self.draw.choice(["", f"@_global_.{group}", f"@_global_.{group}"])
        return {f"override /{group}{where}": self.draw.choice([*OURS, *OWN, ["one", "two"]])}

    def typed(self) -> dict[str, Choice]:
        groups = self.draw.sample(GROUPS, self.draw.randint(1, 3))
        choices: list[Choice] = ["one", "two", "three", "four", ["one", "three"]]
        return {group: self.draw.choice(choices) for group in groups}


def header(group: str) -> str:
    return "# @package _global_\n" if group == "experiment" else ""


def as_override(group: str, choice: Choice) -> str:
    return f"{group}=[{','.join(choice)}]" if isinstance(choice, list) else f"{group}={choice}"


@pytest.fixture
def of_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Take a folder of the test's in place of conf/."""

    def use(conf: Path) -> None:
        monkeypatch.setattr(groups_module, "conf_dir", lambda: conf)
        monkeypatch.setattr(composition, "conf_dir", lambda: conf)
        groups_module._our_options.cache_clear()

    yield use
    groups_module._our_options.cache_clear()


def ours(own: Path, typed: dict[str, Choice]) -> tuple[Any, Any] | str:
    """Return what is composed, or why it is refused."""
    try:
        with config_dir(str(own)):
            config, choices = compose_files(typed)
    except UsageError as e:
        return str(e)
    return config, {key: value for key, value in choices.items() if not isinstance(value, list)}


def hydras(drawn: Drawn, typed: dict[str, Choice]) -> tuple[Any, Any] | str:
    overrides = [as_override(group, choice) for group, choice in typed.items()]
    try:
        return folders_by_hydra([drawn.conf, drawn.own], overrides)
    except (HydraException, OmegaConfBaseException, RecursionError) as e:
        return f"{type(e).__name__}: {e}"


def test_random_folders_are_composed_as_by_hydra(tmp_path: Path, of_folder: Any) -> None:
    """Both refuse, or both compose the same, but for a few mistakes that only dltrain refuses."""
    draw = random.Random(0)
    equal = 0
    for number in range(DRAWS):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        drawn = Drawn(draw, folder)
        of_folder(drawn.conf)
        typed = drawn.typed()
        here, there = ours(drawn.own, typed), hydras(drawn, typed)
        if isinstance(here, str):
            known = isinstance(there, str) or any(why in here for why in REFUSED_HERE)
            assert known, (number, typed, here, there)
        else:
            assert here == there, (number, typed)
            assert list(here[0]) == list(there[0]), (number, typed)
            equal += 1
        shutil.rmtree(folder)
    assert equal > DRAWS / 4


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("3", "expected NAME, GROUP: NAME or override GROUP: NAME, got 3"),
        ("{/loss: mse, /model: mlp}", "expected NAME"),
        ("../loss/mse", "'../loss/mse' is not the name of an option"),
        ("/los/mse", "los is not a group; groups are "),
        ("/loss/../mse", "loss/.. is not a group"),
        ("${loss}", "'${loss}' is not the name of an option"),
        ("mlp@a:b", "'a:b' is not a package"),
        ("/loss: [mse, a/b]", "'a/b' is not the name of an option"),
        ("loss: mse", "write /loss: loss alone is a group in this folder"),
        ("overide /loss: mse", "overide is not a keyword: override, optional"),
        ("/hydra/launcher: basic", "hydra/launcher is Hydra's own"),
        ("override /loss: mse", "nothing chooses loss@model.loss; did you mean override /loss@"),
        ("override /dataset@_global_.dataset: mnist", "model chooses dataset too late"),
        ("/loss@_global_.loss: mse", "loss is chosen already: write override before it"),
        ("/loss@inner: mes", "loss=mes: no such loss; did you mean m"),
        ("_self_", "_self_ stands here for the second time"),
        ("mlp", "overrides stand at the end of the list"),
    ],
)
def test_what_cannot_be_composed_is_refused_with_file_and_line(
    entry: str, why: str, tmp_path: Path
) -> None:
    first = "override /task@_global_.task: regression" if entry == "mlp" else "_self_"
    file = tmp_path / "model" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(f"# Mine\ndefaults:\n  - {first}\n  - {entry}\na: 1\n")
    with pytest.raises(UsageError) as refused, config_dir(str(tmp_path)):
        compose_files({"model": "mine"})
    assert str(refused.value).startswith(f"{file}, line 4: ")
    assert why in str(refused.value)


def test_a_file_that_chooses_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("# Mine\ndefaults: [mine]\n")
    with config_dir(str(tmp_path)), pytest.raises(UsageError, match=r"mine\.yaml chooses itself"):
        compose_files({"model": "mine"})


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("# @package _global_\na: 1", "_global_"),
        ("\ufeff\n# @package a.b\n", "a.b"),
        ("#@package a\n", "a"),
        ("# @schema x\n# @package a\n", "a"),
        ("# Words\n# @package a\n", None),
        ("a: 1\n", None),
        ("", None),
    ],
)
def test_the_package_stands_at_the_top_of_a_file(text: str, package: str | None) -> None:
    assert package_header(text) == package


def test_the_own_keys_come_last_unless_the_list_says_where() -> None:
    entries = parse_defaults(Path("model/mine.yaml"), ["mlp"], ["model"])
    assert [entry.is_self for entry in entries] == [False, True]
    entries = parse_defaults(Path("model/mine.yaml"), ["_self_", "mlp"], ["model"])
    assert [entry.is_self for entry in entries] == [True, False]


def test_a_broken_interpolation_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("# Mine\na: ${\n")
    with config_dir(str(tmp_path)), pytest.raises(UsageError, match=r"mine\.yaml cannot be read"):
        compose_files({"model": "mine"})
