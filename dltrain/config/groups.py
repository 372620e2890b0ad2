"""What can be chosen: the groups and options of conf/, and of the folder that --config-dir names."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dltrain.config.defaults import GLOBAL, package_header, parse_defaults
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
    """Add the options of a user's own folder: `folder`/model/mine.yaml is model=mine inside.

    Raises:
        UsageError: the folder does not exist; a file in it would not be read, as its folder is not a
            group; an option has the name of one of dltrain's own (neither may hide the other); or
            a file is not in the grammar of `defaults.parse_defaults`.
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
        raise UsageError(f"--config-dir {folder}: the folder does not exist")
    paths = sorted(path for path in folder.rglob("*.yaml") if not _is_hidden(path, folder))
    in_groups = [path for path in paths if path.parent.parent == folder]
    if not in_groups:
        where = f"options are {folder}/GROUP/NAME.yaml"
        raise UsageError(f"--config-dir {folder}: nothing in it can be chosen; {where}")
    for path in in_groups:
        _check_name(path, folder)
    for path in in_groups:
        _check_content(path)
    for path in paths:
        if path not in in_groups:
            raise UsageError(f"{path} would not be read: options are {folder}/GROUP/NAME.yaml")


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(name.startswith(".") for name in path.relative_to(folder).parts)


def _check_name(path: Path, folder: Path) -> None:
    """UsageError if an option's file is not in a group, or dltrain has an option of that name."""
    ours = _our_options()
    group = path.parent.name
    if group not in ours:
        close = close_matches(group, ours)
        meant = f"did you mean {folder}/{close[0]}?" if close else f"groups are {', '.join(ours)}"
        raise UsageError(f"{path}: {group} is not a group; {meant}")
    if path.stem in ours[group]:
        name = f"{group}={path.stem}"
        raise UsageError(f"{path}: dltrain has a {name} of its own; give yours another name")


def _check_content(path: Path) -> None:
    node = read_mapping(path, UsageError)
    if "hydra" in node:
        raise UsageError(f"{path}: hydra.* is not to be set")
    parse_defaults(path, node.get("defaults"), _our_options())
    header = package_header(path.read_text(encoding="utf-8-sig"))
    if header == "_group_":  # in Hydra 1.2 and later it no longer means the file's group
        raise UsageError(f"{path}: # @package _group_ is the default: leave the line out")
    if path.parent.name in OVERLAYS and header != GLOBAL:
        raise UsageError(f"{path}: the first line of such a file has to be # @package {GLOBAL}")


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
