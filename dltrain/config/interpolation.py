"""Where a configuration refers to itself or to the environment, and which variables that reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OWN_VARIABLES = "DLTRAIN_"  # how the environment variables are called that are for dltrain itself

Way = tuple[str | int, ...]  # the names and positions that lead to a value


def interpolations(node: Any, path: Way = ()) -> Iterator[tuple[Any, Way]]:
    """Every interpolation of a configuration: what holds it, and the way to it. A `_target_` is none: it is text."""
    from omegaconf import DictConfig, OmegaConf

    for name in list(node) if isinstance(node, DictConfig) else range(len(node)):
        if isinstance(name, str) and name.startswith("_"):
            continue
        child = node._get_node(name)
        if OmegaConf.is_interpolation(node, name):
            yield node, (*path, name)
        elif OmegaConf.is_config(child) and not child._is_none() and not child._is_missing():
            yield from interpolations(child, (*path, name))


def dotted(path: Way) -> str:
    """The dotted key of a value; of what stands in a list that of the list."""
    names = [name for name in path if isinstance(name, str)]
    return ".".join(names)


@contextmanager
def environment() -> Iterator[list[str]]:
    """Inside, a list that gets the name of every environment variable that is read, but for those of dltrain's own."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    read: list[str] = []

    def env(key: str, *default: Any) -> str | None:
        if not key.startswith(OWN_VARIABLES):
            read.append(key)
        return oc.env(key, *default)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield read
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
