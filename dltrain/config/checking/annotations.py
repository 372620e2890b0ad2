"""Annotations of a signature: the values that fit one, and the words for it in a message.

Each kind of annotation (a union, a list, a range ...) has two functions here: one describes it, the
other tells if a value fits. Metadata of `Annotated` counts where it is of the package
`annotated-types` (Gt, Ge, Lt, Le, Interval, MinLen, MaxLen, Len, MultipleOf, Predicate), which is
what pydantic's own types such as PositiveInt are made of. Other metadata is ignored, as PEP 593
asks of a reader that does not know it.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from annotated_types import (
    Ge,
    GroupedMetadata,
    Gt,
    Le,
    Lt,
    MaxLen,
    MinLen,
    MultipleOf,
    Predicate,
)

from dltrain.types import Names


@dataclass(frozen=True)
class Constraint:
    """One class of metadata that narrows a type."""

    applies_to: tuple[type, ...]  # the values that it says something of
    holds: Callable[[Any, Any], bool]  # of a value and the metadata
    describe: Callable[[Any], str]


NUMBERS = (int, float)
SIZED = (str, list, tuple, dict)
CONSTRAINTS: dict[type, Constraint] = {
    Gt: Constraint(NUMBERS, lambda value, c: value > c.gt, lambda c: f"> {c.gt:g}"),
    Ge: Constraint(NUMBERS, lambda value, c: value >= c.ge, lambda c: f">= {c.ge:g}"),
    Lt: Constraint(NUMBERS, lambda value, c: value < c.lt, lambda c: f"< {c.lt:g}"),
    Le: Constraint(NUMBERS, lambda value, c: value <= c.le, lambda c: f"<= {c.le:g}"),
    MultipleOf: Constraint(
        NUMBERS,
        lambda value, c: value % c.multiple_of == 0,
        lambda c: f"a multiple of {c.multiple_of:g}",
    ),
    MinLen: Constraint(
        SIZED,
        lambda value, c: len(value) >= c.min_length,
        lambda c: f"of length >= {c.min_length}",
    ),
    MaxLen: Constraint(
        SIZED,
        lambda value, c: len(value) <= c.max_length,
        lambda c: f"of length <= {c.max_length}",
    ),
    Predicate: Constraint((object,), lambda value, c: bool(c.func(value)), lambda c: f"with {c}"),
}


@dataclass(frozen=True)
class Kind:
    """The functions for one kind of annotation."""

    describe: Callable[[Any], str]
    fits: Callable[[Any, Any], bool]  # a value, an annotation


def describe(annotation: Any) -> str:
    """Return in words which values `annotation` admits: "a number > 0", "one of fp32, bf16"."""
    return _kind_of(annotation).describe(annotation)


def fits(value: Any, annotation: Any) -> bool:
    """Return True if `value` fits `annotation`.

    Annotations that a configuration cannot express (a Module, a Tensor) accept anything here.
    """
    return _kind_of(annotation).fits(value, annotation)


def wants_object(annotation: Any) -> bool:
    """Return True if a value for `annotation` has to be built: a Module, a Protocol, a callable."""
    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin is None:
        return inspect.isclass(annotation) and annotation not in PLAIN_CLASSES
    if origin is Annotated:
        return wants_object(parts[0])
    if origin in CONTAINERS:
        return any(wants_object(part) for part in parts)
    return origin is Callable


def admits_plain(value: Any, annotation: Any) -> bool:
    """Return True if `value` fits a part of `annotation` that asks for no object.

    A number fits `float | Tensor`, which is how torch.optim annotates a learning rate.
    """
    if not wants_object(annotation):
        return fits(value, annotation)
    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(admits_plain(value, part) for part in parts)
    if origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return all(map(admits_plain, value, parts))
    return False


def is_mapping_of_objects(annotation: Any) -> bool:
    """Return True if `annotation` asks for objects under any names: dict[str, Module]."""
    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(is_mapping_of_objects(part) for part in parts)
    return origin is dict and wants_object(parts[1])


def literals(annotation: Any) -> list[str]:
    """Return the named values that an annotation admits."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return [str(part) for part in parts]
    return [name for part in parts for name in literals(part)]


def is_list(annotation: Any) -> bool:
    """Return True if `annotation` asks for a list or tuple."""
    return typing.get_origin(annotation) in (list, tuple)


def is_callable(annotation: Any) -> bool:
    """Return True if `annotation` asks for a function, or a union with one."""
    if typing.get_origin(annotation) is Callable:
        return True
    return any(is_callable(part) for part in typing.get_args(annotation))


def _kind_of(annotation: Any) -> Kind:
    origin = typing.get_origin(annotation)
    if origin is not None:
        return BY_ORIGIN.get(origin, OTHER)
    if inspect.isclass(annotation):
        return BY_CLASS.get(annotation, OTHER)
    return OTHER


def _constraints(annotation: Any) -> Iterator[tuple[Constraint, Any]]:
    """Yield the metadata of an Annotated type that is understood, with its meaning."""
    for item in flattened(typing.get_args(annotation)[1:]):
        constraint = CONSTRAINTS.get(type(item))
        if constraint is not None:
            yield constraint, item


