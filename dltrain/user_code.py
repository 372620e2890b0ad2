"""Explains errors of a user's own code: the file, the line, and the shapes of the tensors there.

A command, a session and the Python API wrap their work in `user_errors_explained`. Everything is
read from the traceback after the error: nothing is recorded while a run trains. User code is code
of a plugin, and code that a plugin calls outside dltrain, its libraries and Python's own.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dltrain.config.policy import is_plugin
from dltrain.errors import DltrainError, UserCodeError
from dltrain.stack_shapes import (
    Frames,
    argument_shapes,
    described_tensor,
    is_network,
    is_tensor,
    loaded_torch,
    module_calls,
    network_lines,
)
from dltrain.types.own_code import (
    MisfitError,
    defined_at,
    definition_of,
    is_of_library,
    shown_path,
)

PACKAGE = Path(__file__).parent
ENGINE = "dltrain.engine"
LOSSES = "dltrain.losses"
DLTRAINS_OWN = (NameError, ImportError)  # errors that nothing that a user returns causes
SIGNATURE = re.compile(r"([\w.<>]+)\(\) (missing|takes|got)\b")  # of a TypeError
NAME = re.compile(r"[A-Za-z_][\w.]*")
MAX_MESSAGE_LINES = 6


@contextmanager
def user_errors_explained() -> Iterator[None]:
    """Raise a `UserCodeError` for an error of the block that is due to a user's own code.

    Other errors are raised as they are.
    """
    try:
        yield
    except (Exception, SystemExit) as e:
        error = explained(e)
        if error is None:
            raise
        raise error from e


def explained(error: BaseException) -> UserCodeError | None:
    """Return the error to raise instead of one that is due to a user's own code, else None."""
    if isinstance(error, MisfitError):
        return UserCodeError(str(error), *place_of_object(error.about))
    if isinstance(error, DltrainError) or is_out_of_memory(error):
        return None
    frames = frames_of(error)
    place = place_of(error, frames)
    return misfit(error, frames) if place is None else error_at(place, error, frames)


def error_at(place: Place, error: BaseException, frames: Frames) -> UserCodeError:
    """Return the error that names a place in the user's code, with the shapes on the stack."""
    lines = [
        f"error in your code: {place}{place.note}: {type(error).__name__}: {message_of(error)}",
        *place.source_lines(),
        *(f"  {line}" for line in shape_lines(frames, place)),
    ]
    return UserCodeError("\n".join(lines), place.file, place.line)


def place_of_object(value: object) -> tuple[str, int]:
    """Return file and line of a user's class or function; "" and 0 for one of a library."""
    if is_of_library(value) and not inspect.isroutine(value):
        return "", 0
    return defined_at(definition_of(value))


def location_of_user_code(error: BaseException) -> str:
    """Return "FILE, line N, in FUNCTION" of the user's code that raised an error, or ""."""
    place = raising_place(frames_of(error))
    return str(place or "")


def frames_of(error: BaseException) -> Frames:
    """Return the frames of an error's traceback."""
    return list(traceback.walk_tb(error.__traceback__))


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the machine or a GPU has no memory left: no fault of the code."""
    torch = loaded_torch()
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def message_of(error: BaseException) -> str:
    """Return the first lines of an error's message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > MAX_MESSAGE_LINES:
        lines = [*lines[:MAX_MESSAGE_LINES], "..."]
    return "\n    ".join(lines) or "(without a message)"


@dataclass(frozen=True)
class Place:
    """A line of a user's code, or the beginning of a definition.

    `frame` is the one that stopped there; None for a definition. `note` says what happened.
    """

    file: str
    line: int
    name: str
    frame: FrameType | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{shown_path(self.file)}, line {self.line}, in {self.name}"

    def source_lines(self) -> list[str]:
        """Return the line of code, indented, if it can be read."""
        source = linecache.getline(self.file, self.line).strip()
        return [f"    {source}"] if source else []


def place_of(error: BaseException, frames: Frames) -> Place | None:
    """Return where the user's code failed, or the part of it whose use failed; else None."""
    return (
        raising_place(frames)
        or called_place(error, frames)
        or used_place(error, frames)
        or trained_place(frames)
    )


# --- an error that was raised in the user's code


def raising_place(frames: Frames) -> Place | None:
    """Return the innermost line of the user's code in a traceback; None if there is none."""
    place = None
    for frame, line in frames:
        if is_users(frame, is_called_by_user=place is not None):
            place = Place(frame.f_code.co_filename, line, qualified_name(frame), frame)
    return place


