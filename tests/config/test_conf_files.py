"""Every option in conf/ composes as in Hydra, binds to its target and has a description."""

from __future__ import annotations

import functools
import inspect
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra_reference import by_hydra
from omegaconf import OmegaConf

from dltrain.config.check import problems_of
from dltrain.config.checking.annotations import wants_object
from dltrain.config.checking.nodes import OPTIMIZERS
from dltrain.config.compose import Composed, choose, compose
from dltrain.config.composing.composition import compose_files
from dltrain.config.groups import COMPOSING, OVERLAYS, conf_dir, config_dir, groups, summary
from dltrain.config.overrides import parse
from dltrain.config.policy import locate
from dltrain.config.schema import arguments, type_problem
from dltrain.config.settings import Settings
from dltrain.errors import UsageError

ASK_FOR_A_VALUE = [  # a run to start from
    *("transfer_ants_bees", "bilstm_word2vec_imdb", "lora_shakespeare"),
]
OPTIONS = [(group, option) for group, options in groups().items() for option in options]
FILES = sorted(conf_dir().rglob("*.yaml"))


@functools.cache
def chosen(group: str, option: str) -> Composed:
    return compose([f"{group}=[{option}]" if group == "regularization" else f"{group}={option}"])


def nodes(value: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every node with a `_target_` in a configuration, with its dotted key."""
    if not isinstance(value, dict):
        return []
    own = [(path, value)] if "_target_" in value else []
    return own + [
        n for name, child in value.items() for n in nodes(child, f"{path}.{name}".lstrip("."))
    ]


# what conf/ holds


def test_the_groups_of_the_design_exist_and_have_options() -> None:
    needed = {
        "dataset",
        "model",
        "task",
        "optimizer",
        "schedule",
        "loss",
        "regularization",
        "trainer",
        "device",
        "debug",
    }
    assert needed <= {group for group, options in groups().items() if options}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_composes_without_a_problem(group: str, option: str) -> None:
    composed = chosen(group, option)
    asked = [(key, why) for key, why in problems_of(composed) if key.endswith("=???")]
    assert problems_of(composed) == asked
    assert len(asked) == ASK_FOR_A_VALUE.count(option)
    if group not in OVERLAYS and group != "regularization":
        assert composed.choices[group] == option
        own = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text()).keys()
        assert own - {"defaults"} <= composed.config[group].keys()
        assert "defaults" in own or own == composed.config[group].keys()


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_target_resolves_and_every_key_binds_to_its_signature(
    group: str, option: str
) -> None:
    found = nodes(chosen(group, option).config)
    assert {path.split(".")[0] for path, _ in found} >= {
        "dataset",
        "model",
        "task",
        "loss",
        "optimizer",
        "schedule",
        "trainer",
    }
    for path, node in found:
        target = locate(node["_target_"])
        taken = arguments(target)
        if inspect.isfunction(target) or "__init__" in vars(target):
            kinds = {parameter.kind for parameter in inspect.signature(target).parameters.values()}
            assert inspect.Parameter.VAR_KEYWORD not in kinds, (
                f"{path}: **kwargs hides what is accepted"
            )
        known = {
            "_target_",
            "_partial_",
            *([OPTIMIZERS] if getattr(target, "networks", ()) else []),
        }
        for key in node.keys() - known:
            assert key in taken, f"{path}.{key} is not an argument of {node['_target_']}"
            annotation = taken[key].annotation
            assert annotation is not Any, f"{path}.{key} is not annotated"
            if not wants_object(annotation):
                assert type_problem(node[key], annotation) is None, f"{path}.{key}"


DEMANDING = ("transfer_ants_bees", "lora_shakespeare")  # have ???, which replaces null only here


def random_choices(draw: random.Random) -> list[str]:
    """Options of six groups, two of those that compose."""
    typed = []
    for group in draw.sample(list(groups()), 6):
        options = [option for option in groups()[group] if option not in DEMANDING]
        drawn = draw.sample(options, 1 + (group in COMPOSING))
        typed.append(
            f"{group}=[{','.join(drawn)}]" if group in COMPOSING else f"{group}={drawn[0]}"
        )
    return typed


def test_files_are_composed_as_hydra_composes_them() -> None:
    """Hydra takes a quarter of a second each, so these are some of all."""
    draw = random.Random(0)
    for typed in [[], *(random_choices(draw) for _ in range(6))]:
        ours, choices = choose(parse(typed)[0])
        theirs, their_choices = by_hydra(typed)
        ours, theirs = OmegaConf.to_container(ours), OmegaConf.to_container(theirs)
        assert (ours, list(ours), choices) == (theirs, list(theirs), their_choices), typed


def test_a_file_that_chooses_too_late_is_refused(tmp_path: Path) -> None:
    """The task is composed after the model: a task cannot choose the model."""
    (tmp_path / "task").mkdir()
    (tmp_path / "task/late.yaml").write_text(
        "# Late\ndefaults:\n  - classification\n  - override /model@_global_.model: mlp\n"
    )
    with config_dir(str(tmp_path)):
        with pytest.raises(UsageError, match=r"late\.yaml, line 4: task chooses model too late"):
            compose_files({"task": "late"})
        assert compose_files({"task": "late", "model": "mlp"})[1]["model"] == "mlp"


@pytest.mark.parametrize("typed", ["model=[mlp]", "model=mlp"])
def test_one_choice_may_stand_in_a_list(typed: str) -> None:
    composed = compose([typed])
    assert problems_of(composed) == []
    assert composed.choices["model"] == "mlp"


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_file_has_a_summary_that_fits_a_line(path: Path) -> None:
    if path.parent == conf_dir():
        assert path.read_text(encoding="utf-8").startswith("# ")
        return
    text = summary(path.parent.name, path.stem)
    assert 5 < len(text) <= 120, f"{path.name} needs a first comment that says what it is"
    assert text[0].isupper()
    assert not text.endswith(".")


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_no_file_names_a_parent_folder_in_its_defaults(path: Path) -> None:
    assert "../" not in path.read_text(encoding="utf-8")


def test_the_top_of_config_yaml_is_what_settings_declares() -> None:
    top = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8")).keys() - {
        "defaults"
    }
    assert top - set(groups()) == set(arguments(Settings)) - {"debug"}