def flattened(metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield the single items of metadata: of Interval(gt=0, le=1), Gt(0) and Le(1)."""
    for item in metadata:
        if type(item) in CONSTRAINTS:  # the usual case; the test of a Protocol is slow
            yield item
        elif isinstance(item, GroupedMetadata):
            yield from flattened(item)
        else:
            yield item


def _describe_annotated(annotation: Any) -> str:
    words = [constraint.describe(item) for constraint, item in _constraints(annotation)]
    base = describe(typing.get_args(annotation)[0])
    return f"{base} {' and '.join(words)}".strip()


def _fits_annotated(value: Any, annotation: Any) -> bool:
    base, *metadata = typing.get_args(annotation)
    if _is_name(value, metadata):
        return True
    if not fits(value, base):
        return False
    for constraint, item in _constraints(annotation):
        if isinstance(value, constraint.applies_to) and not constraint.holds(value, item):
            return False
    return True


def _is_name(value: Any, metadata: list[Any]) -> bool:
    """Return True for a name that looks like a number, where names are asked for."""
    if not isinstance(value, bool | int | float):
        return False
    return any(isinstance(item, Names) for item in metadata)


def _describe_literal(annotation: Any) -> str:
    values = [str(value) for value in typing.get_args(annotation)]
    if len(values) == 1:
        return values[0]
    return f"one of {', '.join(values)}"


def _fits_literal(value: Any, annotation: Any) -> bool:
    """Compare with each admitted value; True is not 1."""
    for admitted in typing.get_args(annotation):
        if value == admitted and isinstance(value, bool) == isinstance(admitted, bool):
            return True
    return False


def _describe_union(annotation: Any) -> str:
    return " or ".join(describe(part) for part in typing.get_args(annotation))


def _fits_union(value: Any, annotation: Any) -> bool:
    return any(fits(value, part) for part in typing.get_args(annotation))


def _has_fixed_length(annotation: Any) -> bool:
    """Return True for tuple[int, str], False for tuple[int, ...]."""
    parts = typing.get_args(annotation)
    return len(parts) != 2 or parts[1] is not Ellipsis


def _describe_list(annotation: Any) -> str:
    parts = typing.get_args(annotation)
    if parts:
        return f"a list, each {describe(parts[0])}"
    return "a list"


def _fits_list(value: Any, annotation: Any) -> bool:
    item_type = typing.get_args(annotation)[0]
    return isinstance(value, list | tuple) and all(fits(item, item_type) for item in value)


def _describe_tuple(annotation: Any) -> str:
    parts = typing.get_args(annotation)
    if not _has_fixed_length(annotation) or len(parts) < 2:
        return _describe_list(annotation)
    words = list(dict.fromkeys(describe(part) for part in parts))
    items = f"each {words[0]}" if len(words) == 1 else " then ".join(words)
    return f"a list of {len(parts)}, {items}"


def _fits_tuple(value: Any, annotation: Any) -> bool:
    if not _has_fixed_length(annotation):
        return _fits_list(value, annotation)
    parts = typing.get_args(annotation)
    if not isinstance(value, list | tuple) or len(value) != len(parts):
        return False
    return all(fits(item, part) for item, part in zip(value, parts, strict=True))


def _describe_mapping(annotation: Any) -> str:
    return f"a mapping to {describe(typing.get_args(annotation)[1])}"


def _fits_mapping(value: Any, annotation: Any) -> bool:
    value_type = typing.get_args(annotation)[1]
    return isinstance(value, dict) and all(fits(item, value_type) for item in value.values())


def _is_whole_number(value: Any, _: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite_number(value: Any, _: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _is_instance(value: Any, annotation: Any) -> bool:
    return isinstance(value, annotation)


def _describe_other(annotation: Any) -> str:
    named = typing.get_origin(annotation) or annotation
    if inspect.isclass(named):
        return named.__name__
    return str(annotation)


OTHER = Kind(_describe_other, lambda value, annotation: True)
CONTAINERS = (Union, types.UnionType, list, tuple, dict)
BY_ORIGIN: dict[Any, Kind] = {
    Annotated: Kind(_describe_annotated, _fits_annotated),
    Literal: Kind(_describe_literal, _fits_literal),
    Union: Kind(_describe_union, _fits_union),
    types.UnionType: Kind(_describe_union, _fits_union),
    tuple: Kind(_describe_tuple, _fits_tuple),
    list: Kind(_describe_list, _fits_list),
    dict: Kind(_describe_mapping, _fits_mapping),
}
BY_CLASS: dict[type, Kind] = {
    type(None): Kind(lambda annotation: "null", lambda value, annotation: value is None),
    float: Kind(lambda annotation: "a number", _is_finite_number),
    int: Kind(lambda annotation: "a whole number", _is_whole_number),
    bool: Kind(lambda annotation: "true or false", _is_instance),
    str: Kind(lambda annotation: "text", _is_instance),
}
# The classes whose values a configuration can write.
PLAIN_CLASSES = (*BY_CLASS, list, tuple, dict, object, Path, Any)
