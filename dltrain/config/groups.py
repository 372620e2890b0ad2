"""What can be chosen: the groups and options of conf/, and of the folder that --config-dir names."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dltrain.config.read import read_mapping
from dltrain.config.spelling import close_matches
from dltrain.errors import UsageError

OVERLAYS = ("experiment", "debug")  # groups that set keys anywhere, and may be left out
COMPOSING = (
    "regularization",
    "preprocessing",
)  # groups of which any number is chosen, each under its own name

own_dir: ContextVar[Path | None] = ContextVar("own_dir", default=None)  # what --config-dir named


@functools.cache
def conf_dir() -> Path:
    """The folder of the YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise UsageError(
        f"this installation has no conf folder beside {package}; install dltrain again"
    )


@contextmanager
def config_dir(folder: str | None) -> Iterator[None]:
    """Inside, options are also those of a folder of the user's: `folder`/model/mine.yaml is model=mine.

    UsageError if it is none, for files that would not be read: a folder that is no group, and an option that dltrain
    has too (a name means the same wherever it is typed; neither hides the other), and for files that may not be read:
    what is no YAML, and what chooses by another way than GROUP: NAME, for Hydra would follow it out of the folder.
    """
    if folder is not None:
        _check_config_dir(Path(folder))
    token = own_dir.set(Path(folder).absolute() if folder is not None else None)
    try:
        yield
    finally:
        own_dir.reset(token)


def _check_config_dir(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"--config-dir {folder}: there is no such folder")
    ours = _our_options()
    found = sorted(path for path in folder.glob("*/*.yaml") if not path.parent.name.startswith("."))
    if not found:
        raise UsageError(
            f"--config-dir {folder}: nothing in it can be chosen; options are {folder}/GROUP/NAME.yaml"
        )
    for path in found:
        group, option = path.parent.name, path.stem
        if group not in ours:
            close = close_matches(group, ours)
            meant = (
                f"did you mean {folder}/{close[0]}?" if close else f"groups are {', '.join(ours)}"
            )
            raise UsageError(f"{path}: {group} is no group; {meant}")
        if option in ours[group]:
            raise UsageError(
                f"{path}: dltrain has a {group}={option} of its own; give yours another name"
            )
        node = read_mapping(path, UsageError)
        if "hydra" in node:
            raise UsageError(f"{path}: hydra.* is not to be set")
        _check_defaults(path, node.get("defaults"))


def _check_defaults(path: Path, defaults: Any) -> None:
    if not isinstance(defaults, list | None):
        raise UsageError(
            f"{path}: defaults: expected a list, such as [mlp, override /dataset: mnist]"
        )
    for entry in defaults or []:
        if not (isinstance(entry, str) or (isinstance(entry, dict) and len(entry) == 1)):
            raise UsageError(f"{path}: defaults: expected NAME or GROUP: NAME, got {entry}")
        for group, option in entry.items() if isinstance(entry, dict) else [("", entry)]:
            group = re.sub(r"^((override|optional) +)*/?", "", group).partition("@")[0]
            if group and group not in _our_options():
                why = "is Hydra's own" if group.partition("/")[0] == "hydra" else "is no group"
                raise UsageError(
                    f"{path}: defaults: {group} {why}; groups are {', '.join(_our_options())}"
                )
            for name in option if isinstance(option, list) else [option]:
                if name is not None and not re.fullmatch(r"[\w-]+", str(name)):
                    raise UsageError(
                        f"{path}: defaults: {str(name)[:60]!r} is not the name of an option (dltrain list)"
                    )


def groups() -> dict[str, list[str]]:
    """{group: options}, from the files."""
    ours, own = _our_options(), own_dir.get()
    theirs = _options_in(own) if own else {}
    return {group: sorted([*options, *theirs.get(group, [])]) for group, options in ours.items()}


@functools.cache
def _our_options() -> dict[str, list[str]]:
    return _options_in(conf_dir())


def _options_in(folder: Path) -> dict[str, list[str]]:
    groups = sorted(group for group in folder.iterdir() if group.is_dir())
    return {group.name: sorted(path.stem for path in group.glob("*.yaml")) for group in groups}


def option_file(group: str, option: str) -> Path:
    """Where an option stands: the user's own file if there is one, else dltrain's."""
    name = Path(group) / f"{option}.yaml"
    own = own_dir.get()
    return own / name if own and (own / name).is_file() else conf_dir() / name


def read_option(group: str, option: str) -> dict[str, Any]:
    """An option's file as plain data; UsageError if it is no YAML or no mapping."""
    path = option_file(group, option)
    return read_ours(path) if path.is_relative_to(conf_dir()) else read_mapping(path, UsageError)


@functools.cache
def read_ours(path: Path) -> dict[str, Any]:
    """A file of conf/ as plain data, to be read only."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(
        path.read_bytes()
    )  # ten times as fast where it is built
    try:
        return loader.get_single_data() or {}
    finally:
        loader.dispose()


def summary(group: str, option: str) -> str:
    """The first comment of an option's file: what it is, in a line."""
    with option_file(group, option).open(encoding="utf-8") as file:
        comments = (line for line in file if line.startswith("#") and "@package" not in line)
        return next(comments, "").lstrip("# ").strip()
