"""The choices and settings of a run that are not the defaults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dltrain.config.compose import Composed, compose
from dltrain.config.groups import groups
from dltrain.config.source_keys import full_key, has_listed
from dltrain.types import flatten

ALWAYS_NAMED = ("model", "dataset")  # choices that are logged even if they are the defaults
NOT_OF_THE_EXPERIMENT = ("callbacks", "paths", "name", "expect", "plugins", "hydra")
TARGET = "_target_"


def own_settings(composed: Composed, swept: Iterable[str] = ()) -> dict[str, Any]:
    """Return {key: value} of what a run was given: the `swept` keys first, then the others.

    A chosen option stands under its group, as in {"model": "cnn"}; a value under its dotted key.
    Targets, callbacks and paths are left out.
    """
    settings = {**chosen_options(composed), **set_values(composed)}
    values = flatten(composed.public)
    first = {}
    for key in swept:
        name = key.lstrip("+~").replace("/", ".")
        name = full_key(name, has_listed(composed.public))
        typed = composed.typed.get(name, "").partition("=")[2]
        first[name] = settings.get(name, values.get(name, typed))
    return first | settings


def chosen_options(composed: Composed) -> dict[str, Any]:
    """Return the options that are not the defaults, and those of `ALWAYS_NAMED`."""
    defaults = compose([]).choices
    options: dict[str, Any] = {}
    for group in dict.fromkeys([*ALWAYS_NAMED, *composed.choices]):
        option = composed.choices.get(group)
        is_default = option == defaults.get(group)
        if option is None or (is_default and group not in ALWAYS_NAMED):
            continue
        if belongs(group):
            options[group] = option
    for group, text in composed.typed.items():
        if group not in groups():
            continue
        if is_node(text) and group in options:  # a class of the user's own
            target = composed.public.get(group, {}).get(TARGET, "")
            options[group] = str(target).rpartition(".")[2]
        elif belongs(group) and not is_node(text):
            options.setdefault(group, text.partition("=")[2])
    return options


def set_values(composed: Composed) -> dict[str, Any]:
    """Return the typed values that are not those of the chosen options."""
    choices = []
    typed = []
    for key, text in composed.typed.items():
        if key in groups() and not is_node(text):
            choices.append(text)
        else:
            typed.append(key.replace("/", "."))
    defaults = flatten(compose(choices).public)
    values = {}
    for key, value in flatten(composed.public).items():
        is_default = key in defaults and defaults[key] == value
        if not is_default and belongs(key) and _is_below(key, typed):
            values[key] = value
    return values


def _is_below(key: str, owners: list[str]) -> bool:
    """Return True if `key` is one of `owners` or stands below one."""
    return any(key == owner or key.startswith(f"{owner}.") for owner in owners)


def is_node(text: str) -> bool:
    """Return True if an override gives a mapping, not the name of an option."""
    return text.partition("=")[2].lstrip().startswith("{")


def belongs(key: str) -> bool:
    """Return True if a key is of the experiment itself, not of its surroundings or a target."""
    first, _, _ = key.partition(".")
    return first not in NOT_OF_THE_EXPERIMENT and not key.endswith(TARGET)
