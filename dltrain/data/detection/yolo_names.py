"""The class names of a YOLO data set, in a .yaml file or a text file."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from dltrain.data.io.text_encoding import read_text
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
MAX_DIGITS = 9
# Text files with a name in each line; the first that is there is read.
TEXT_PATTERNS = (
    *("classes.txt", "*.names"),
    *("labels/classes.txt", "labels/*/classes.txt", "*/labels/classes.txt"),
)
YAML_PATTERNS = ("*.yaml", "*.yml", "*.YAML", "*.YML")


@dataclass(frozen=True)
class ClassNames:
    """The names of the classes, or only their number, and the file that has them.

    `keypoints` is how many numbers a line of a label file has after those of its box (`kpt_shape`).
    """

    names: tuple[str, ...] = ()
    count: int = 0
    keypoints: int = 0
    path: Path | None = None


def class_names(folder: Path) -> ClassNames:
    """Return the class names in the files of a data set.

    Raises InputError, with file and line, for names that cannot be used, and if two files have
    different ones.
    """
    in_yaml = list(map(names_in_yaml, matching(folder, YAML_PATTERNS)))
    in_text = names_in_text(folder)
    with_names = [one for one in in_yaml if one.names]
    if not with_names:
        return replace(first_with_numbers(in_yaml), names=in_text.names)
    chosen = with_names[0]
    for other in with_names:
        check_same(chosen, other)
    if in_text.names not in ((), chosen.names):
        log.warning(f"{in_text.path} has other names than {chosen.path}, and is not read")
    return chosen


def matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the sorted files of a folder that match a pattern."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def check_same(first: ClassNames, other: ClassNames) -> None:
    """Raise InputError if two files have different names."""
    if other.names != first.names:
        raise InputError(
            f"{first.path} and {other.path} have different names; remove or rename one of the files"
        )


def first_with_numbers(described: Sequence[ClassNames]) -> ClassNames:
    """Return the first that has the number of classes or of keypoints; an empty one if none has."""
    for one in described:
        if one.count or one.keypoints:
            return one
    return ClassNames()


def names_in_text(folder: Path) -> ClassNames:
    """Return the names in the first text file of a data set that has a name in each line."""
    for pattern in TEXT_PATTERNS:
        for path in sorted(folder.glob(pattern)):
            lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
            places = [f"{path}:{number}" for number in range(1, len(lines) + 1)]
            return ClassNames(checked(lines, places), path=path)
    return ClassNames()


def names_in_yaml(path: Path) -> ClassNames:
    """Return what a .yaml file says about the classes.

    They are `names`, a list or a mapping of numbers to names, or `nc`, their number; and
    `kpt_shape`, how many keypoints of how many numbers each object has. A name is the text as it is
    written: `yes` is not a truth value and `1.0` not a number.
    """
    entries = entries_of(root_node(path), path)
    count = whole_number(entries.get("nc"))
    keypoints = keypoint_numbers(entries.get("kpt_shape"))
    names = written_names(entries.get("names"), path)
    if names and count not in (0, len(names)):
        place = place_of(entries["nc"], path)
        raise InputError(f"{place}: nc is {count}, but names has {len(names)}")
    return ClassNames(names, len(names) or count, keypoints, path)


def written_names(names: yaml.Node | None, path: Path) -> tuple[str, ...]:
    """Return the names of the classes in the node `names`; none if it is absent or empty."""
    is_empty = isinstance(names, yaml.ScalarNode) and not names.value
    if names is None or is_empty:
        return ()
    nodes = name_nodes(names, path)
    places = [place_of(node, path) for node in nodes]
    return checked([name_in(node, path) for node in nodes], places)


def name_in(node: yaml.Node, path: Path) -> str:
    """Return the name of a class in a node; InputError for a list or a mapping."""
    if not isinstance(node, yaml.ScalarNode):
        place = place_of(node, path)
        raise InputError(f"{place}: expected the name of a class, got {kind_of(node)}")
    return str(node.value).strip()


def root_node(path: Path) -> yaml.Node | None:
    """Return the root of a .yaml file, with scalars as text; InputError if it is broken."""
    try:
        root: yaml.Node | None = yaml.BaseLoader(read_text(path)).get_single_node()
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise InputError(f"{path}:{line}: this is not YAML: {e.problem}") from e
    except (yaml.YAMLError, RecursionError) as e:
        raise InputError(f"{path} cannot be read as YAML: {e}") from e
    return root


def keypoint_numbers(shape: yaml.Node | None) -> int:
    """Return how many numbers a line has for keypoints, by `kpt_shape`; 0 without it."""
    if not isinstance(shape, yaml.SequenceNode):
        return 0
    return math.prod(map(whole_number, shape.value))


def place_of(node: yaml.Node, path: Path) -> str:
    """Return where a node stands, as file:line."""
    return f"{path}:{node.start_mark.line + 1}"


def entries_of(root: yaml.Node | None, path: Path) -> dict[str, yaml.Node]:
    """Return the values of a mapping by their keys; InputError for a repeated key."""
    entries: dict[str, yaml.Node] = {}
    if not isinstance(root, yaml.MappingNode):
        return entries
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in entries:
            raise InputError(f"{place_of(key, path)}: {key.value} is there twice")
        entries[key.value] = value
    return entries


def name_nodes(names: yaml.Node, path: Path) -> list[yaml.Node]:
    """Return the names of a list, or of a mapping of numbers from 0 on; else InputError."""
    if isinstance(names, yaml.SequenceNode):
        return list(names.value)
    if isinstance(names, yaml.MappingNode):
        return numbered_nodes(names, path)
    raise InputError(
        f"{place_of(names, path)}: names is {names.value!r}; "
        "expected a list of names, or a mapping of numbers to names"
    )


def numbered_nodes(names: yaml.MappingNode, path: Path) -> list[yaml.Node]:
    """Return the values of a mapping whose keys are the numbers from 0 on; else InputError."""
    numbered: dict[int, yaml.Node] = {}
    for key, value in names.value:
        number = whole_number(key, default=-1)
        if number < 0:
            raise InputError(
                f"{place_of(key, path)}: expected the number of a class, got {key.value!r}"
            )
        if number in numbered:
            raise InputError(f"{place_of(key, path)}: class {number} has two names")
        numbered[number] = value
    missing = set(range(len(numbered))) - numbered.keys()
    if missing:
        raise InputError(
            f"{place_of(names, path)}: names are numbered from 0 on, without gaps; "
            f"class {min(missing)} has none"
        )
    return [numbered[number] for number in sorted(numbered)]


def checked(names: list[str], places: list[str]) -> tuple[str, ...]:
    """Return the names; InputError for an empty one and one that two classes have."""
    first: dict[str, int] = {}
    for number, (name, at) in enumerate(zip(names, places, strict=True)):
        if not name:
            raise InputError(f"{at}: class {number} has no name")
        if name in first:
            raise InputError(f"{at}: classes {first[name]} and {number} are both called {name}")
        first[name] = number
    return tuple(names)


def whole_number(node: yaml.Node | None, default: int = 0) -> int:
    """Return the whole number of a node, of at most nine digits; `default` for anything else."""
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    return int(text) if is_number else default


def kind_of(node: yaml.Node) -> str:
    """Return in words what a node is that is not a scalar."""
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
