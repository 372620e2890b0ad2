"""The groups and options of conf/ and of the user's own folder (--config-dir)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dltrain.config.composing.defaults import GLOBAL, package_header, parse_defaults
from dltrain.config.composing.shared import shared
from dltrain.config.read import read_mapping
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError

OVERLAYS = ("experiment", "debug")  # groups that set keys anywhere, and may be left out
COMPOSING = (
    "regularization",
    "preprocessing",
)  # groups of which any number is chosen, each under its own name

COMMAND_GROUPS = ("launcher", "sweep")  # settings of a sweep, not of its runs

FOR_PROGRAMS = ("@package", "yaml-language-server")  # begin comments that nobody reads

own_dir: ContextVar[Path | None] = ContextVar("own_dir", default=None)  # what --config-dir named


@functools.cache
def conf_dir() -> Path:
    """Return the folder of the YAML files: in the installed package, or beside it in a checkout."""
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
        UsageError: the folder does not exist; a file in it would not be read, as it is not in a
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
    expected = f"options are {folder}/GROUP/NAME.yaml"
    paths = _visible_files(folder)
    in_groups = [path for path in paths if path.parent.parent == folder]
    if not in_groups:
        raise UsageError(f"--config-dir {folder}: nothing in it can be chosen; {expected}")
    for path in in_groups:
        _check_name(path, folder)
    for path in in_groups:
        _check_content(path)
    elsewhere = sorted(set(paths) - set(in_groups))
    if elsewhere:
        raise UsageError(f"{elsewhere[0]} would not be read: {expected}")


def _visible_files(folder: Path) -> list[Path]:
    """Return the YAML files of a folder, at any depth, without hidden ones."""
    visible = []
    for path in folder.rglob("*.yaml"):
        names = path.relative_to(folder).parts
        if not any(name.startswith(".") for name in names):
            visible.append(path)
    return sorted(visible)


def _check_name(path: Path, folder: Path) -> None:
    """Raise a UsageError for a file that is not in a group, or whose name dltrain uses itself."""
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
        raise UsageError(f"{path}: hydra.* cannot be set")
    parse_defaults(path, node.get("defaults"), _our_options())
    header = package_header(path.read_text(encoding="utf-8-sig"))
    if header == "_group_":  # in Hydra 1.2 and later it no longer means the file's group
        raise UsageError(f"{path}: # @package _group_ is the default: leave the line out")
    if path.parent.name in OVERLAYS and header != GLOBAL:
        raise UsageError(f"{path}: the first line must be # @package {GLOBAL}")


def groups() -> dict[str, list[str]]:
    """Return {group: options}, from the files."""
    return _groups_with(own_dir.get())


@shared
def _groups_with(own: Path | None) -> dict[str, list[str]]:
    own_options: dict[str, list[str]] = {}
    if own:
        own_options = _options_in(own)
    options = {}
    for group, names in _our_options().items():
        options[group] = sorted([*names, *own_options.get(group, [])])
    return options


@functools.cache
def _our_options() -> dict[str, list[str]]:
    return _options_in(conf_dir())


def _options_in(folder: Path) -> dict[str, list[str]]:
    options = {}
    for group in sorted(folder.iterdir()):
        if group.is_dir():
            options[group.name] = sorted(path.stem for path in group.glob("*.yaml"))
    return options


def option_file(group: str, option: str) -> Path:
    """Return the file of an option: the user's own if it exists, otherwise that of dltrain."""
    name = Path(group) / f"{option}.yaml"
    own = own_dir.get()
    if own is not None and (own / name).is_file():
        return own / name
    return conf_dir() / name


def read_option(group: str, option: str) -> dict[str, Any]:
    """Return an option's file as plain data; UsageError if it is not a YAML mapping."""
    path = option_file(group, option)
    if path.is_relative_to(conf_dir()):
        return read_ours(path)
    return _read_own(path)


@shared
def _read_own(path: Path) -> dict[str, Any]:
    """Return a file of the user's own folder as plain data, which must not be changed."""
    return read_mapping(path, UsageError)


@functools.cache
def read_ours(path: Path) -> dict[str, Any]:
    """Return a file of conf/ as plain data, which must not be changed."""
    import yaml

    # The C loader is ten times as fast, but not every build of PyYAML has it.
    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = loader_class(path.read_bytes())
    try:
        return loader.get_single_data() or {}
    finally:
        loader.dispose()


def summary(group: str, option: str) -> str:
    """Return the first comment of an option's file, which describes it in a line."""
    with option_file(group, option).open(encoding="utf-8") as file:
        comments = (line for line in file if line.startswith("#"))
        texts = (line for line in comments if not any(mark in line for mark in FOR_PROGRAMS))
        return next(texts, "").lstrip("# ").strip()
