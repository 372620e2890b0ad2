"""Sets and deletes single keys of a configuration, as overrides ask for it."""

from __future__ import annotations

from typing import Any

from dltrain.config.checking.annotations import is_mapping_of_objects
from dltrain.config.composing.source_keys import OWNER as DATASET
from dltrain.config.composing.source_keys import full_key, without_shorthand
from dltrain.config.groups import COMPOSING
from dltrain.config.renamed import with_current_names
from dltrain.config.schema import Argument, as_yaml, type_problem
from dltrain.config.suggestions.suggest import (
    argument_of,
    arguments_of,
    node_with_target,
    unknown_key_message,
)
from dltrain.errors import first_line
from dltrain.shell import shell_word

_ABSENT = object()
ALWAYS_THERE = ("", "paths", "init")  # parents of keys that every run needs


def set_key(config: Any, override: Any) -> tuple[str, str | None]:
    """Set or delete the key of an override in `config`, a DictConfig.

    Returns:
        The dotted key, and what is wrong with the override; None if nothing is.
    """
    from omegaconf.errors import OmegaConfBaseException

    key = override.key_or_group.replace("/", ".")
    try:
        key = configuration_key(config, key)
        return key, _apply(config, key, override)
    except (OmegaConfBaseException, TypeError, KeyError) as e:
        return key, first_line(e)


def configuration_key(config: Any, key: str) -> str:
    """Return the key of `config` that a dotted key stands for; see `source_keys.full_key`."""

    def is_listed(candidate: str) -> bool:
        return _is_listed(config, candidate)

    def is_accepted(candidate: str) -> bool:
        return _signature_takes(config, candidate)

    return full_key(key, is_listed, is_accepted)


def _apply(config: Any, key: str, override: Any) -> str | None:
    """Set or delete one key; return the problem if the key does not exist."""
    from omegaconf import OmegaConf, open_dict

    typed = override.input_line.partition("=")[2]
    parent = key.rpartition(".")[0]
    is_new = _is_new_node(override.value())
    exists = _is_listed(config, key) or _signature_takes(config, key)
    can_be_added = is_new and _holds_nodes(config, parent)
    if not exists and not can_be_added:
        return unknown_key_message(config, key, typed)
    if override.is_delete():
        return _delete(config, key, override.value())
    value = with_current_names(override.value(), key.rpartition(".")[2])
    if key == DATASET and isinstance(value, dict):
        plain: Any = OmegaConf.to_container(config)
        value = without_shorthand(value, plain[DATASET])
    with open_dict(config):
        # model={_target_: mine.Net} is another model, not more keys of this one
        OmegaConf.update(config, key, value, merge=not is_new, force_add=True)
    if isinstance(value, bool | int | float):
        _keep_text(config, key, value, typed.strip())
    return None


def _keep_text(config: Any, key: str, value: Any, typed: str) -> None:
    """Set a key that takes text to what was typed: dataset.target=1 is the column called 1."""
    from omegaconf import OmegaConf

    argument = argument_of(config, key)
    if argument is None or not type_problem(value, argument.annotation):
        return
    if not type_problem(typed, argument.annotation):
        OmegaConf.update(config, key, typed)


def _delete(config: Any, key: str, value: Any) -> str | None:
    """Delete a key, so that what is built has its own default; return the problem, if it cannot be.

    `value` is the one that the key must have, as in ~optimizer.lr=0.1; None for any.
    """
    from omegaconf import OmegaConf, open_dict

    current = OmegaConf.select(config, key, throw_on_missing=False)
    if value is not None and value != current:
        return f"{key} is {as_yaml(current)}, not {as_yaml(value)}"
    argument = argument_of(config, key)
    parent, _, name = key.rpartition(".")
    is_required = argument is not None and argument.required
    if parent in ALWAYS_THERE or is_required:
        who = parent
        if parent in ALWAYS_THERE:
            who = "every run"
        return f"{who} needs this key: {_instead_of_deleting(key, argument)}"
    with open_dict(config):
        del OmegaConf.select(config, parent)[name]
    return None


def _instead_of_deleting(key: str, argument: Argument | None) -> str:
    """Return what to type for the default of a key, or to take an entry out of a mapping."""
    if argument is None or argument.required or key in ("init", "paths"):
        return f"set it (dltrain show {key})"
    if isinstance(argument.default, dict):
        return f"{shell_word(f'~{key}.NAME')} takes one entry out"
    return f"its default is {shell_word(f'{key}={as_yaml(argument.default)}')}"


def _is_listed(config: Any, key: str) -> bool:
    """Return True if `config` holds `key`."""
    from omegaconf import OmegaConf

    if OmegaConf.select(config, key, default=_ABSENT, throw_on_missing=False) is not _ABSENT:
        return True
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return OmegaConf.is_dict(node) and OmegaConf.is_missing(node, name)


def _signature_takes(config: Any, key: str) -> bool:
    """Return True if the node that owns `key` has a target with such an argument.

    Its file may leave the argument out, as with model.num_classes.
    """
    from omegaconf import DictConfig, OmegaConf

    parent, _, name = key.rpartition(".")
    node: Any = None
    if parent:
        node = OmegaConf.select(config, parent)
    if not isinstance(node, DictConfig):
        return False
    if parent == "expect":
        return True
    node = node_with_target(config, parent, node)
    if "_target_" not in node:
        return False
    taken = arguments_of(node, config)
    return taken is None or name in taken


def _is_new_node(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _holds_nodes(config: Any, key: str) -> bool:
    """Return True if `key` holds nodes under any names, such as callbacks and task.metrics."""
    from omegaconf import OmegaConf

    if key in (*COMPOSING, "callbacks"):
        return True
    parent, _, name = key.rpartition(".")
    if not parent:
        return False
    taken = arguments_of(OmegaConf.select(config, parent), config)
    return taken is not None and name in taken and is_mapping_of_objects(taken[name].annotation)
