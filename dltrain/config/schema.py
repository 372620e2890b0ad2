"""The schema of a configuration node: the keys, types and defaults of its target's signature."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from dltrain.config.checking.annotations import describe, fits, is_list, literals
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError

MAX_VALUE_CHARS = 100  # of a value in a message


@dataclasses.dataclass(frozen=True)
class Argument:
    """One key that a target takes."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """True if the argument has no default."""
        return self.default is inspect.Parameter.empty


def arguments(target: Callable[..., Any]) -> Mapping[str, Argument]:
    """Return the arguments of a class or function by name, without `*args` and `**kwargs`.

    Raises:
        UsageError: an annotation names something that its module does not have at run time.
    """
    return _arguments(target, target.__init__ if inspect.isclass(target) else target)


@functools.cache
def _arguments(target: Callable[..., Any], function: Callable[..., Any]) -> Mapping[str, Argument]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as e:
        name = f"{target.__module__}.{target.__qualname__}"
        raise UsageError(f"{name}: an annotation cannot be read: {e}") from e
    field_defaults: dict[str, Any] = {}
    if dataclasses.is_dataclass(target):
        field_defaults = _field_defaults(target)
    by_name = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = field_defaults.get(name, parameter.default)
        by_name[name] = Argument(name, hints.get(name, Any), default)
    return types.MappingProxyType(by_name)


def _field_defaults(dataclass: Any) -> dict[str, Any]:
    """Return the defaults of a dataclass by field; those of a `default_factory` are made by it."""
    defaults = {}
    for field in dataclasses.fields(dataclass):
        if field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
    return defaults


def type_problem(value: Any, annotation: Any) -> str | None:
    """Return why `value` does not fit `annotation`, and close values that do; None if it fits."""
    if fits(value, annotation):
        return None
    text = repr(value) if isinstance(value, str) else as_yaml(value)
    problem = f"expected {describe(annotation)}, got {shortened(text)}"
    close = close_matches(str(value), literals(annotation))
    if not close:
        return problem
    if is_list(annotation) and not isinstance(value, list | tuple):
        return f"{problem}; did you mean [{close[0]}]?"
    return f"{problem}; did you mean {close[0]}?"


def as_yaml(value: Any) -> str:
    """Return a value as an override would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        if value:
            return "true"
        return "false"
    return str(value)


def shortened(text: str) -> str:
    """Return `text`, cut to the length that a message shows."""
    if len(text) <= MAX_VALUE_CHARS:
        return text
    return f"{text[:MAX_VALUE_CHARS]}..."
