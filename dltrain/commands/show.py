"""`dltrain show KEY|GROUP/OPTION [overrides]`: a key's value, type, range and where it was set; an option's keys."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import yaml

from dltrain.config.annotations import describe
from dltrain.config.compose import Composed, compose, full_key_of
from dltrain.config.groups import COMPOSING, conf_dir, groups, option_file, read_option
from dltrain.config.look_up import look_up
from dltrain.config.overrides import parse, raise_problems
from dltrain.config.policy import locate
from dltrain.config.schema import Argument, arguments, as_yaml
from dltrain.config.spelling import close_matches
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.report.text import table

log = logging.getLogger("dltrain")
FROM_DATA = "from the data or the task"


def show(options: Options) -> None:
    if not options.names:
        raise UsageError(
            "show what? A key (dltrain show optimizer.lr) or an option (dltrain show model/cnn)"
        )
    for name in options.names:
        if "/" in name:
            group, _, option = name.partition("/")
            show_option(group, option, options)
        else:
            composed = compose(options.overrides)
            raise_problems(composed.problems)
            show_key(composed, name, options)


def show_option(group: str, option: str, options: Options) -> None:
    """One option's file, and what its target says of itself."""
    if group not in groups() or option not in groups()[group]:
        close = close_matches(option, groups().get(group, [])) or close_matches(group, groups())
        meant = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"no such option: {group}/{option}{meant} (dltrain list)")
    node = read_option(group, option)
    log.info(option_file(group, option).read_text(encoding="utf-8").rstrip())
    if "_target_" in node:
        target = locate(node["_target_"], compose(options.overrides).config["plugins"])
        log.info(
            f"\n{inspect.cleandoc(target.__doc__ or '')}\n\n{signature_table(arguments(target), node)}"
        )
    options.outcome.update({f"{group}/{option}": node})


def signature_table(taken: Mapping[str, Argument], node: dict[str, Any]) -> str:
    rows = []
    for name, argument in taken.items():
        given = node.get(name, FROM_DATA if argument.required else argument.default)
        rows.append(
            (
                name,
                _text(given) if not isinstance(given, dict) else "...",
                describe(argument.annotation),
            )
        )
    return table(rows)


def show_key(composed: Composed, key: str, options: Options) -> None:
    """Print one key: value, type and range, origin; of a group every key below it."""
    typed_key = key
    key = full_key_of(composed, key)
    value, argument = look_up(composed, key)
    from_data = value is None and argument is not None and argument.required
    rows = [("value", FROM_DATA if from_data else _text(value))]
    if argument is not None:
        rows.append(("expects", describe(argument.annotation)))
        if not argument.required:
            rows.append(("default", _text(argument.default)))
    if not from_data:
        rows.append(("set by", origin(composed, key)))
    log.info(f"{key}\n{table(rows)}")
    if isinstance(value, dict):
        log.info(yaml.safe_dump(value, sort_keys=False).rstrip())
    figures = {name.replace(" ", "_"): text for name, text in rows[1:]}
    options.outcome.update({typed_key: {"value": value, **figures}})


def origin(composed: Composed, key: str) -> str:
    """The override, or the last of the files composed, that set `key`."""
    top, _, rest = key.partition(".")
    if key in composed.typed:
        return f"the command line: {composed.typed[key]}"
    if (typed := composed.typed.get(top)) and _sets(typed, rest):
        return f"the command line: {typed}"
    for overlay in ("debug", "experiment"):
        choice = composed.choices.get(overlay)
        if choice and (file := _file_that_sets(overlay, _option(choice), key)):
            return file
    choice = rest.partition(".")[0] if top in COMPOSING else composed.choices.get(top)
    if top in groups() and choice and (file := _file_that_sets(top, choice, rest)):
        return file
    if top in groups() and rest:
        return "its default in code"
    return "conf/config.yaml"


def _sets(typed: str, key: str) -> bool:
    """Whether an override of a whole group, such as optimizer={lr: 1}, sets `key` in it; a choice does not."""
    node = parse([typed])[0][0].value()
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _option(choice: str) -> str:
    return choice.partition("=")[2] or choice


def _file_that_sets(group: str, option: str, key: str) -> str | None:
    if option not in groups()[group]:
        return None
    node: Any = read_option(group, option)
    for part in key.split(".") if key else []:
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    path = option_file(group, option)
    return f"conf/{group}/{option}.yaml" if path.is_relative_to(conf_dir()) else str(path)


def _text(value: Any) -> str:
    return "..." if isinstance(value, dict) else as_yaml(value)
