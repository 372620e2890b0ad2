"""Suggestions for keys that do not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from dltrain.config.composing.composition import compose_files
from dltrain.config.composing.source_keys import full_key, has_listed, short_keys
from dltrain.config.groups import COMPOSING, groups, read_option
from dltrain.config.schema import Argument, arguments, as_yaml, type_problem
from dltrain.config.suggestions.other_programs import answer_for
from dltrain.config.suggestions.quoting import value_of
from dltrain.config.suggestions.spelling import close_matches, similarity
from dltrain.errors import UsageError, first_names
from dltrain.shell import shell_word

MIN_SIMILARITY = 0.6  # of a typed name to the name that is suggested, if `_is_plausible`
SURE_SIMILARITY = 0.85  # is enough by itself
MAX_OPTIONS_SHOWN = 4
# The groups that are searched for a key that was typed without its group.
SEARCHED_GROUPS = ("model", "task", "dataset", "schedule", "optimizer", "loss")
NETWORK_OPTIMIZERS = "task.optimizers."  # what single networks change of the shared optimizer
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


def unknown_key_message(config: Any, key: str, value: str = "") -> str:
    """Return what to type instead of a key that does not exist; `value` was typed for it."""
    unknown = _UnknownKey(config, key, value)
    for suggest in SUGGESTIONS:
        suggestion = suggest(unknown)
        if suggestion is not None:
            return suggestion
    if unknown.group in groups():
        return f"no such key (dltrain show {unknown.group})"
    return "no such key (dltrain list, dltrain show)"


class _UnknownKey:
    """A key that does not exist, and the part of the configuration where it would be.

    For task.optimizers.generator.lr: `group` is task, `rest` optimizers.generator.lr, `parent`
    task.optimizers.generator, and `name` lr. `parent_node` is None if the parent does not exist.
    `listed` are the keys of the configuration, `known` these and their shorthands.
    """

    def __init__(self, config: Any, key: str, value: str) -> None:
        from omegaconf import OmegaConf

        self.config = config
        self.key = key
        self.value = value
        self.group, _, self.rest = key.partition(".")
        self.parent, _, self.name = key.rpartition(".")
        self.listed = dotted_keys(config)
        self.known = self.listed + short_keys(self.listed)
        self.parent_node: Any = None
        if self.parent:
            node = OmegaConf.select(config, self.parent)
            if OmegaConf.is_config(node):
                self.parent_node = node

    def did_you_mean(self, meant: str) -> str:
        """Return the question whether `meant` was meant, with its current value."""
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
        """Return True if the configuration has a key, or a signature has an argument for it."""
        return key in self.known or argument_of(self.config, key) is not None


def _suggest_choosing(unknown: _UnknownKey) -> str | None:
    """Suggest to choose the option that has the key: regularization.l2.weight needs l2."""
    group = unknown.group
    option = unknown.rest.partition(".")[0]
    if group not in COMPOSING or option not in groups()[group] or option in unknown.config[group]:
        return None
    return f"not chosen: {shell_word(f'{group}=[{option}]')}"


def _suggest_other_options(unknown: _UnknownKey) -> str | None:
    """Suggest other options of the group that have the key."""
    group = unknown.group
    options = _options_with(group, unknown.rest)
    if not options:
        return None
    choices = ", ".join(f"{group}={option}" for option in options)
    have = "have"
    if len(options) == 1:
        have = "has"
    return f"no such key in this {group}; {choices} {have} it"


def _suggest_other_parent(unknown: _UnknownKey) -> str | None:
    """Suggest a key with the same last name and a similar parent, as for dataste.epochs."""
    if not unknown.parent:
        return None
    same_name = [other for other in unknown.known if _last_name(other) == unknown.name]
    meant = _most_similar(unknown.key, same_name)
    if meant is None:
        return None
    return unknown.did_you_mean(meant)


def _suggest_from_other_programs(unknown: _UnknownKey) -> str | None:
    """Suggest what users of other programs mean by the key."""
    answer = answer_for(unknown.key, unknown.value, unknown.has)
    if answer is None:
        return None
    if answer.same_value is None:
        return f"no such key{answer.text}"
    return unknown.did_you_mean(answer.same_value)


def _suggest_with_group(unknown: _UnknownKey) -> str | None:
    """Suggest options that have a key that was typed without its group, such as num_heads."""
    key = unknown.key
    if unknown.parent or any(_last_name(other) == key for other in unknown.known):
        return None
    for group in SEARCHED_GROUPS:
        options = _options_with(group, key)
        if options:
            choices = first_names([f"{group}={option}" for option in options], MAX_OPTIONS_SHOWN)
            return f"no such key here; {group}.{key} is a key of {choices}"
    return None


def _suggest_similar_key(unknown: _UnknownKey) -> str | None:
    """Suggest the key most similar to the unknown one."""
    meant = _find_similar_key(unknown, _candidates(unknown))
    if meant is None:
        return None
    return unknown.did_you_mean(meant)


def _find_similar_key(unknown: _UnknownKey, keys: list[str]) -> str | None:
    """Return the most similar of `keys`; if the parent exists, only a key of that parent."""
    meant = _with_same_name(unknown, keys)
    if meant is not None:
        return meant
    if unknown.parent_node is not None:
        return _with_similar_name(unknown, _siblings(unknown, keys))
    return _with_similar_name(unknown, keys) or _with_similar_spelling(unknown.key, keys)


# Tried in this order; the first that returns a message is used.
SUGGESTIONS = (
    _suggest_choosing,
    _suggest_other_options,
    _suggest_other_parent,
    _suggest_from_other_programs,
    _suggest_with_group,
    _suggest_similar_key,
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

    They do not include the nodes above the unknown key.
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
    """Return a key with the same last name; if the parent does not exist, the most similar one."""
    same_name = [other for other in keys if _last_name(other) == unknown.name]
    if unknown.parent and unknown.parent_node is None:
        same_name.sort(key=lambda other: -similarity(unknown.key, other))
    return next(iter(same_name), None)


def _siblings(unknown: _UnknownKey, keys: list[str]) -> list[str]:
    """Return the keys that the parent of the unknown key has, or has arguments for."""
    parent = unknown.parent
    node = node_with_target(unknown.config, parent, unknown.parent_node)
    taken = arguments_of(node, unknown.config) or {}
    listed = [key for key in keys if key.rpartition(".")[0] == parent]
    return listed + [f"{parent}.{argument}" for argument in taken]


def _with_similar_name(unknown: _UnknownKey, keys: list[str]) -> str | None:
    """Return the key with the most similar last name, if that is similar enough."""
    scores = {key: similarity(unknown.name, _last_name(key)) for key in keys}
    best = max(scores.values(), default=0.0)
    if best < MIN_SIMILARITY:
        return None
    for key, score in scores.items():
        if score == best and (score >= SURE_SIMILARITY or _is_plausible(unknown, key)):
            return key
    return None


def _with_similar_spelling(key: str, keys: list[str]) -> str | None:
    """Return one of `keys` that is spelled like the whole `key`, or would be a parent of it."""
    for other in close_matches(key, keys):
        if similarity(key, other) >= SURE_SIMILARITY or key.startswith(f"{other}."):
            return other
    return None


def _most_similar(key: str, keys: list[str]) -> str | None:
    """Return the most similar of `keys`, if its similarity is at least SURE_SIMILARITY."""
    similar = [other for other in keys if similarity(key, other) >= SURE_SIMILARITY]
    return max(similar, key=lambda other: similarity(key, other), default=None)


def _is_plausible(unknown: _UnknownKey, key: str) -> bool:
    """Return True if the first letter is that of `key`, and the typed value fits `key`."""
    if unknown.name[:1].lower() != _last_name(key)[:1].lower():
        return False
    argument = argument_of(unknown.config, key)
    if argument is None:
        return "." in key  # a group is meant by its own name only
    typed: Any = None
    if unknown.value:
        typed = value_of(f"key={unknown.value}")
    return typed is None or type_problem(typed, argument.annotation) is None


def _last_name(key: str) -> str:
    return key.rpartition(".")[2]


def dotted_keys(node: Any, prefix: str = "") -> list[str]:
    """Return every dotted key of a configuration, of nodes and of values, without `_target_`s."""
    from omegaconf import DictConfig

    keys = []
    for name in node:
        if str(name).startswith("_"):
            continue
        child = node._get_node(name)
        keys.append(f"{prefix}{name}")
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += dotted_keys(child, f"{prefix}{name}.")
    return keys


def common_keys() -> list[str]:
    """Return the keys that are suggested first, and the groups."""
    return [*COMMON_KEYS, *groups()]


def default_keys() -> list[str]:
    """Return every dotted key of the configuration without overrides, and the groups.

    This only reads YAML files; it imports no target.
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


