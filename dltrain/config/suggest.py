"""What to write instead of a key that does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from dltrain.config.composition import compose_files
from dltrain.config.groups import COMPOSING, groups, read_option
from dltrain.config.other_programs import answer_for
from dltrain.config.quoting import value_of
from dltrain.config.schema import Argument, arguments, as_yaml, wrong
from dltrain.config.source_keys import full_key, has_listed, short_keys
from dltrain.config.spelling import close_matches, similarity
from dltrain.errors import UsageError, first_names

LIKE = 0.6  # the least similarity of two names for one to be meant by the other
SURE = 0.85  # from here on also if the first letters differ, or the value would not fit
MAX_OPTIONS_SHOWN = 4
SEARCHED = ("model", "task", "dataset", "schedule", "optimizer", "loss")  # for a key alone
OWN_OPTIMIZERS = "task.optimizers."  # settings of single networks over the shared optimizer
COMMON_KEYS = (
    "trainer.epochs",
    "trainer.steps",
    "trainer.max_seconds",
    "trainer.accumulate",
    "dataset.batch_size",
    "optimizer.lr",
    "device.precision",
    "device.compile",
    "model.activation",
    "seed",
    "name",
)


def unknown_key(config: Any, key: str, value: str = "") -> str:
    """Return what to write instead of a key that does not exist; `value` was typed for it."""
    group, _, rest = key.partition(".")
    option = rest.partition(".")[0]
    if group in COMPOSING and option in groups()[group] and option not in config[group]:
        return f"not chosen: {group}=[{option}]"
    options = _options_with(group, rest)
    if options:
        choices = ", ".join(f"{group}={option}" for option in options)
        return f"no such key in this {group}; {choices} {'has' if len(options) == 1 else 'have'} it"
    listed = leaves(config)
    known = listed + short_keys(listed)
    meant = _misspelled_owner(key, known)
    if meant is not None:
        return _did_you_mean(config, meant, listed)
    answer = answer_for(key, value, lambda k: k in known or argument_of(config, k) is not None)
    if answer is not None and answer.same_value is None:
        return f"no such key{answer.text}"
    if answer is not None and answer.same_value is not None:
        return _did_you_mean(config, answer.same_value, listed)
    is_known_elsewhere = any(_last_name(other) == key for other in known)
    owners = "" if is_known_elsewhere else _owners_elsewhere(key)
    if owners:
        return f"no such key here; {owners}"
    meant = _close_key(config, key, value)
    if meant is not None:
        return _did_you_mean(config, meant, listed)
    where = f"dltrain show {group}" if group in groups() else "dltrain list, dltrain show"
    return f"no such key ({where})"


def _did_you_mean(config: Any, meant: str, listed: list[str]) -> str:
    """Return the question for a key that is probably meant, with its present value."""
    from omegaconf import OmegaConf

    question = f"no such key; did you mean {meant}"
    key = full_key(meant, listed.__contains__)
    if key not in listed:
        return f"{question}?"
    now = OmegaConf.select(config, key, throw_on_missing=False, throw_on_resolution_failure=False)
    return f"{question}?" if OmegaConf.is_config(now) else f"{question} (now {as_yaml(now)})?"


def _options_with(group: str, key: str) -> list[str]:
    """Return the options of `group` whose file sets `key`."""
    if not key:
        return []
    options = []
    for option in groups().get(group, []):
        has = has_listed({group: read_option(group, option)})
        if has(full_key(f"{group}.{key}", has)):
            options.append(option)
    return options


def _owners_elsewhere(key: str) -> str:
    """Return which options have a key that was typed without its group, such as num_heads."""
    if "." in key:
        return ""
    for group in SEARCHED:
        options = _options_with(group, key)
        if options:
            choices = [f"{group}={option}" for option in options]
            return f"{group}.{key} is a key of {first_names(choices, MAX_OPTIONS_SHOWN)}"
    return ""


def _misspelled_owner(key: str, known: list[str]) -> str | None:
    """Return the key with the same last name and a similar owner: dataste.epochs is dataset.epochs."""
    if "." not in key:
        return None
    same_name = [other for other in known if _last_name(other) == _last_name(key)]
    similar = [other for other in same_name if similarity(key, other) >= SURE]
    return max(similar, key=lambda other: similarity(key, other), default=None)


def _close_key(config: Any, key: str, value: str) -> str | None:
    """Return the key most like `key`: first one with the same last name, then a similar name."""
    from omegaconf import OmegaConf

    owner, _, name = key.rpartition(".")
    node = OmegaConf.select(config, owner) if owner else None
    keys = _candidates(config, key)
    same_name = [other for other in keys if _last_name(other) == name]
    if owner and not OmegaConf.is_config(node):
        same_name.sort(key=lambda other: -similarity(key, other))
    if same_name:
        return same_name[0]
    if not OmegaConf.is_config(node):
        return _similar_name(config, key, keys, value) or _similar_whole(key, keys)
    siblings = [other for other in keys if other.rpartition(".")[0] == owner]
    taken = arguments_of(shared_optimizer(config, owner, node), config)
    siblings += [f"{owner}.{argument}" for argument in taken or []]
    return _similar_name(config, key, siblings, value)


def _candidates(config: Any, key: str) -> list[str]:
    """Return all keys, the common ones first, without the nodes in which `key` would stand."""
    from omegaconf import OmegaConf

    keys = []
    for other in leaves(config):
        is_above = key.startswith(f"{other}.")
        if not is_above or not OmegaConf.is_config(OmegaConf.select(config, other)):
            keys.append(other)
    keys += short_keys(keys)
    return [other for other in common_keys() if other in keys] + keys


def _similar_name(config: Any, key: str, keys: list[str], value: str) -> str | None:
    """Return the key whose last name is most like that of `key`, if it is like enough."""
    name = _last_name(key)
    scores = {other: similarity(name, _last_name(other)) for other in keys}
    best = max(scores.values(), default=0.0)
    if best < LIKE:
        return None
    for other, score in scores.items():
        if score == best and (score >= SURE or _is_plausible(config, name, other, value)):
            return other
    return None


def _similar_whole(key: str, keys: list[str]) -> str | None:
    """Return a key that is like the whole of `key`, or a value that `key` would stand in."""
    for other in close_matches(key, keys):
        if similarity(key, other) >= SURE or key.startswith(f"{other}."):
            return other
    return None


def _is_plausible(config: Any, name: str, key: str, value: str) -> bool:
    """Return True if a name only a little like `key` can mean it: same first letter, value fits."""
    if name[:1].lower() != _last_name(key)[:1].lower():
        return False
    argument = argument_of(config, key)
    if argument is None:
        return "." in key  # a group is meant by its own name only
    typed = value_of(f"key={value}") if value else None
    return typed is None or wrong(typed, argument.annotation) is None


def _last_name(key: str) -> str:
    return key.rpartition(".")[2]


def leaves(node: Any, prefix: str = "") -> list[str]:
    """Return every dotted key of a configuration, groups included; `_target_` and its kind are not."""
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
    """Return the keys that are meant most often, and the groups."""
    return [*COMMON_KEYS, *groups()]


def default_keys() -> list[str]:
    """Return every dotted key of the configuration without overrides, and the groups.

    It reads files only.
    """
    keys: list[str] = []

    def collect(node: Mapping[str, Any], prefix: str) -> None:
        for name, child in node.items():
            if name.startswith("_"):
                continue
            keys.append(f"{prefix}{name}")
            if isinstance(child, dict):
                collect(child, f"{prefix}{name}.")

    collect(compose_files({})[0], "")
    return list(dict.fromkeys([*keys, *groups()]))


def shared_optimizer(config: Any, key: str, node: Any) -> Any:
    """Return the shared optimizer's node for a node that refines it; any other node is returned."""
    if key.startswith(OWN_OPTIMIZERS) and "_target_" not in node:
        return config.optimizer
    return node


