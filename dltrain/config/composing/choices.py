"""Overrides that choose options of groups: GROUP=OPTION, GROUP=[OPTION,...] and ~GROUP=OPTION."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dltrain.config.groups import COMPOSING, OVERLAYS, groups
from dltrain.config.overrides import Problem
from dltrain.config.suggestions.other_programs import option_for, unknown_option
from dltrain.shell import setting, shell_word


@dataclass
class OverridesByKind:
    """Overrides by kind, as Hydra parsed them."""

    choices: list[Any] = field(default_factory=list)  # GROUP=OPTION
    deletions: list[Any] = field(default_factory=list)  # ~GROUP or ~GROUP=OPTION
    values: list[Any] = field(default_factory=list)  # KEY=VALUE, GROUP={...} and ~KEY


def sort_overrides(parsed: list[Any]) -> OverridesByKind:
    """Sort overrides by kind."""
    kinds = OverridesByKind()
    for override in parsed:
        if override.key_or_group not in groups():
            kinds.values.append(override)
        elif override.is_delete():
            kinds.deletions.append(override)
        elif isinstance(override.value(), dict):
            kinds.values.append(override)
        else:
            kinds.choices.append(override)
    return kinds


def valid_choices(overrides: OverridesByKind) -> tuple[list[Any], list[Problem]]:
    """Return the choices that can be composed, and the problems of the others.

    A deleted overlay (experiment=null, ~experiment) is no longer among the choices.
    """
    valid: list[Any] = []
    problems: list[Problem] = []
    for override in overrides.choices:
        own_problems = option_problems(override)
        if own_problems:
            problems += own_problems
            continue
        if override.value() is None:
            valid = _without(valid, override.key_or_group)
        else:
            valid.append(override)
    for override in overrides.deletions:
        overlay = override.key_or_group
        if overlay not in OVERLAYS:
            continue
        problem = _deletion_problem(valid, override)
        if problem is None:
            valid = _without(valid, overlay)
        else:
            problems.append((override.input_line, problem))
    return valid, problems


def _without(choices: list[Any], group: str) -> list[Any]:
    return [override for override in choices if override.key_or_group != group]


def _deletion_problem(chosen: list[Any], override: Any) -> str | None:
    """Return the problem of deleting an option of an overlay that is not chosen, else None."""
    overlay = override.key_or_group
    option = override.value()
    options = [other.value() for other in chosen if other.key_or_group == overlay]
    if option is None or option in options[-1:]:
        return None
    return f"{overlay}={option} is not chosen"


def option_problems(override: Any) -> list[Problem]:
    """Return what is wrong with the options that an override chooses."""
    group = override.key_or_group
    typed = override.input_line
    value = override.value()
    if value is None:
        if group in OVERLAYS:
            return []
        return [(typed, cannot_be_empty(group))]
    if not isinstance(value, list):
        return _unknown_options(group, {typed: str(value)})
    options = [str(option) for option in value]
    if len(options) == 1:
        return _unknown_options(group, {typed: options[0]})
    if group not in COMPOSING:
        return [(typed, _one_choice(group, options))]
    return _unknown_options(group, {f"{group}: {option}": option for option in options})


def _unknown_options(group: str, options: dict[str, str]) -> list[Problem]:
    """Return the problems of {what was typed: option} that do not exist."""
    problems = []
    for typed, option in options.items():
        if option not in groups()[group]:
            problems.append((typed, unknown_option(group, option)))
    return problems


def _one_choice(group: str, options: list[str]) -> str:
    """Return what to type instead of several options of a group that takes one."""
    suggestions = [option_for(group, option) for option in options]
    settings = [text for text in suggestions if text is not None and "=" in text]
    if settings and len(settings) == len(options):  # callbacks=[EarlyStopping,ModelCheckpoint]
        return f"{group} takes one option; did you mean {' '.join(settings)}?"
    if options and options[0] not in groups()[group] and suggestions[0]:  # device=[0,1]
        return unknown_option(group, options[0])
    return f"{group} takes one option; several values are a sweep: dltrain -m {group}=a,b"


def cannot_be_empty(group: str) -> str:
    """Return the problem of a group without an option, and what to type instead."""
    if group == "callbacks":
        return "to turn the callbacks off: callbacks=quiet"
    if group in COMPOSING:
        return f"to choose no option: {shell_word(f'{group}=[]')}"
    neutral = option_for(group, "null") or "NAME"
    return f"a run needs this group: choose {group}={neutral} (dltrain list {group})"


def remove_option(config: Any, override: Any) -> list[Problem]:
    """Remove an option of a composing group from `config`, a DictConfig; return the problems."""
    from omegaconf import open_dict

    group = override.key_or_group
    option = override.value()
    if group not in COMPOSING or not isinstance(option, str) or not option:
        return [(override.input_line, cannot_be_empty(group))]
    if option not in config[group]:
        chosen = setting(group, [str(name) for name in config[group]])
        return [(override.input_line, f"{option} is not chosen: {chosen}")]
    with open_dict(config):
        del config[group][option]
    return []