def node_with_target(config: Any, key: str, node: Any) -> Any:
    """Return `node`, or the shared optimizer for a node of a network that has no own `_target_`."""
    if key.startswith(NETWORK_OPTIMIZERS) and "_target_" not in node:
        return config.optimizer
    return node


def arguments_of(node: Any, config: Any) -> Mapping[str, Argument] | None:
    """Return the arguments of a node's target by name, {} for a node without a target.

    None is returned for a target that is not allowed; another check reports it.
    """
    from omegaconf import DictConfig

    from dltrain.config.policy import locate

    if not isinstance(node, DictConfig) or "_target_" not in node:
        return {}
    plugins = _plugins_of(config)
    target = str(node._get_node("_target_"))
    try:
        return arguments(locate(target, plugins))
    except UsageError:
        return None


def _plugins_of(config: Any) -> list[Any]:
    """Return the plugins that a DictConfig lists; none if it has something else there."""
    from omegaconf import ListConfig, OmegaConf

    node = config._get_node("plugins", validate_access=False)
    if not isinstance(node, ListConfig):
        return []
    plugins: Any = OmegaConf.to_container(node)
    if isinstance(plugins, list):
        return plugins
    return []


def argument_of(config: Any, key: str) -> Argument | None:
    """Return the argument that `key` sets; None if no signature has it."""
    from omegaconf import OmegaConf

    from dltrain.config.settings import Paths, Settings

    owner, _, name = key.rpartition(".")
    if owner == "":
        return arguments(Settings).get(name)
    if owner == "paths":
        return arguments(Paths).get(name)
    if owner == "init":
        _, value_type = get_args(arguments(Settings)["init"].annotation)  # dict[str, value_type]
        return Argument(name, value_type, None)
    node = OmegaConf.select(
        config, owner, throw_on_missing=False, throw_on_resolution_failure=False
    )
    return (arguments_of(node, config) or {}).get(name)