def is_users(frame: FrameType, is_called_by_user: bool) -> bool:
    """Return True for a frame of a plugin, or of a file of the user's that a plugin uses."""
    if is_plugin(module_of(frame)):
        return True
    is_of_plugin = is_called_by_user or is_users_object(frame.f_locals.get("self"))
    return is_of_plugin and is_own_file(frame.f_code.co_filename)


def is_own_file(file: str) -> bool:
    """Return True for a file outside dltrain, installed packages and Python's library."""
    if file.startswith("<"):
        return False
    return not any(Path(file).is_relative_to(folder) for folder in library_folders())


def library_folders() -> list[Path]:
    """Return the folders of dltrain, of installed packages and of Python's library."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return [PACKAGE, *map(Path, folders)]


def module_of(frame: FrameType) -> str:
    """Return the name of a frame's module."""
    return str(frame.f_globals.get("__name__", ""))


def is_within(frame: FrameType, package: str) -> bool:
    """Return True if a frame's module is in a package."""
    return f"{module_of(frame)}.".startswith(f"{package}.")


def qualified_name(frame: FrameType) -> str:
    """Return the name of a frame's function with its class; that of the module at its top level."""
    name = frame.f_code.co_qualname.replace("<locals>.", "")
    return f"the module {module_of(frame)}" if name == "<module>" else name


def is_users_object(value: Any) -> bool:
    """Return True for an instance of a plugin's class, and for a function of a plugin."""
    value = without_arguments(value)
    owner = value if inspect.isroutine(value) else type(value)
    return is_plugin(str(owner.__module__))


def without_arguments(value: Any) -> Any:
    """Return the function of a `functools.partial`, and any other value as it is."""
    return value.func if isinstance(value, functools.partial) else value


# --- an error that was raised where dltrain or torch used the user's code


def definition(value: Any, note: str = "") -> Place | None:
    """Return where a function, a class or the class of an object is defined, if it is known.

    Of a network it is the line of its `forward`, of another object that is called its `__call__`.
    """
    value = without_arguments(value)
    if not inspect.isclass(value):
        value = definition_of(value)
    file, line = defined_at(value)
    return Place(file, line, value.__qualname__, note=note) if file else None


def called_place(error: BaseException, frames: Frames) -> Place | None:
    """Return the user's definition that was called wrongly, or lacks something; None otherwise.

    It is the class of the object that lacks an attribute, the function that a TypeError names for
    its arguments, or the network whose `forward` could not be called.
    """
    value = incomplete_class(error) or misused_function(error) or uncallable_network(frames)
    return definition(value) if value is not None else None


def incomplete_class(error: BaseException) -> Any:
    """Return the plugin's class that lacks the attribute that an AttributeError names, or None."""
    if not isinstance(error, AttributeError) or error.obj is None:
        return None
    cls = error.obj if inspect.isclass(error.obj) else type(error.obj)
    return cls if is_plugin(str(cls.__module__)) else None


def misused_function(error: BaseException) -> Any:
    """Return the plugin's function or class whose arguments a TypeError is about, or None."""
    match = SIGNATURE.match(str(error))
    if match is None or not isinstance(error, TypeError):
        return None
    path = match[1].removesuffix(".__init__").split(".")
    modules = [module for name, module in list(sys.modules.items()) if is_plugin(name)]
    members = [member_along(module, path) for module in modules]
    return next(filter(None, members), None)


def member_along(value: Any, path: list[str]) -> Any:
    """Return the member that a path of names leads to, or None."""
    for name in path:
        value = inspect.getattr_static(value, name, None)
    return value


def uncallable_network(frames: Frames) -> Any:
    """Return the user's network if torch failed to call its `forward`, or None."""
    calls = module_calls(frames)
    if not calls or not is_within(frames[-1][0], "torch"):
        return None
    network = calls[-1].module
    return network if is_users_object(network) else None


def used_place(error: BaseException, frames: Frames) -> Place | None:
    """Return the definition of the user's object whose result dltrain could not use, or None."""
    innermost = dltrains_frame(frames)
    if innermost is None or isinstance(error, DLTRAINS_OWN):
        return None
    frame, line = innermost
    note = f": dltrain cannot use its result ({module_of(frame)}, line {line})"
    objects = used_objects(frame, line)
    return definition(objects[0], note) if objects else None


