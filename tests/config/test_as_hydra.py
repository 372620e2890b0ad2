"""Overrides mean what they mean in Hydra: its own code is the reference, over several hundred
random draws.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra_reference import by_hydra
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dltrain.config.compose import _complete, compose
from dltrain.config.grid import expand
from dltrain.config.overrides import parse

DRAWS = 250
GRIDS = 100
OVERRIDES_A_DRAW = 4
REFUSED_HERE = (
    "no such key",
    "a run needs this group",
    "needs this key",
    "cannot be resolved",
    "cannot be read",
    "is a sweep",
)
# Values of each key's own type: a key that takes text keeps numbers as they were typed.
KEYS = {
    "seed": ["1", "1_000", "'5'", "${dataset.split_seed}", "", "null", "1.5", "true"],
    "name": [
        "a",
        "'a b'",
        '"it\'s"',
        r"a\,b",
        r"\[x\]",
        r"x\ y",
        r"\\",
        "a:b c",
        "${seed}",
        r"'\${seed}'",
        "null",
        "",
    ],
    "paths.output": [
        "runs",
        "a/b-c",
        "'x, y'",
        "'${paths.data}/x'",
        r"a\=b",
        "$HOME",
        "'it\\'s'",
        "[a,b]",
        "é/à",
        "a@b",
    ],
    "optimizer.lr": ["0.5", "1e-3", ".5", "-1", "inf", "${optimizer.beta1}", "null", "{a: 1}"],
    "model.channels": ["[1,2]", "[[1,2],3]", "[]", "[ 8 , 16 ]", "['8']", "[${seed},2]", "8"],
    "model.activation": ["gelu", "'gelu'", r"g\ e", "gelu "],
    "model.num_classes": ["3", "[1]"],
    "freeze": ["[a,b]", "['a (1)','b']", "[]", "['it\\'s', \"x\"]", r"[a\,b]", "[{a: 1}]", "a"],
    "expect": ["{}", "{x: '>=0.5'}", "{x: '>1', y: z}", "{a: [1,{b: c}]}"],
    "lr_factors": ["{a: 0.1}", "{a.b: 1}", "{}"],
    "trainer.steps": ["5", "null", "${seed}"],
    "trainer.epochs": ["5", "${dataset.epochs}", "null"],
    "trainer": ["{steps: 3}", "{steps: 3, epochs: null}"],
    "dataset.source": [
        "{}",
        "null",
        "{_target_: dltrain.data.tabular.bundled.Bundled, name: digits}",
    ],
    "dataset.nothing": ["1"],
    "callbacks.progress": ["null", "{refresh: 1}"],
}


@pytest.fixture(scope="module")
def base() -> Any:
    """The configuration that Hydra composes where nothing is typed."""
    return by_hydra([])[0]


def hydra_values(base: Any, overrides: list[str]) -> dict[str, Any] | None:
    """Return what Hydra makes of values; None where it refuses.

    All are typed with ++, which dltrain needs for no key.
    """
    config = OmegaConf.create(OmegaConf.to_container(base))
    OmegaConf.set_struct(config, True)
    try:
        parsed = OverridesParser.create().parse_overrides(
            [o if o[0] == "~" else f"++{o.lstrip('+')}" for o in overrides]
        )
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
        found: Any = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException):
        return None
    return _complete(found)


def draw_values(draw: random.Random) -> list[str]:
    typed = []
    for _ in range(draw.randint(1, OVERRIDES_A_DRAW)):
        key = draw.choice(list(KEYS))
        prefix = draw.choice(["", "", "", "+", "++", "~"])
        value = draw.choice(KEYS[key])
        typed.append(
            f"~{key}" if prefix == "~" and draw.random() < 0.7 else f"{prefix}{key}={value}"
        )
    return typed


def test_values_are_set_as_hydra_sets_them(base: Any) -> None:
    """Configurations are equal where both take the overrides; what only one takes is of a known
    kind.
    """
    draw = random.Random(0)
    equal = 0
    for _ in range(DRAWS):
        typed = draw_values(draw)
        ours, theirs = compose(typed), hydra_values(base, typed)
        problems = [why for _, why in ours.problems]
        if not problems and theirs is not None:
            assert ours.config == theirs, typed
            equal += 1
        elif theirs is not None:
            assert any(known in why for why in problems for known in REFUSED_HERE), (
                typed,
                problems,
            )
        elif (
            not problems
        ):  # what is null is there for dltrain, but nothing that Hydra could take out
            assert any(o.startswith("~") or "é" in o for o in typed), typed
    assert equal > DRAWS / 3


GROUP_DRAWS = [
    ["regularization=[clip,l2]", "+preprocessing=[flip]", "optimizer='sgd'"],
    ["experiment=cnn_mnist", "~experiment", "model=[mlp]"],
    ["~debug", "debug=smoke", "schedule=step"],
    ["debug=smoke", "~debug=smoke"],
    ["regularization=clip", "~regularization=clip"],
    ["experiment=cnn_mnist", "~experiment=cnn_mnist", "regularization=[l2]", "regularization=[l1]"],
]
GROUPS_REFUSED = [
    ["~regularization=clip"],
    ["~regularization=[clip]"],
    ["~regularization"],
    ["~optimizer=sgd"],
    ["~debug=smoke"],
    ["debug=smoke", "~debug=overfit"],
    ["~optimizer={lr: 1}"],
    ["optimizer="],
]


@pytest.mark.parametrize("typed", GROUP_DRAWS, ids=str)
def test_choices_are_taken_and_taken_out_as_in_hydra(typed: list[str]) -> None:
    theirs: Any = OmegaConf.to_container(
        by_hydra([override.lstrip("+") for override in typed])[0], resolve=True
    )
    ours = compose(typed)
    assert ours.problems == []
    assert ours.config == _complete(theirs)


@pytest.mark.parametrize("typed", GROUPS_REFUSED, ids=str)
def test_a_choice_that_cannot_be_taken_out_is_refused_as_in_hydra(typed: list[str]) -> None:
    """~regularization=clip and ~optimizer=sgd choose nothing."""
    with pytest.raises((HydraException, ValueError)):
        by_hydra(typed)
    ours = compose(typed)
    assert len(ours.problems) == 1
    assert ours.config["regularization"] == {}
    assert ours.config["optimizer"]["_target_"].endswith("adam")


def test_one_of_several_choices_is_taken_out() -> None:
    composed = compose(["regularization=[clip,l2]", "~regularization=clip"])
    assert composed.problems == []
    assert list(composed.config["regularization"]) == ["l2"]


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("~seed", "its default is seed=0"),
        ("~lr_factors", '"~lr_factors.NAME" takes one entry out'),
        ("~paths", "every run needs this key"),
        ("~paths.data", "every run needs this key"),
        ("~init.from", "its default is init.from=null"),
        ("~freeze", 'its default is "freeze=[]"'),
        ("~dataset.source", "dataset needs this key"),
        ("~optimizer.lr=0.5", "optimizer.lr is 0.001, not 0.5"),
        ("~optimizer.lr=", "optimizer.lr is 0.001, not "),
    ],
)
def test_a_key_that_has_to_be_there_is_not_taken_out(typed: str, why: str) -> None:
    composed = compose([typed])
    assert [what for what, _ in composed.problems] == [typed]
    assert why in composed.problems[0][1]


# sweeps


SWEPT = {
    "seed": ["1,2", "range(3)", "choice(4,5)", "7", "1,1"],
    "name": [
        r"a\,b,c",
        "'a b',c",
        r"x\[0\],y",
        '"it\'s",b',
        r"a\=b,c\ d",
        "${seed},b",
        "null,a",
        "a",
    ],
    "optimizer.lr": ["1e-3,0.5", "range(0.1,0.4,0.1)", "0.1"],
    "model.channels": ["[1,2],[3]", "[[1],2],[]", "[4]"],
    "model.activation": ["relu,gelu", "sort(tanh,gelu)", "relu"],
    "dataset": ["digits,wine", "digits"],
    "expect": [r"{a: b\,c},{}", "{a: 1}"],
}


def as_values(jobs: list[list[str]]) -> list[dict[str, Any]]:
    parser = OverridesParser.create()
    return [{o.key_or_group: o.value() for o in parser.parse_overrides(job)} for job in jobs]


def test_a_grid_is_that_of_hydra() -> None:
    """-m 'name=a\\,b,c' is two runs, and of a key that is swept twice the last one counts."""
    draw = random.Random(1)
    for _ in range(GRIDS):
        keys = draw.sample(list(SWEPT), draw.randint(1, 3))
        typed = [f"{key}={draw.choice(SWEPT[key])}" for key in keys]
        theirs = BasicSweeper.split_arguments(
            OverridesParser.create().parse_overrides(typed), None
        )[0]
        assert as_values(expand(typed)) == as_values(theirs), typed


def test_escapes_survive_in_a_grid() -> None:
    assert [parse(job)[0][0].value() for job in expand([r"name=a\,b,c"])] == ["a,b", "c"]
    assert [parse(job)[0][0].value() for job in expand([r"name=x\[0\],y"])] == ["x[0]", "y"]


def test_a_key_that_is_swept_twice_is_swept_once() -> None:
    assert expand(["seed=1,2", "seed=3,4"]) == [["seed=3"], ["seed=4"]]
    assert expand(["seed=1,2", "++seed=3"]) == [["++seed=3"]]
