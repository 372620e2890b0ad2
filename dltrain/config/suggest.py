"""What to write instead of a key that does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dltrain.config.groups import COMPOSING, groups, read_option
from dltrain.config.schema import Argument, arguments, as_yaml, close_matches, similarity
from dltrain.errors import UsageError

LIKE = 0.6  # how similar two names are at least for one to be meant by the other
SYNONYMS = {"learning_rate": "lr", "bs": "batch_size", "batchsize": "batch_size"}


def unknown_key(config: Any, key: str) -> str:
    """What to write instead of a key that does not exist."""
    from omegaconf import OmegaConf

    group, _, rest = key.partition(".")
    option = rest.partition(".")[0]
    if group in COMPOSING and option in groups()[group] and option not in config[group]:
        return f"not chosen: {group}=[{option}]"
    if options := _options_with(group, rest):
        have = "has" if len(options) == 1 else "have"
        return f"no such key in this {group}; {', '.join(f'{group}={o}' for o in options)} {have} it"
    close = _close_key(config, key)
    if close is None:
        return (
            f"no such key (dltrain show {group})" if group in groups() else "no such key (dltrain list, dltrain show)"
        )
    value = OmegaConf.select(config, close, throw_on_missing=False, throw_on_resolution_failure=False)
    known = close in leaves(config) and not OmegaConf.is_config(value)
    return f"no such key; did you mean {close}{f' (now {as_yaml(value)})' if known else ''}?"


def _options_with(group: str, key: str) -> list[str]:
    """The options of `group` whose file sets `key`."""
    return [option for option in groups().get(group, []) if key and key in read_option(group, option)]


def _close_key(config: Any, key: str) -> str | None:
    """The key most like `key`: the same last name anywhere, else one like it, first where it would stand."""
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    name = SYNONYMS.get(name, name)
    above = {key[:i] for i, letter in enumerate(key) if letter == "."}
    keys = [k for k in leaves(config) if k not in above or not OmegaConf.is_config(OmegaConf.select(config, k))]
    keys = [k for k in common_keys() if k in keys] + keys
    here = OmegaConf.select(config, parent) if parent else config
    same = [k for k in keys if k.rpartition(".")[2] == name]
    if parent and not OmegaConf.is_config(here):
        same.sort(key=lambda k: -similarity(key, k))  # optimzier.lr is optimizer.lr, dataste.epochs is dataset.epochs
    if parent.startswith("task.optimizers.") and OmegaConf.is_config(here) and "_target_" not in here:
        here = config.optimizer  # whose settings it refines
    if parent and OmegaConf.is_config(here):
        keys = [k for k in keys if k.rpartition(".")[0] == parent]
        keys += [f"{parent}.{argument}" for argument in arguments_of(here, config) or []]
    scores = {k: similarity(name, k.rpartition(".")[2]) for k in keys}
    alike = [k for k, score in scores.items() if LIKE <= score == max(scores.values())]
    return next(iter([*same, *alike, *([] if OmegaConf.is_config(here) else close_matches(key, keys))]), None)


def leaves(node: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a configuration, groups' names included, `_target_` and its kind left out."""
    from omegaconf import DictConfig

    keys = []
    for name in node:
        if str(name).startswith("_"):
            continue
        child = node._get_node(name)
        keys.append(f"{prefix}{name}")
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += leaves(child, f"{prefix}{name}.")
    return keys


def common_keys() -> list[str]:
    return [
        *("trainer.epochs", "trainer.steps", "trainer.max_seconds", "trainer.accumulate", "dataset.batch_size"),
        *("optimizer.lr", "device.precision", "device.compile", "model.activation", "seed", "name"),
        *(group for group in groups()),
    ]


def arguments_of(node: Any, config: Any) -> Mapping[str, Argument] | None:
    """The arguments of a node's target by name; None if the target is not allowed, which is reported as such."""
    from omegaconf import DictConfig, OmegaConf

    from dltrain.config.policy import locate

    if not isinstance(node, DictConfig) or "_target_" not in node:
        return {}
    try:
        plugins: Any = OmegaConf.to_container(config).get("plugins")  # type: ignore[union-attr]
        return arguments(locate(str(node._get_node("_target_")), plugins if isinstance(plugins, list) else []))
    except UsageError:
        return None
