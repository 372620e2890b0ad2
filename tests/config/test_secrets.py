"""Values from the environment are used, but written only as they were typed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from dltrain.config.check import problems_of
from dltrain.config.compose import compose, compose_over
from dltrain.config.groups import config_dir

SECRET = "hunter2"
TYPED = "${oc.env:THE_SECRET}"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)


def at(config: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize(
    ("overrides", "key", "typed"),
    [
        ([f"name={TYPED}"], "name", TYPED),
        ([f"name='a {TYPED} b'"], "name", f"a {TYPED} b"),
        (["name=${oc.env:THE_SECRET,other}"], "name", "${oc.env:THE_SECRET,other}"),
        (["name='${oc.decode:${oc.env:THE_SECRET}}'"], "name", "${oc.decode:${oc.env:THE_SECRET}}"),
        (["init.from=${name}", f"name={TYPED}"], "init.from", "${name}"),
        (
            ["init.from=${paths.output}", "paths.output=${name}", f"name={TYPED}"],
            "init.from",
            "${paths.output}",
        ),
        ([f"paths.data={TYPED}/x"], "paths.data", f"{TYPED}/x"),
        ([f"expect={{a: '>={TYPED}'}}"], "expect.a", f">={TYPED}"),
        ([f"plugins=[x, '{TYPED}']"], "plugins", ["x", TYPED]),
        ([f"optimizer.lr={{a: [{{b: '{TYPED}'}}]}}"], "optimizer.lr", {"a": [{"b": TYPED}]}),
        ([f"expect={{a: '{TYPED}'}}", "paths='${expect}'"], "paths", "${expect}"),
    ],
    ids=str,
)
def test_a_value_of_the_environment_stands_in_public_as_it_was_typed(
    overrides: list[str], key: str, typed: Any
) -> None:
    composed = compose(overrides)
    assert SECRET in str(at(composed.config, key))
    assert at(composed.public, key) == typed
    assert SECRET not in str(composed.public)
    assert SECRET not in str(problems_of(composed))


def test_nothing_else_differs() -> None:
    composed = compose([f"name={TYPED}", "seed=${dataset.split_seed}", "model=mlp"])
    public = copy.deepcopy(composed.public)
    assert public["seed"] == 0
    public["name"] = SECRET
    assert public == composed.config
    assert compose([]).public == compose([]).config


def test_dltrains_own_variables_are_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLTRAIN_DATA", "the/data")
    composed = compose([])
    assert composed.public["paths"]["data"] == composed.config["paths"]["data"] == "the/data"


def test_a_file_of_the_users_is_taken_alike() -> None:
    Path("own/experiment").mkdir(parents=True)
    Path("own/experiment/mine.yaml").write_text(
        f"# @package _global_\nname: {TYPED}\ninit:\n  from: ${{name}}\n"
    )
    with config_dir("own"):
        composed = compose(["experiment=mine"])
    assert composed.config["name"] == composed.config["init"]["from"] == SECRET
    assert composed.public["name"] == TYPED
    assert composed.public["init"]["from"] == "${name}"


def test_what_was_written_reads_the_variable_again(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = compose([f"name={TYPED}"]).public
    monkeypatch.setenv("THE_SECRET", "another")
    again = compose_over(saved, [])
    assert again.config["name"] == "another"
    assert again.public == saved
    monkeypatch.delenv("THE_SECRET")
    assert "'THE_SECRET' not found" in str(compose_over(saved, []).problems)


@pytest.mark.parametrize(
    "override", [f"seed={TYPED}", f"model.channels=['{TYPED}']", f"trainer={{epochs: '{TYPED}'}}"]
)
def test_a_problem_with_it_does_not_tell_it(override: str) -> None:
    found = problems_of(compose([override]))
    assert len(found) == 1
    assert SECRET not in str(found)
    assert "the text in the environment is not" in found[0][1]
