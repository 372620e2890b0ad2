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
    found = {**chosen_options(composed), **set_values(composed)}
    values = flatten(composed.public)
    first = {}
    for key in swept:
        name = key.lstrip("+~").replace("/", ".")
        name = full_key(name, has_listed(composed.public))
        typed = composed.typed.get(name, "").partition("=")[2]
        first[name] = found.get(name, values.get(name, typed))
    return first | found


def chosen_options(composed: Composed) -> dict[str, Any]:
    """Return the options that are not the defaults, and those of `ALWAYS_NAMED`."""
    defaults = compose([]).choices
    found = {}
    for group in dict.fromkeys([*ALWAYS_NAMED, *composed.choices]):
        choice = composed.choices.get(group)
        named = group in ALWAYS_NAMED or choice != defaults.get(group)
        if choice is not None and named and belongs(group):
            found[group] = choice
    for group, text in composed.typed.items():
        if group in groups() and group not in found and belongs(group) and not is_node(text):
            found[group] = text.partition("=")[2]
    for group in set(found) & composed.typed.keys():
        if is_node(composed.typed[group]):  # of the user's own
            target = composed.public.get(group, {}).get(TARGET, "")
            found[group] = str(target).rpartition(".")[2]
    return found


def set_values(composed: Composed) -> dict[str, Any]:
    """Return the typed values, as far as they are other ones than those of the chosen options."""
    choices = []
    typed = []
    for key, text in composed.typed.items():
        if key in groups() and not is_node(text):
            choices.append(text)
        else:
            typed.append(key.replace("/", "."))
    defaults = flatten(compose(choices).public)
    values = flatten(composed.public)
    found = {}
    for key, value in values.items():
        is_typed = any(key == one or key.startswith(f"{one}.") for one in typed)
        if is_typed and belongs(key) and (key not in defaults or defaults[key] != value):
            found[key] = value
    return found


def is_node(text: str) -> bool:
    """Tell if an override gives a mapping, not the name of an option."""
    return text.partition("=")[2].lstrip().startswith("{")


def belongs(key: str) -> bool:
    """Tell if a key is of the experiment itself, not of its surroundings or of what builds it."""
    first, _, _ = key.partition(".")
    return first not in NOT_OF_THE_EXPERIMENT and not key.endswith(TARGET)
