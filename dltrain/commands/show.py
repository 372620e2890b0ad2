"""`dltrain show KEY|GROUP/OPTION [overrides]`: a key's value, type, range and where it was set; an option's keys."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import yaml

from dltrain.commands.options import Options
from dltrain.config.compose import Composed, compose, conf_dir, groups, raise_problems, unknown_key
from dltrain.config.policy import locate
from dltrain.config.schema import Argument, arguments, close_matches, describe
from dltrain.config.settings import Settings
from dltrain.errors import UsageError
from dltrain.report.text import table

log = logging.getLogger("dltrain")


def show(options: Options) -> None:
    if not options.names:
        raise UsageError("show what? A key, as in `dltrain show optimizer.lr`, or an option, as in `dltrain show model/cnn`")
    for name in options.names:
        if "/" in name:
            show_option(*name.split("/", 1), options)
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
    text = (conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")
    log.info(text.rstrip())
    node = yaml.safe_load(text) or {}
    if "_target_" in node:
        target = locate(node["_target_"])
        log.info(f"\n{inspect.cleandoc(target.__doc__ or '')}\n\n{signature_table(arguments(target), node)}")
    options.outcome.update({f"{group}/{option}": node})


def signature_table(taken: dict[str, Argument], node: dict[str, Any]) -> str:
    rows = []
    for name, argument in taken.items():
        given = node.get(name, "from the data or the task" if argument.required else argument.default)
        rows.append((name, _text(given) if not isinstance(given, dict) else "...", describe(argument.annotation)))
    return table(rows)


def show_key(composed: Composed, key: str, options: Options) -> None:
    """One key: value, type and range, origin; for a group, every key below it."""
    value, argument = _look_up(composed, key)
    rows = [("value", _text(value))]
    if argument is not None:
        rows.append(("expects", describe(argument.annotation)))
        if not argument.required:
            rows.append(("default", _text(argument.default)))
    rows.append(("set by", origin(composed, key)))
    log.info(f"{key}\n{table(rows)}")
    if isinstance(value, dict):
        log.info(yaml.safe_dump(value, sort_keys=False).rstrip())
    options.outcome.update({key: {"value": value, **dict(rows[1:])}})


def _look_up(composed: Composed, key: str) -> tuple[Any, Argument | None]:
    from omegaconf import OmegaConf

    node: Any = composed.config
    taken: dict[str, Argument] = arguments(Settings)
    for part in key.split("."):
        argument = taken.get(part)
        if not isinstance(node, dict) or (part not in node and argument is None):
            raise UsageError(f"{key}  {unknown_key(OmegaConf.create(composed.config), key)}")
        node = node.get(part, None if argument is None or argument.required else argument.default)
        taken = arguments(locate(node["_target_"])) if isinstance(node, dict) and "_target_" in node else {}
        if argument is not None and isinstance(node, dict) and inspect.isclass(argument.annotation):
            taken = taken or arguments(argument.annotation)
    return node, argument


def origin(composed: Composed, key: str) -> str:
    """The override, or the last of the files composed, that set `key`."""
    for prefix in (key, key.split(".")[0]):
        typed = composed.typed.get(prefix)
        if typed and (prefix == key or "." not in typed.split("=")[0]):
            return f"the command line: {typed}"
    top, _, rest = key.partition(".")
    for overlay in ("debug", "experiment"):
        choice = composed.choices.get(overlay)
        if choice and (file := _file_that_sets(overlay, _option(choice), key)):
            return file
    choice = composed.choices.get(top)
    if top in groups() and choice is not None:
        for option in reversed(_option(choice).strip("[]").split(",")):
            if option and (file := _file_that_sets(top, option.strip(), rest)):
                return file
    if top in groups() and rest:
        return "its default in code"
    return "conf/config.yaml"


def _option(choice: str) -> str:
    return choice.partition("=")[2] or choice


def _file_that_sets(group: str, option: str, key: str) -> str | None:
    path = conf_dir() / group / f"{option}.yaml"
    if not path.is_file():
        return None
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    for part in key.split(".") if key else []:
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return f"conf/{group}/{option}.yaml"


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "..." if isinstance(value, dict) else str(value)
