"""Interpolations: where a configuration refers to itself or to the environment, as in ${seed}."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dltrain.config.composing.source_keys import with_full_keys
from dltrain.errors import first_line

OWN_VARIABLES = "DLTRAIN_"  # how the environment variables of dltrain itself begin
ESCAPED = "\\${"  # how text begins that is not an interpolation
CIRCULAR = "it refers to itself"
CAUSE = "resolving interpolation: "  # what OmegaConf writes before the reason

Way = tuple[str | int, ...]  # the names and positions that lead to a value


@dataclass
class Resolved:
    """A configuration whose interpolations are replaced by their values.

    `public` is the same as may be written into files: a value from the environment, such as a
    password by ${oc.env:NAME}, stands there as it was written.
    """

    config: dict[str, Any]
    public: dict[str, Any]
    failed: dict[str, str] = field(
        default_factory=dict
    )  # dotted key: the reason; its value is null
    secret: set[str] = field(default_factory=set)  # dotted keys with values of the environment
    interpolated: dict[Way, str] = field(default_factory=dict)  # every interpolation as written


def resolve(config: Any) -> Resolved:
    """Replace every interpolation of `config`, a DictConfig, by its value."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    failed: dict[str, str] = {}
    secret: set[str] = set()
    interpolated: dict[Way, str] = {}
    as_written: dict[Way, str] = {}
    values: list[tuple[Any, str | int, Any]] = []
    with _recorded_environment() as variables:
        for node, way in interpolations(config):
            variables.clear()
            name = way[-1]
            key = dotted(way)
            text = node._get_node(name)._value()
            interpolated[way] = text
            full_text = with_full_keys(config, text)
            if full_text != text:
                node._get_node(name)._set_value(full_text)
            value: Any = None
            try:
                value = _value_of(node, name)
            except RecursionError:
                failed[key] = CIRCULAR
            except OmegaConfBaseException as e:
                failed[key] = first_line(e).rpartition(CAUSE)[2].strip('"')
            values.append((node, name, value))
            if variables:
                secret.add(key)
            if variables or ESCAPED in text:
                as_written[way] = text
    for node, name, value in values:
        node[name] = value
    plain: Any = OmegaConf.to_container(config)
    return Resolved(plain, with_text(plain, as_written), failed, secret, interpolated)


def _value_of(node: Any, name: str | int) -> Any:
    from omegaconf import OmegaConf

    value = node[name]
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    return value


def with_text(config: dict[str, Any], as_written: dict[Way, str]) -> dict[str, Any]:
    """Return a copy of `config` with some values as they were written."""
    public = copy.deepcopy(config)
    for way, text in as_written.items():
        node: Any = public
        for name in way[:-1]:
            node = node[name]
        node[way[-1]] = text
    return public


def interpolations(node: Any, way: Way = ()) -> Iterator[tuple[Any, Way]]:
    """Yield every interpolation of a configuration: the node that holds it, and the way to it.

    A `_target_` is text, whatever stands in it.
    """
    from omegaconf import Container

    for name in _public_names(node):
        child = node._get_node(name, validate_access=False)
        if child._is_interpolation():
            yield node, (*way, name)
        elif isinstance(child, Container) and not child._is_none() and not child._is_missing():
            yield from interpolations(child, (*way, name))


def _public_names(node: Any) -> list[str | int]:
    """Return the keys of a mapping, without `_target_` and its kind, or the positions of a list."""
    from omegaconf import DictConfig

    if not isinstance(node, DictConfig):
        return list(range(len(node)))
    names: list[Any] = list(node)
    return [name for name in names if not str(name).startswith("_")]


def dotted(way: Way) -> str:
    """Return the dotted key of a value; for an item of a list that of the list."""
    names = [name for name in way if isinstance(name, str)]
    return ".".join(names)


@contextmanager
def _recorded_environment() -> Iterator[list[str]]:
    """Yield a list that gets the name of each environment variable that an interpolation reads.

    Variables of dltrain's own are left out.
    """
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    variables: list[str] = []

    def env(key: str, *default: Any) -> str | None:
        if not key.startswith(OWN_VARIABLES):
            variables.append(key)
        return oc.env(key, *default)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield variables
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
