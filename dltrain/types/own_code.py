"""The error for a user's object that does not fit, and where a user's class is defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARIES = ("dltrain", "torch", "torchvision")


class MisfitError(Exception):
    """A user's object returned something that dltrain cannot use.

    `about` is the object, whose class or function the message names by its file and line. Commands
    and the Python API raise a `UserCodeError` in its place.
    """

    def __init__(self, message: str, about: object) -> None:
        self.about = about
        super().__init__(message)


def is_of_library(value: object) -> bool:
    """Return True for an object whose class is dltrain's, torch's or torchvision's."""
    return type(value).__module__.partition(".")[0] in LIBRARIES


def described_class(value: object) -> str:
    """Return the class of an object for a message, with file and line if it is a user's own.

    The line of a network is that of its `forward`, if its class defines one.
    """
    cls = type(value)
    if is_of_library(value):
        return cls.__qualname__
    return with_place(f"{cls.__module__}.{cls.__qualname__}", definition_of(value))


def described_function(function: Callable[..., Any]) -> str:
    """Return the name of a function for a message, with file and line if it is a user's own."""
    name = function.__qualname__.replace("<locals>.", "")
    if function.__module__.partition(".")[0] in LIBRARIES:
        return name
    return with_place(name, function)


def with_place(name: str, value: Any) -> str:
    """Return the name of a class or function, with the file and the line of its definition."""
    file, line = defined_at(value)
    if not file:
        return name
    return f"{name} ({shown_path(file)}, line {line})"


def definition_of(value: object) -> Any:
    """Return a function itself, and of another object its class or the method that a call runs."""
    if inspect.isroutine(value):
        return value
    cls = type(value)
    members = vars(cls)
    return members.get("forward", members.get("__call__", cls))


def defined_at(value: Any) -> tuple[str, int]:
    """Return the file and the line of a function's or a class's definition; "" and 0 if unknown."""
    try:
        file = inspect.getsourcefile(value)
        _, line = inspect.getsourcelines(value)
    except (OSError, TypeError):
        return "", 0
    return str(file), line


def shown_path(file: str) -> str:
    """Return the name of a file, relative to the current folder if it is in there."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return file