def used_objects(frame: FrameType, line: int) -> list[Any]:
    """Return the user's objects that the line at which a frame stopped names.

    The engine uses in later lines what a task returned: there the lines before count too, and
    functions come first, the latest before the others.
    """
    if module_of(frame) != ENGINE:
        return list(users_objects_in_line(frame, line))
    objects: list[Any] = []
    for number in range(line, frame.f_code.co_firstlineno - 1, -1):
        objects += users_objects_in_line(frame, number)
    return sorted(objects, key=inspect.isroutine, reverse=True)


def dltrains_frame(frames: Frames) -> tuple[FrameType, int] | None:
    """Return the innermost frame of dltrain, if it and libraries raised the error."""
    for frame, line in reversed(frames):
        if is_within(frame, "dltrain"):
            return frame, line
        if is_own_file(frame.f_code.co_filename):
            return None
    return None


def users_objects_in_line(frame: FrameType, line: int) -> Iterator[Any]:
    """Yield the user's objects that a line of a frame names, such as `metric` or `self.model`."""
    text = linecache.getline(frame.f_code.co_filename, line)
    for name in NAME.findall(text):
        yield from list(users_objects_along(frame, name.split(".")))[-1:]


def users_objects_along(frame: FrameType, path: list[str]) -> Iterator[Any]:
    """Yield the user's objects on a path of names that begins in a frame."""
    value = frame.f_locals.get(path[0])
    for name in [*path[1:], ""]:
        if value is not None and is_users_object(value):
            yield value
        value = stored_attribute(value, name)


def stored_attribute(value: Any, name: str) -> Any:
    """Return an attribute or a method without calling any code; None if there is none.

    The layers of an `nn.Module` are in a dictionary of their own.
    """
    stored = getattr(value, "__dict__", {})
    layers = stored.get("_modules", {})
    if name in stored or name in layers:
        return stored.get(name, layers.get(name))
    method = inspect.getattr_static(type(value), name, None)
    return method if inspect.isfunction(method) else None


def trained_place(frames: Frames) -> Place | None:
    """Return the `forward` of the user's network whose backward pass failed; None otherwise."""
    if not any(is_within(frame, "torch.autograd") for frame, _ in frames):
        return None
    for frame, _ in reversed(frames):
        for network in networks_of_task(frame):
            if is_users_object(network):
                return definition(network, ": its backward pass failed")
    return None


def networks_of_task(frame: FrameType) -> list[Any]:
    """Return the networks that a frame of a task knows: local names, and attributes of `self`."""
    if not is_within(frame, "dltrain.tasks"):
        return []
    names = frame.f_locals
    values = [*names.values(), *vars(names.get("self", Place)).values()]
    return list(filter(is_network, values))


# --- a loss of dltrain's that got what does not fit


def misfit(error: BaseException, frames: Frames) -> UserCodeError | None:
    """Return the error of a loss of dltrain's whose outputs and targets do not fit; else None."""
    outputs, targets = arguments_of_loss(frames)
    if not is_tensor(outputs) or not is_tensor(targets) or fit(outputs, targets):
        return None
    pair = f"the outputs {described_tensor(outputs)} and the targets {described_tensor(targets)}"
    why = f"do not fit the loss: {type(error).__name__}: {message_of(error)}"
    return UserCodeError(f"{pair}{described_range(targets)} {why}")


def arguments_of_loss(frames: Frames) -> tuple[Any, Any]:
    """Return outputs and targets of a loss of dltrain's that raised the error; None, None else."""
    innermost = dltrains_frame(frames)
    if innermost is None or module_of(innermost[0]) != LOSSES:
        return None, None
    names = innermost[0].f_locals
    return names.get("outputs", names.get("logits")), names.get("targets")


def fit(outputs: Any, targets: Any) -> bool:
    """Return True if targets (B,) are columns of outputs (B, K), or of the outputs' shape."""
    if targets.is_floating_point():
        return bool(outputs.shape == targets.shape)
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
        return False
    return bool(((targets >= 0) & (targets < outputs.shape[1])).all())


def described_range(targets: Any) -> str:
    """Return the lowest and the highest of the targets that are whole numbers, for a message."""
    if targets.is_floating_point() or not targets.numel():
        return ""
    return f" from {int(targets.min())} to {int(targets.max())}"


def shape_lines(frames: Frames, place: Place) -> list[str]:
    """Return lines with the shapes of the tensors: of the layer that failed, and of its network.

    Outside a network they are those of the arguments of the user's function.
    """
    calls = module_calls(frames)
    if calls:
        of_user = [call for call in calls if is_users_object(call.module)]
        root = next(iter(of_user), calls[0])
        return network_lines(calls, root)
    shapes = argument_shapes(place.frame) if place.frame is not None else ""
    return [f"with {shapes}"] if shapes else []
