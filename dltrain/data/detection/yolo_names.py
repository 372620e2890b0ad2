"""The class names of a YOLO data set: of a .yaml file, or of a text file with a name in each line."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from dltrain.data.io.plain_text import read_text
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
PLAIN = (
    "classes.txt",
    "*.names",
    "labels/classes.txt",
    "labels/*/classes.txt",
    "*/labels/classes.txt",
)  # in this order
YAML = ("*.yaml", "*.yml", "*.YAML", "*.YML")


@dataclass(frozen=True)
class ClassNames:
    """The names of the classes, or none and only their number, and the file that says so.

    `keypoints` is how many numbers a line of a label file has after those of its box (`kpt_shape`).
    """

    names: tuple[str, ...] = ()
    count: int = 0
    keypoints: int = 0
    path: Path | None = None


def class_names(folder: Path) -> ClassNames:
    """Return the class names that the files of a data set say. InputError, with file and line, for
    names that cannot be used, and where two files say different ones.
    """
    described = [
        of_yaml(path)
        for path in sorted({path for pattern in YAML for path in folder.glob(pattern)})
    ]
    named = [one for one in described if one.names]
    others = [one for one in named if one.names != named[0].names]
    if others:
        raise InputError(
            f"{named[0].path} and {others[0].path} have different names; remove or rename one of the files"
        )
    listed = next(
        (of_lines(path) for pattern in PLAIN for path in sorted(folder.glob(pattern))), ClassNames()
    )
    if not named:
        counted = next((one for one in described if one.count or one.keypoints), ClassNames())
        return replace(counted, names=listed.names) if listed.names else counted
    if listed.names and listed.names != named[0].names:
        log.warning(f"{listed.path} has other names than {named[0].path}, and is not read")
    return named[0]


def of_lines(path: Path) -> ClassNames:
    """Return the names of a file with a name in each line."""
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    return ClassNames(
        checked(lines, [f"{path}:{number}" for number in range(1, len(lines) + 1)]), path=path
    )


def of_yaml(path: Path) -> ClassNames:
    """Return what a .yaml file says of the classes: `names`, a list or a mapping of numbers to
    names, or `nc`; and `kpt_shape`, how many keypoints of how many numbers each object has.

    A name is the text as it is written: `yes` is no truth value, `1.0` no number.
    """
    try:
        root = yaml.BaseLoader(read_text(path)).get_single_node()
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise InputError(f"{path}:{line}: this is not YAML: {e.problem}") from e
    except (yaml.YAMLError, RecursionError) as e:
        raise InputError(f"{path} cannot be read as YAML: {e}") from e
    entries = entries_of(root, path)
    names = entries.get("names")
    count, shape = whole_number(entries.get("nc")), entries.get("kpt_shape")
    keypoints = (
        math.prod(map(whole_number, shape.value)) if isinstance(shape, yaml.SequenceNode) else 0
    )
    if names is None or (isinstance(names, yaml.ScalarNode) and not names.value):
        return ClassNames((), count, keypoints, path)
    nodes = name_nodes(names, path)
    places = [f"{path}:{node.start_mark.line + 1}" for node in nodes]
    for node, at in zip(nodes, places, strict=True):
        if not isinstance(node, yaml.ScalarNode):
            raise InputError(f"{at}: expected the name of a class, got {kind_of(node)}")
    found = checked([node.value.strip() for node in nodes], places)
    if count and count != len(found):
        at = f"{path}:{entries['nc'].start_mark.line + 1}"
        raise InputError(f"{at}: nc is {count}, but names has {len(found)}")
    return ClassNames(found, len(found), keypoints, path)


def entries_of(root: yaml.Node | None, path: Path) -> dict[str, yaml.Node]:
    """Return the values of a mapping by their keys.

    InputError, with the line, for a key that is there twice.
    """
    entries: dict[str, yaml.Node] = {}
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in entries:
            raise InputError(f"{path}:{key.start_mark.line + 1}: {key.value} is there twice")
        entries[key.value] = value
    return entries


def name_nodes(names: yaml.Node, path: Path) -> list[yaml.Node]:
    """Return the names of a list, or of a mapping of numbers from 0 on. InputError for anything
    else.
    """
    at = f"{path}:{names.start_mark.line + 1}"
    if isinstance(names, yaml.SequenceNode):
        return list(names.value)
    if not isinstance(names, yaml.MappingNode):
        raise InputError(
            f"{at}: names is {names.value!r}; expected a list of names, or a mapping of numbers to names"
        )
    numbered: dict[int, yaml.Node] = {}
    for key, value in names.value:
        number = whole_number(key, default=-1)
        where = f"{path}:{key.start_mark.line + 1}"
        if number < 0:
            raise InputError(f"{where}: expected the number of a class, got {key.value!r}")
        if number in numbered:
            raise InputError(f"{where}: class {number} has two names")
        numbered[number] = value
    if sorted(numbered) != list(range(len(numbered))):
        missing = next(number for number in range(len(numbered)) if number not in numbered)
        raise InputError(
            f"{at}: names are numbered from 0 on, without gaps; class {missing} has none"
        )
    return [numbered[number] for number in range(len(numbered))]


def checked(names: list[str], places: list[str]) -> tuple[str, ...]:
    """Return the names. InputError, with the place, for an empty one and for one that two classes
    have.
    """
    first: dict[str, int] = {}
    for number, (name, at) in enumerate(zip(names, places, strict=True)):
        if not name:
            raise InputError(f"{at}: class {number} has no name")
        if name in first:
            raise InputError(f"{at}: classes {first[name]} and {number} are both called {name}")
        first[name] = number
    return tuple(names)


def whole_number(node: yaml.Node | None, default: int = 0) -> int:
    """Return the whole number that a node has, of at most nine digits; `default` for anything else."""
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else default


def kind_of(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
