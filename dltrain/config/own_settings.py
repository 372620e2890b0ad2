"""The choices and settings of a run that are not the defaults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dltrain.config.compose import Composed, compose
from dltrain.config.composing.source_keys import full_key, has_listed
from dltrain.config.groups import COMMAND_GROUPS, groups
from dltrain.config.policy import under
from dltrain.types import flatten

ALWAYS_NAMED = ("model", "dataset")  # choices that are logged even if they are the defaults
NOT_OF_THE_EXPERIMENT = (
    "callbacks",
    "paths",
    "name",
    "expect",
    "plugins",
    "resume",
    "hydra",
    *COMMAND_GROUPS,
)
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
    options = _named_choices(composed.choices)
    typed = {group: text for group, text in composed.typed.items() if group in groups()}
    for group, text in typed.items():
        if not is_node(text):
            if belongs(group):
                options.setdefault(group, text.partition("=")[2])
        elif group in options:  # a class of the user's own
            node = composed.public.get(group, {})
            options[group] = str(node.get(TARGET, "")).rpartition(".")[2]
    return options


def _named_choices(choices: dict[str, Any]) -> dict[str, Any]:
    """Return the choices that are named: those that are not the defaults, and `ALWAYS_NAMED`."""
    defaults = compose([]).choices
    named = {}
    for group in dict.fromkeys([*ALWAYS_NAMED, *choices]):
        option = choices.get(group)
        is_shown = group in ALWAYS_NAMED or option != defaults.get(group)
        if option is not None and is_shown and belongs(group):
            named[group] = option
    return named


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
        is_typed = under(key, typed)
        if is_typed and not is_default and belongs(key):
            values[key] = value
    return values


def is_node(text: str) -> bool:
    """Return True if an override gives a mapping, not the name of an option."""
    return text.partition("=")[2].lstrip().startswith("{")


def belongs(key: str) -> bool:
    """Return True if a key is of the experiment itself, not of its surroundings or a target."""
    first, _, _ = key.partition(".")
    return first not in NOT_OF_THE_EXPERIMENT and not key.endswith(TARGET)
