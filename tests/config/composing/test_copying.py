"""The fast copy of a configuration is that of copy.deepcopy, and shares nothing with its source."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from omegaconf import OmegaConf

from dltrain.config.composing.copying import copied

VALUES: dict[str, Any] = {
    "number": 1,
    "text": "a",
    "nothing": None,
    "missing": "???",
    "interpolation": "${list[0]}",
    "empty": {},
    "list": [1, None, "${number}", [2, {"a": 1}], []],
    "mapping": {"a": {"b": {"c": True}}, "1": 1.5},
}


def state(node: Any) -> Any:
    """Return all that a node of OmegaConf holds, as plain data."""
    values = dict(node.__dict__)
    values.pop("_parent")
    values.pop("_flags_cache")
    content = values.pop("_content", None)
    if isinstance(content, dict):
        content = {key: state(child) for key, child in content.items()}
    elif isinstance(content, list):
        content = [state(child) for child in content]
    return type(node), values, content


def parents(node: Any) -> list[bool]:
    """Return for each node below `node` whether its parent is the one that holds it."""
    content = node.__dict__.get("_content")
    if isinstance(content, dict):
        content = list(content.values())
    if not isinstance(content, list):
        return []
    right = [child._get_parent() is node for child in content]
    return right + [flag for child in content for flag in parents(child)]


@pytest.fixture
def config() -> Any:
    made = OmegaConf.create(VALUES)
    OmegaConf.set_struct(made, True)
    OmegaConf.set_readonly(made["mapping"], True)
    return made


def test_a_copy_is_that_of_deepcopy(config) -> None:
    copy_of_it = copied(config)
    assert state(copy_of_it) == state(copy.deepcopy(config))
    assert all(parents(copy_of_it))
    assert OmegaConf.is_struct(copy_of_it)
    assert OmegaConf.is_readonly(copy_of_it.mapping.a)
    assert OmegaConf.to_container(copy_of_it, resolve=False) == VALUES
    assert copy_of_it.list[2] == 1


def test_changes_of_a_copy_do_not_reach_the_source(config) -> None:
    before = state(copy.deepcopy(config))
    copy_of_it = copied(config)
    OmegaConf.set_struct(copy_of_it, False)
    OmegaConf.set_readonly(copy_of_it["mapping"], False)
    copy_of_it.number = 2
    copy_of_it.new = 3
    copy_of_it.list[3][1].a = 4
    copy_of_it.mapping.a.b.c = False
    assert copy_of_it.list[2] == 2
    assert OmegaConf.to_container(config) == VALUES
    assert state(config) == before
    caches = [node._metadata.resolver_cache for node in (config, copy_of_it)]
    assert caches[0] is not caches[1]
    assert OmegaConf.is_struct(config)
    assert OmegaConf.is_readonly(config.mapping)


def test_a_part_of_a_configuration_does_not_keep_the_flags_from_above(config) -> None:
    assert OmegaConf.is_struct(config["list"])  # this fills the cache of flags
    assert not OmegaConf.is_struct(copied(config["list"]))
