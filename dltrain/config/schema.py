"""The signature is the schema: what a key may hold is what the target's annotations say."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from dltrain.errors import UsageError
from dltrain.types import Ge, Gt, Le, Lt, Names

NOUNS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}
RANGES = (Gt, Ge, Lt, Le)
LONGEST = 100  # characters of a value in a report
PLAIN = (
    *NOUNS,
    list,
    tuple,
    dict,
    object,
    type(None),
    Path,
    Any,
)  # classes whose values a configuration can write


@dataclasses.dataclass(frozen=True)
class Argument:
    """One key that a target takes."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def arguments(target: Callable[..., Any]) -> Mapping[str, Argument]:
    """The arguments of a class or function, by name, without `*args` and `**kwargs`.

    UsageError for an annotation that names what its module does not have when it runs.
    """
    return _arguments(target, target.__init__ if inspect.isclass(target) else target)


@functools.cache
def _arguments(target: Callable[..., Any], function: Callable[..., Any]) -> Mapping[str, Argument]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as e:
        raise UsageError(
            f"{target.__module__}.{target.__qualname__}: an annotation cannot be read: {e}"
        ) from e
    found = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        if dataclasses.is_dataclass(target):
            default = next(
                (_field_default(f) for f in dataclasses.fields(target) if f.name == name), default
            )
        found[name] = Argument(name, hints.get(name, Any), default)
    return types.MappingProxyType(found)


def _field_default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def describe(annotation: Any) -> str:
    """What values an annotation admits, in words: "a number > 0", "one of fp32, bf16, fp16"."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        ranges = " and ".join(str(a) for a in args[1:] if isinstance(a, RANGES))
        return f"{describe(args[0])} {ranges}".strip()
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}" if len(args) > 1 else str(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else describe(a) for a in args)
    if origin is tuple and len(args) > 1 and args[1] is not Ellipsis:
        kinds = list(dict.fromkeys(map(describe, args)))
        return f"a list of {len(args)}, {f'each {kinds[0]}' if len(kinds) == 1 else ' then '.join(kinds)}"
    if origin in (list, tuple):
        return f"a list, each {describe(args[0])}" if args else "a list"
    if origin is dict:
        return f"a mapping to {describe(args[1])}"
    return NOUNS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def wrong(value: Any, annotation: Any) -> str | None:
    """Why `value` does not fit `annotation`, with what would; None if it fits.

    Annotations that a configuration cannot express (a Module, a Tensor) accept anything here: see `wants_object`.
    """
    if _fits(value, annotation):
        return None
    got = repr(value) if isinstance(value, str) else as_yaml(value)
    problem = f"expected {describe(annotation)}, got {got if len(got) <= LONGEST else got[:LONGEST] + '...'}"
    close = close_matches(str(value), literals(annotation))
    if not close:
        return problem
    listed = typing.get_origin(annotation) in (list, tuple) and not isinstance(value, list | tuple)
    return f"{problem}; did you mean {f'[{close[0]}]' if listed else close[0]}?"


def as_yaml(value: Any) -> str:
    """A value as an override would say it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def wants_object(annotation: Any) -> bool:
    """Whether a value for `annotation` has to be built: a Module, a Protocol, a callable."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return wants_object(args[0])
    if origin in (Union, types.UnionType):
        return any(map(wants_object, args))
    if origin in (list, tuple, dict):
        return any(map(wants_object, args))
    if origin is not None:
        return origin is Callable
    return inspect.isclass(annotation) and annotation not in PLAIN


def is_mapping_of_objects(annotation: Any) -> bool:
    """Whether `annotation` asks for objects under names of the user's choice: dict[str, Module]."""
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return any(map(is_mapping_of_objects, args))
    return typing.get_origin(annotation) is dict and wants_object(args[1])


def _fits(value: Any, annotation: Any) -> bool:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        if any(isinstance(a, Names) for a in args[1:]) and isinstance(value, bool | int | float):
            return True
        ranges = [a for a in args[1:] if isinstance(a, RANGES) and isinstance(value, int | float)]
        return _fits(value, args[0]) and all(a.holds(value) for a in ranges)
    if origin is Literal:
        return any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in args)
    if origin in (Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(args)
            and all(map(_fits, value, args))
        )
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(v, args[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(v, args[1]) for v in value.values())
    if annotation is type(None):
        return value is None
    if annotation is float:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    return True


def literals(annotation: Any) -> list[str]:
    """The named values that an annotation admits."""
    if typing.get_origin(annotation) is Literal:
        return [str(a) for a in typing.get_args(annotation)]
    return [name for part in typing.get_args(annotation) for name in literals(part)]


def close_matches(word: str, words: Iterable[str]) -> list[str]:
    """The words most like `word`, best first; case does not count."""
    by_lower = {w.lower(): w for w in words}
    return [
        by_lower[w] for w in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.55)
    ]


def similarity(one: str, other: str) -> float:
    """Of two names, in 0..1; case does not count, and the same letters in another order are nearly the same name."""
    if sorted(one.lower()) == sorted(other.lower()) and one.lower() != other.lower():
        return 0.95
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()
