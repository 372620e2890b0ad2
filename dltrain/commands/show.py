"""`dltrain show KEY|GROUP/OPTION [overrides]`: a key's value, type, range and origin; an option.

Of an option it shows the file and the signature of its target.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dltrain.config.checking.annotations import describe
from dltrain.config.comments import comment_beside, comments
from dltrain.config.compose import Composed, compose, full_key_of
from dltrain.config.composing.source_keys import spellings
from dltrain.config.groups import COMPOSING, conf_dir, groups, option_file, read_option
from dltrain.config.look_up import look_up
from dltrain.config.overrides import parse, raise_problems
from dltrain.config.policy import locate
from dltrain.config.schema import Argument, arguments, as_yaml
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.report.text import table

log = logging.getLogger("dltrain")
FROM_DATA = "from the data or the task"
TARGET = "_target_"


def show(options: Options) -> None:
    """Print each of the named keys and options."""
    if not options.names:
        raise UsageError(
            "show needs a key (dltrain show optimizer.lr) or an option (dltrain show model/cnn)"
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
    """Print an option's file, and the docstring and signature of its target."""
    require_option(group, option)
    node = read_option(group, option)
    log.info(option_file(group, option).read_text(encoding="utf-8").rstrip())
    if TARGET in node:
        target = locate(node[TARGET], compose(options.overrides).config["plugins"])
        docstring = inspect.cleandoc(target.__doc__ or "")
        log.info(f"\n{docstring}\n\n{signature_table(arguments(target), node)}")
    options.outcome[f"{group}/{option}"] = node


def require_option(group: str, option: str) -> None:
    """Raise UsageError for an option that does not exist, with what to type instead."""
    options = groups().get(group, [])
    if option in options:
        return
    close = close_matches(option, options) or close_matches(group, groups())
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"no such option: {group}/{option}{hint} (dltrain list)")


def signature_table(signature: Mapping[str, Argument], node: dict[str, Any]) -> str:
    """Return a line for each argument: its name, its value in `node` or its default, its type."""
    rows = []
    for name, argument in signature.items():
        value = FROM_DATA if argument.required else argument.default
        rows.append((name, _text(node.get(name, value)), describe(argument.annotation)))
    return table(rows)


def show_key(composed: Composed, key: str, options: Options) -> None:
    """Print one key: value, comment, type and range, origin; of a group every key below it."""
    full_key = full_key_of(composed, key)
    value, argument = look_up(composed, full_key)
    is_from_data = value is None and argument is not None and argument.required
    details = argument_rows(argument)
    meaning = comment_of(composed, full_key)
    if meaning:
        details.insert(0, ("means", meaning))
    shown_value = FROM_DATA
    if not is_from_data:
        shown_value = _text(value)
        details.append(("set by", origin(composed, full_key)))
    log.info(f"{full_key}\n{table([('value', shown_value), *details])}")
    if isinstance(value, dict):
        log.info(yaml.safe_dump(value, sort_keys=False).rstrip())
    named = {name.replace(" ", "_"): text for name, text in details}
    options.outcome[key] = {"value": value, **named}


def argument_rows(argument: Argument | None) -> list[tuple[str, str]]:
    """Return what an argument expects, and its default if it has one."""
    if argument is None:
        return []
    rows = [("expects", describe(argument.annotation))]
    if not argument.required:
        rows.append(("default", _text(argument.default)))
    return rows


def comment_of(composed: Composed, key: str) -> str:
    """Return the comment beside `key` in the file of its group, or of the experiment; or ""."""
    meaning = ""
    for group, choice, written in _chosen_files(composed, key):
        option = (choice or "").rpartition("=")[2]
        if option in groups()[group]:
            meaning = comment_beside(group, option, written) or meaning
    return meaning or comments(conf_dir() / "config.yaml").get(key, "")


def origin(composed: Composed, key: str) -> str:
    """Return the override, or the last of the composed files, that set `key`."""
    group, _, rest = key.partition(".")
    override = overriding(composed, key)
    if override is not None:
        return f"the command line: {override}"
    for place in _chosen_files(composed, key):
        file = _file_that_sets(*place)
        if file is not None:
            return file
    if group in groups() and rest:
        return "its default in code"
    return "conf/config.yaml"


def _chosen_files(composed: Composed, key: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield the files that may set `key`: group, option, and the key in that file."""
    written = spellings(key, composed.config)
    for overlay in ("debug", "experiment"):
        for spelling in written:
            yield overlay, composed.choices.get(overlay), spelling
    for spelling in written:
        group, _, rest = spelling.partition(".")
        if group in COMPOSING:
            yield group, rest.partition(".")[0], rest
        elif group in groups():
            yield group, composed.choices.get(group), rest


def overriding(composed: Composed, key: str) -> str | None:
    """Return the override that set `key`, or a whole group with `key` in it; None for none."""
    if key in composed.typed:
        return composed.typed[key]
    group, _, rest = key.partition(".")
    override = composed.typed.get(group)
    if override is None or not _contains(parse([override])[0][0].value(), rest):
        return None
    return override


def _contains(node: Any, key: str) -> bool:
    """Tell if a dotted key leads to a value in nested mappings; a choice is not a mapping."""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _file_that_sets(group: str, choice: str | None, key: str) -> str | None:
    """Return the path of a chosen option's file if it sets `key`; every file sets the key ""."""
    option = (choice or "").rpartition("=")[2]
    if option not in groups()[group]:
        return None
    if key and not _contains(read_option(group, option), key):
        return None
    return _shown_path(group, option)


def _shown_path(group: str, option: str) -> str:
    path = option_file(group, option)
    if path.is_relative_to(conf_dir()):
        return f"conf/{group}/{option}.yaml"
    return str(path)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "..."
    return as_yaml(value)
