"""Turns what a Python program passes as settings into overrides, as they are typed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from dltrain.config.checking.nodes import TARGET
from dltrain.config.groups import groups
from dltrain.config.policy import PACKAGES
from dltrain.config.suggestions.quoting import value_of
from dltrain.errors import ConfigError, UsageError
from dltrain.shell import is_plain, quoted

SECTIONS = ("paths",)  # mappings of keys that are no groups
LOCALS = "<locals>"


def overrides_of(parts: tuple[str | Mapping[str, Any], ...], named: Mapping[str, Any]) -> list[str]:
    """Return overrides for texts such as "model=cnn", mappings, and keyword arguments, in order.

    A mapping may be nested: {"optimizer": {"lr": 1e-3}} is optimizer.lr=0.001. A class stands for
    a node with it as the target, and names its package as a plugin: whoever passes an object has
    imported its code already. A class as a keyword argument comes first, so that texts before it
    can set its arguments: "model.width=8", model=Net.

    Raises:
        UsageError: A part is neither a text nor a mapping.
        ConfigError: A value cannot be written as a setting.
    """
    overrides: list[str] = []
    plugins: list[str] = []
    classes = classes_first(parts, named)
    others = {key: value for key, value in named.items() if key not in classes}
    for part in (classes, *parts, others):
        if isinstance(part, str):
            overrides.append(part)
        elif isinstance(part, Mapping):
            settings = flattened(part)
            overrides += [override_of(key, value) for key, value in settings.items()]
            plugins += packages_of(settings)
        else:
            raise UsageError(
                f"{part!r} is not a setting: expected a text such as 'model=cnn', or a mapping "
                "such as {'model': 'cnn'}"
            )
    return with_plugins(overrides, plugins)


def classes_first(
    parts: tuple[str | Mapping[str, Any], ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments that are classes, whose keys no earlier part sets itself."""
    keys: set[str] = set()
    for part in parts:
        if isinstance(part, str):
            keys.add(part.partition("=")[0].lstrip("+"))
        elif isinstance(part, Mapping):
            keys |= set(part)
    return {k: v for k, v in named.items() if inspect.isclass(v) and k not in keys}


def override_of(key: str, value: Any) -> str:
    """Return the override that sets a key to a value; a text is quoted only if it must be."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and "${" not in value:
        plain = f"{key}={value}"
        if value_of(plain) == value:
            return plain
    return f"{key}={as_value(key, value)}"


def flattened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key: the mappings of groups and paths are taken apart."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        require_key(key)
        if is_section(key, value):
            flat |= {f"{key}.{name}": child for name, child in value.items()}
        else:
            flat[key] = value
    return flat


def require_key(key: object) -> None:
    """Raise UsageError for a key that is not a text."""
    if not isinstance(key, str):
        raise UsageError(f"{key!r} is not the key of a setting: expected a text")


def is_section(key: str, value: Any) -> bool:
    """Tell if a value has the settings of a group by name, and is not a node of its own."""
    is_known = key in groups() or key in SECTIONS
    return is_known and isinstance(value, Mapping) and TARGET not in value


def as_value(key: str, value: Any) -> str:
    """Return a value as it is typed after `key=`; ConfigError if that cannot be written."""
    if value is None:
        return "null"
    if inspect.isclass(value):
        return f"{{{TARGET}:{target_of(key, value)}}}"
    for kind, write in SCALARS:
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, Mapping):
        return mapping_text(key, value)
    if isinstance(value, list | tuple):
        return f"[{','.join(as_value(key, child) for child in value)}]"
    why = (
        f"{type(value).__name__} cannot be written into a configuration: expected a number, text, "
        "path, class, list or mapping"
    )
    raise ConfigError([(f"{key}={value!r}", why)])


def mapping_text(key: str, mapping: Mapping[str, Any]) -> str:
    """Return a mapping as it is typed."""
    pairs = [f"{name}:{node_value(key, name, child)}" for name, child in mapping.items()]
    return f"{{{','.join(pairs)}}}"


def node_value(key: str, name: str, value: Any) -> str:
    """Return the value of `name` in a mapping; the target of a node may be a class."""
    if name == TARGET and inspect.isclass(value):
        return target_of(key, value)
    return as_value(f"{key}.{name}", value)


def text_value(text: str) -> str:
    """Return a text as Hydra reads it, in quotes where it needs them."""
    return text if is_plain(text) else quoted(text)


def number_text(number: float) -> str:
    """Return a number as Hydra reads it."""
    if math.isnan(number):
        return "nan"
    return repr(number)


# The types of single values, and how each is written; the first that fits counts.
SCALARS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (bool, lambda value: str(value).lower()),
    (str, text_value),
    (Path, lambda value: quoted(str(value))),
    (Integral, lambda value: str(int(value))),
    (Real, lambda value: number_text(float(value))),
)


def target_of(key: str, cls: type) -> str:
    """Return the name by which a class is found again; ConfigError for a class in a function."""
    if LOCALS in cls.__qualname__:
        why = (
            "is defined inside a function, where a configuration cannot find it: define it at the "
            "top of a module or of a notebook's cell"
        )
        raise ConfigError([(f"{key}={cls.__name__}", why)])
    return f"{cls.__module__}.{cls.__qualname__}"


def packages_of(value: Any) -> list[str]:
    """Return the top packages of the classes in a value, except those that need no plugin."""
    if inspect.isclass(value):
        package = value.__module__.partition(".")[0]
        return [] if package in PACKAGES else [package]
    return [package for child in children_of(value) for package in packages_of(child)]


def children_of(value: Any) -> list[Any]:
    """Return the values in a mapping or list; none for a single value."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def with_plugins(overrides: list[str], plugins: list[str]) -> list[str]:
    """Return the overrides with `plugins` beside those that they name already."""
    if not plugins:
        return overrides
    named: list[str] = []
    others = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "plugins":
            named = [name.strip() for name in value.strip("[] ").split(",")]
        else:
            others.append(override)
    names = ",".join(filter(None, dict.fromkeys([*named, *plugins])))
    as_list = f"[{names}]"
    return [f"plugins={as_list}", *others]


def plugins_in(overrides: list[str]) -> tuple[str, ...]:
    """Return the plugins that overrides name; the last override counts."""
    names: tuple[str, ...] = ()
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "plugins":
            names = tuple(filter(None, (name.strip() for name in value.strip("[] ").split(","))))
    return names
