"""Suggestions for keys that do not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from dltrain.config.composing.composition import compose_files
from dltrain.config.composing.source_keys import full_key, has_listed, short_keys
from dltrain.config.groups import COMPOSING, groups, read_option
from dltrain.config.schema import Argument, arguments, as_yaml, wrong
from dltrain.config.suggestions.other_programs import answer_for
from dltrain.config.suggestions.quoting import value_of
from dltrain.config.suggestions.spelling import close_matches, similarity
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
    unknown = _UnknownKey(config, key, value)
    for suggest in SUGGESTIONS:
        suggestion = suggest(unknown)
        if suggestion is not None:
            return suggestion
    where = f"dltrain show {unknown.group}"
    if unknown.group not in groups():
        where = "dltrain list, dltrain show"
    return f"no such key ({where})"


class _UnknownKey:
    """A key that does not exist, and what the configuration has around it."""

    def __init__(self, config: Any, key: str, value: str) -> None:
        from omegaconf import OmegaConf

        self.config = config
        self.key = key
        self.value = value
        self.group, _, self.rest = key.partition(".")
        self.owner, _, self.name = key.rpartition(".")
        self.listed = leaves(config)
        self.known = self.listed + short_keys(self.listed)
        node: Any = None
        if self.owner:
            node = OmegaConf.select(config, self.owner)
        self.node = node if OmegaConf.is_config(node) else None  # that owns the key

    def did_you_mean(self, meant: str) -> str:
        """Return the question for a key that is probably meant, with its present value."""
        from omegaconf import OmegaConf

        question = f"no such key; did you mean {meant}"
        key = full_key(meant, self.listed.__contains__)
        if key not in self.listed:
            return f"{question}?"
        now = OmegaConf.select(
            self.config, key, throw_on_missing=False, throw_on_resolution_failure=False
        )
        if OmegaConf.is_config(now):
            return f"{question}?"
        return f"{question} (now {as_yaml(now)})?"

    def has(self, key: str) -> bool:
        """Return True if the configuration has a key, or a signature takes it."""
        return key in self.known or argument_of(self.config, key) is not None


def _not_chosen(unknown: _UnknownKey) -> str | None:
    """Say that an option of a composing group is not chosen: regularization.l2.weight."""
    group = unknown.group
    option = unknown.rest.partition(".")[0]
    if group not in COMPOSING or option not in groups()[group] or option in unknown.config[group]:
        return None
    return f"not chosen: {group}=[{option}]"


def _in_other_options(unknown: _UnknownKey) -> str | None:
    """Say which other options of the group have the key."""
    group = unknown.group
    options = _options_with(group, unknown.rest)
    if not options:
        return None
    choices = ", ".join(f"{group}={option}" for option in options)
    have = "have"
    if len(options) == 1:
        have = "has"
    return f"no such key in this {group}; {choices} {have} it"


def _with_misspelled_owner(unknown: _UnknownKey) -> str | None:
    """Say the key with the same last name and a similar owner: dataste.epochs is dataset.epochs."""
    if not unknown.owner:
        return None
    same_name = [other for other in unknown.known if _last_name(other) == unknown.name]
    meant = _most_similar(unknown.key, same_name)
    if meant is None:
        return None
    return unknown.did_you_mean(meant)


def _of_other_programs(unknown: _UnknownKey) -> str | None:
    """Say what users of other programs mean by the key."""
    answer = answer_for(unknown.key, unknown.value, unknown.has)
    if answer is None:
        return None
    if answer.same_value is None:
        return f"no such key{answer.text}"
    return unknown.did_you_mean(answer.same_value)


def _in_other_groups(unknown: _UnknownKey) -> str | None:
    """Say which options have a key that was typed without its group, such as num_heads."""
    key = unknown.key
    if unknown.owner or any(_last_name(other) == key for other in unknown.known):
        return None
    for group in SEARCHED:
        options = _options_with(group, key)
        if options:
            choices = first_names([f"{group}={option}" for option in options], MAX_OPTIONS_SHOWN)
            return f"no such key here; {group}.{key} is a key of {choices}"
    return None


def _with_similar_name(unknown: _UnknownKey) -> str | None:
    """Say the key most like the unknown one."""
    keys = _candidates(unknown)
    meant = _with_same_name(unknown, keys)
    if meant is None and unknown.node is not None:
        meant = _similar_name(unknown, _siblings(unknown, keys))
    elif meant is None:
        meant = _similar_name(unknown, keys) or _similar_whole(unknown.key, keys)
    if meant is None:
        return None
    return unknown.did_you_mean(meant)


SUGGESTIONS = (  # in this order: the first that has an answer gives it
    _not_chosen,
    _in_other_options,
    _with_misspelled_owner,
    _of_other_programs,
    _in_other_groups,
    _with_similar_name,
)


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


def _candidates(unknown: _UnknownKey) -> list[str]:
    """Return the keys that may be meant, the common ones first.

    The nodes in which the unknown key would stand are not among them.
    """
    from omegaconf import OmegaConf

    keys = []
    for other in unknown.listed:
        is_above = unknown.key.startswith(f"{other}.")
        if not is_above or not OmegaConf.is_config(OmegaConf.select(unknown.config, other)):
            keys.append(other)
    keys += short_keys(keys)
    common = [key for key in common_keys() if key in keys]
    return common + keys


def _with_same_name(unknown: _UnknownKey, keys: list[str]) -> str | None:
    """Return a key with the same last name; if the owner does not exist, the most similar one."""
    same_name = [other for other in keys if _last_name(other) == unknown.name]
    if unknown.owner and unknown.node is None:
        same_name.sort(key=lambda other: -similarity(unknown.key, other))
    return next(iter(same_name), None)


def _siblings(unknown: _UnknownKey, keys: list[str]) -> list[str]:
    """Return the keys that the owner of the unknown key has or takes."""
    owner = unknown.owner
    node = shared_optimizer(unknown.config, owner, unknown.node)
    taken = arguments_of(node, unknown.config) or {}
    listed = [key for key in keys if key.rpartition(".")[0] == owner]
    return listed + [f"{owner}.{argument}" for argument in taken]


def _similar_name(unknown: _UnknownKey, keys: list[str]) -> str | None:
    """Return the key whose last name is most like that of the unknown one, if it is like enough."""
    scores = {key: similarity(unknown.name, _last_name(key)) for key in keys}
    best = max(scores.values(), default=0.0)
    if best < LIKE:
        return None
    for key, score in scores.items():
        if score == best and (score >= SURE or _is_plausible(unknown, key)):
            return key
    return None


def _similar_whole(key: str, keys: list[str]) -> str | None:
    """Return a key that is like the whole of `key`, or a value that `key` would stand in."""
    for other in close_matches(key, keys):
        if similarity(key, other) >= SURE or key.startswith(f"{other}."):
            return other
    return None


def _most_similar(key: str, keys: list[str]) -> str | None:
    """Return the key most similar to `key`, if one certainly is."""
    similar = [other for other in keys if similarity(key, other) >= SURE]
    return max(similar, key=lambda other: similarity(key, other), default=None)


def _is_plausible(unknown: _UnknownKey, key: str) -> bool:
    """Return True if a name only a little like `key` can mean it: same first letter, value fits."""
    if unknown.name[:1].lower() != _last_name(key)[:1].lower():
        return False
    argument = argument_of(unknown.config, key)
    if argument is None:
        return "." in key  # a group is meant by its own name only
    typed: Any = None
    if unknown.value:
        typed = value_of(f"key={unknown.value}")
    return typed is None or wrong(typed, argument.annotation) is None


def _last_name(key: str) -> str:
    return key.rpartition(".")[2]


def leaves(node: Any, prefix: str = "") -> list[str]:
    """Return every dotted key of a configuration, with the groups and without `_target_`s."""
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