def arguments_of(node: Any, config: Any) -> Mapping[str, Argument] | None:
    """Return the arguments of a node's target by name.

    None stands for a target that is not allowed, which is reported as such.
    """
    from omegaconf import DictConfig, OmegaConf

    from dltrain.config.policy import locate

    if not isinstance(node, DictConfig) or "_target_" not in node:
        return {}
    plain: Any = OmegaConf.to_container(config)
    plugins = plain.get("plugins")
    target = str(node._get_node("_target_"))
    try:
        return arguments(locate(target, plugins if isinstance(plugins, list) else []))
    except UsageError:
        return None


def argument_of(config: Any, key: str) -> Argument | None:
    """Return what the signature behind `key` says of it; None if no signature has it."""
    from omegaconf import OmegaConf

    from dltrain.config.settings import Paths, Settings

    owner, _, name = key.rpartition(".")
    if owner == "":
        return arguments(Settings).get(name)
    if owner == "paths":
        return arguments(Paths).get(name)
    if owner == "init":
        value_type = get_args(arguments(Settings)["init"].annotation)[1]
        return Argument(name, value_type, None)
    node = OmegaConf.select(
        config, owner, throw_on_missing=False, throw_on_resolution_failure=False
    )
    return (arguments_of(node, config) or {}).get(name)
