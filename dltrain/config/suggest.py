"""What to write instead of a key that does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from dltrain.config.answers import answer_for
from dltrain.config.composition import compose_files
from dltrain.config.groups import COMPOSING, groups, read_option
from dltrain.config.quoting import value_of
from dltrain.config.schema import Argument, arguments, as_yaml, wrong
from dltrain.config.source_keys import full_key, has_listed, short_keys
from dltrain.config.spelling import close_matches, similarity
from dltrain.errors import UsageError, first_names

LIKE = 0.6  # how similar two names are at least for one to be meant by the other
SEARCHED = (
    "model",
    "task",
    "dataset",
    "schedule",
    "optimizer",
    "loss",
)  # groups for a key without one
MAX_OPTIONS_SHOWN = 4
SURE = 0.85  # from here on also where the first letters differ, or the value would not fit


def unknown_key(config: Any, key: str, value: str = "") -> str:
    """Return what to write instead of a key that does not exist; `value` is what was typed for it."""
    from omegaconf import OmegaConf

    group, _, rest = key.partition(".")
    option = rest.partition(".")[0]
    if group in COMPOSING and option in groups()[group] and option not in config[group]:
        return f"not chosen: {group}=[{option}]"
    if options := _options_with(group, rest):
        have = "has" if len(options) == 1 else "have"
        return (
            f"no such key in this {group}; {', '.join(f'{group}={o}' for o in options)} {have} it"
        )
    listed = leaves(config)
    known = listed + short_keys(listed)
    close = _misspelled_owner(key, known)
    if close is None and (
        answer := answer_for(key, value, lambda k: k in known or argument_of(config, k) is not None)
    ):
        close = answer.same_value
        if close is None:
            return f"no such key{answer.text}"
    here = [k for k in known if k.rpartition(".")[2] == key]
    if close is None and not here and (owners := _elsewhere(key)):
        return f"no such key here; {owners}"
    close = close or _close_key(config, key, value)
    if close is None:
        where = f"dltrain show {group}" if group in groups() else "dltrain list, dltrain show"
        return f"no such key ({where})"
    value_key = full_key(close, listed.__contains__)
    now = OmegaConf.select(
        config, value_key, throw_on_missing=False, throw_on_resolution_failure=False
    )
    shown = f" (now {as_yaml(now)})" if close in known and not OmegaConf.is_config(now) else ""
    return f"no such key; did you mean {close}{shown}?"


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


def _elsewhere(key: str) -> str:
    """Return which options have a key that was typed without its group, such as num_heads; empty if
    none has.
    """
    if "." in key:
        return ""
    for group in SEARCHED:
        if options := _options_with(group, key):
            choices = [f"{group}={option}" for option in options]
            return f"{group}.{key} is a key of {first_names(choices, MAX_OPTIONS_SHOWN)}"
    return ""


def _misspelled_owner(key: str, known: list[str]) -> str | None:
    """Return the key whose last name is right and whose owner is misspelled: dataste.epochs is
    dataset.epochs.
    """
    name = key.rpartition(".")[2]
    same = [
        k
        for k in known
        if "." in key and k.rpartition(".")[2] == name and similarity(key, k) >= SURE
    ]
    return max(same, key=lambda k: similarity(key, k), default=None)


def _close_key(config: Any, key: str, value: str = "") -> str | None:
    """Return the key most like `key`: the same last name anywhere, else one like it, first where it
    would stand.
    """
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    above = {key[:i] for i, letter in enumerate(key) if letter == "."}
    keys = [
        k
        for k in leaves(config)
        if k not in above or not OmegaConf.is_config(OmegaConf.select(config, k))
    ]
    keys += short_keys(keys)
    keys = [k for k in common_keys() if k in keys] + keys
    here = OmegaConf.select(config, parent) if parent else config
    same = [k for k in keys if k.rpartition(".")[2] == name]
    if parent and not OmegaConf.is_config(here):
        same.sort(
            key=lambda k: -similarity(key, k)
        )  # optimzier.lr is optimizer.lr, dataste.epochs is dataset.epochs
    if (
        parent.startswith("task.optimizers.")
        and OmegaConf.is_config(here)
        and "_target_" not in here
    ):
        here = config.optimizer  # whose settings it refines
    if parent and OmegaConf.is_config(here):
        keys = [k for k in keys if k.rpartition(".")[0] == parent]
        keys += [f"{parent}.{argument}" for argument in arguments_of(here, config) or []]
    scores = {k: similarity(name, k.rpartition(".")[2]) for k in keys}
    best = [k for k, score in scores.items() if LIKE <= score == max(scores.values())]
    alike = [k for k in best if scores[k] >= SURE or _plausible(config, name, k, value)]
    other = [] if OmegaConf.is_config(here) and parent else close_matches(key, keys)
    other = [k for k in other if similarity(key, k) >= SURE or key.startswith(f"{k}.")]
    return next(iter([*same, *alike, *other]), None)


def _plausible(config: Any, name: str, key: str, value: str) -> bool:
    """Tell whether `key` can be meant by `name`, which is only a little like it: same first letter,
    fitting value.
    """
    if name[:1].lower() != key.rpartition(".")[2][:1].lower():
        return False
    argument = argument_of(config, key)
    typed = value_of(f"key={value}") if value else None
    if argument is None:
        return "." in key  # a group is meant by its own name only
    return typed is None or wrong(typed, argument.annotation) is None


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
        *(
            "trainer.epochs",
            "trainer.steps",
            "trainer.max_seconds",
            "trainer.accumulate",
            "dataset.batch_size",
        ),
        *("optimizer.lr", "device.precision", "device.compile", "model.activation", "seed", "name"),
        *(group for group in groups()),
    ]


def default_keys() -> list[str]:
    """Return every dotted key of the configuration that nothing was typed for, and the groups;
    reads files only.
    """
    found: list[str] = []

    def walk(node: Mapping[str, Any], above: str) -> None:
        for name, child in node.items():
            if not name.startswith("_"):
                found.append(f"{above}{name}")
                walk(child if isinstance(child, dict) else {}, f"{above}{name}.")

    walk(compose_files({})[0], "")
    return list(dict.fromkeys([*found, *groups()]))


def arguments_of(node: Any, config: Any) -> Mapping[str, Argument] | None:
    """The arguments of a node's target by name; None if the target is not allowed, which is reported as such."""
    from omegaconf import DictConfig, OmegaConf

    from dltrain.config.policy import locate

    if not isinstance(node, DictConfig) or "_target_" not in node:
        return {}
    try:
        plugins: Any = OmegaConf.to_container(config).get("plugins")  # type: ignore[union-attr]
        return arguments(
            locate(str(node._get_node("_target_")), plugins if isinstance(plugins, list) else [])
        )
    except UsageError:
        return None


def argument_of(config: Any, key: str) -> Argument | None:
    """Return what the signature behind `key` says of it; None where no signature has it."""
    from omegaconf import OmegaConf

    from dltrain.config.settings import Paths, Settings

    above, _, name = key.rpartition(".")
    owners: dict[str, type] = {"": Settings, "paths": Paths}
    if above in owners:
        return arguments(owners[above]).get(name)
    if above == "init":
        return Argument(name, get_args(arguments(Settings)["init"].annotation)[1], None)
    node = OmegaConf.select(
        config, above, throw_on_missing=False, throw_on_resolution_failure=False
    )
    return (arguments_of(node, config) or {}).get(name)
