"""The rules that decide which class or function a `_target_` may name.

A run's saved configuration must not be able to download, unpack, load or write anything. So only
code that the user named on the command line runs, and harmless parts of three packages:

1. The name begins with a package in TARGET_PACKAGES, or with a plugin named on the command line.
   Any other name is refused before anything is imported.
2. Each part of the name before the last leads to a module, by the module's own name or to one in
   those packages: `torch.nn.modules.module.torch.load` is refused at its second `torch`.
3. The object is checked by its type and by the module that defines it, so an alias does not help.
   Besides classes and plugins' functions, only functions in FUNCTION_PACKAGES may be built.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from dltrain.config.composing.shared import shared
from dltrain.config.renamed import current_name
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError

PACKAGES = ("dltrain", "torch", "torchvision")
FUNCTION_PACKAGES = (
    "dltrain.losses",
    "dltrain.models",
    "dltrain.optimizers",
    "dltrain.schedules",
    "dltrain.regularization",
)
TARGET_PACKAGES = (
    *FUNCTION_PACKAGES,
    "dltrain.callbacks",
    "dltrain.config.settings",
    "dltrain.data",
    "dltrain.device",
    "dltrain.initialization",
    "dltrain.metrics",
    "dltrain.preprocessing",
    "dltrain.sweeps.launchers",
    "dltrain.sweeps.samplers",
    "dltrain.tasks",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
)
# The modules whose classes may be built. Other parts of torch.nn start processes or read files.
TORCH_CLASS_PACKAGES = ("torch.nn.modules", "torch.optim", "torchvision")
REFUSED_TRANSFORMS = ("Lambda",)  # they call any function
MAX_NAME_CHARS = 200
MAIN = "__main__"
_ABSENT = object()
_imported_plugins: set[str] = set()  # the top packages, in this process
REFUSED = "may not be built from a configuration"


def locate(target: str, plugins: Sequence[str] = ()) -> Any:
    """Return the class or function that `target` names.

    Raises:
        UsageError: The rules above refuse it, or it does not exist.
    """
    return _locate(target, tuple(plugins))


@shared
def _locate(target: str, plugins: tuple[str, ...]) -> Any:
    if len(target) > MAX_NAME_CHARS or not target.isprintable():
        raise UsageError(f"{target[:60]!r} is not the public name of a class or function")
    target = current_name(target)
    for check in NAME_CHECKS:
        why = check(target, plugins)
        if why is not None:
            raise UsageError(why)
    located = _import_along(target, target.split("."), plugins)
    if not _is_allowed(located, plugins):
        raise UsageError(f"{target} {REFUSED}: it is {_described(located)}")
    return located


def _check_top_package(target: str, plugins: Sequence[str]) -> str | None:
    """Refuse packages that are not named on the command line, and all of the standard library."""
    top = target.partition(".")[0]
    is_standard = top in sys.stdlib_module_names
    if top in PACKAGES or (top in plugins and not is_standard):
        return None
    plugin = "NAME"
    if top.isidentifier() and not is_standard:
        plugin = top
    return (
        f"{target} is not imported: targets come from {', '.join(PACKAGES)}, or from a package "
        f'of your own that you name on the command line with "plugins=[{plugin}]"'
    )


def _check_public(target: str, plugins: Sequence[str]) -> str | None:
    """Refuse anything but a dotted name without private parts.

    The program itself is called `__main__`, and is a plugin where a script or notebook names it.
    """
    top, *names = target.split(".")
    if top != MAIN:
        names.insert(0, top)
    for name in names:
        if name.startswith("_") or not name.isidentifier():
            return f"{target} is not the public name of a class or function"
    return None


def _check_package(target: str, plugins: Sequence[str]) -> str | None:
    """Refuse the parts of dltrain, torch and torchvision outside TARGET_PACKAGES."""
    top, *below = target.split(".")
    if top not in PACKAGES or under(target, TARGET_PACKAGES):
        return None
    packages = [package for package in TARGET_PACKAGES if package.startswith(f"{top}.")]
    problem = f"{target} {REFUSED}; targets from {top} must be in {', '.join(packages)}"
    close = close_matches(".".join([top, *below[:1]]), packages)
    if not close or close[0].count(".") != 1:
        return problem
    meant = current_name(".".join([close[0], *below[1:]]))
    return f"{problem}; did you mean {meant}?"


# Checks of the name alone, made before anything is imported. Each returns why it refuses the name.
NAME_CHECKS = (_check_top_package, _check_public, _check_package)


def _import_along(target: str, names: list[str], plugins: Sequence[str]) -> Any:
    """Return the object that the dotted `names` lead to; import the modules on the way."""
    top = names[0]
    current: Any = _imported(top, target)
    if current is None:
        why = f"no module {top} is installed, and {Path.cwd()} has no {top}.py"
        raise UsageError(f"{target} does not exist: {why}")
    for depth, name in enumerate(names[1:], 1):
        path = ".".join(names[:depth])
        if not _may_be_entered(current, path, plugins):
            raise UsageError(f"{target} {REFUSED}: {path} is {_described(current)}")
        current = _member(current, name, target, names[:depth])
    return current


def _may_be_entered(value: Any, path: str, plugins: Sequence[str]) -> bool:
    """Return True for a module whose own name is `path`, and for any module that holds targets."""
    if not isinstance(value, ModuleType):
        return False
    return value.__name__ == path or _holds_targets(value.__name__, plugins)


def _member(module: ModuleType, name: str, target: str, names: list[str]) -> Any:
    """Return the attribute `name` of `module`, or import the submodule of that name.

    Raises:
        UsageError: There is neither.
    """
    member = getattr(module, name, _ABSENT)
    if member is not _ABSENT:
        return member
    path = ".".join(names)
    missing = name
    if "__path__" in vars(module) and module.__name__ == path:  # a package
        submodule = _imported(f"{path}.{name}", target)
        if submodule is not None:
            return submodule
        is_last = target == f"{path}.{name}"
        if not is_last:
            missing = f"module {name}"
    why = f"{_place(path, module)} has no {missing}{_close_member(module, path, name)}"
    raise UsageError(f"{target} does not exist: {why}")


def _close_member(module: ModuleType, path: str, name: str) -> str:
    """Return "; did you mean ...?" for a public member with a similar name, or an empty string."""
    public = [other for other in dir(module) if not other.startswith("_")]
    close = close_matches(name, public)
    if close:
        return f"; did you mean {path}.{close[0]}?"
    return ""


def under(name: str, packages: Sequence[str]) -> bool:
    """Return True if the dotted `name` is one of `packages`, or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _holds_targets(module: str, plugins: Sequence[str]) -> bool:
    top = module.partition(".")[0]
    if top in PACKAGES:
        return under(module, TARGET_PACKAGES)
    return top in plugins


def is_plugin(module: str) -> bool:
    """Return True if a module belongs to a plugin that was imported in this process."""
    return module.partition(".")[0] in _imported_plugins


def _imported(module: str, target: str) -> ModuleType | None:
    """Import a module and return it, or None if it does not exist.

    Raises:
        UsageError: The module exists but raises an error while it is imported.
    """
    top = module.partition(".")[0]
    if top not in PACKAGES:
        _admit_plugin(top)
    try:
        return importlib.import_module(module)
    except Exception as e:  # a plugin's own code runs here
        if isinstance(e, ModuleNotFoundError) and e.name == module:
            return None
        raise _import_error(e, top, target) from e


def _admit_plugin(top: str) -> None:
    """Note a plugin's package, and let it be in the current folder, as with `python -m`."""
    _imported_plugins.add(top)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _import_error(error: Exception, top: str, target: str) -> UsageError:
    """Return the error for a module of the package `top` that cannot be imported."""
    why = f"{target} cannot be imported: {type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):  # its message has the file and the line
        return UsageError(why)
    last = _last_own_frame(error, top)
    return UsageError(f"{why} ({last.filename}, line {last.lineno})")


def _last_own_frame(error: Exception, top: str) -> traceback.FrameSummary:
    """Return the innermost line of the package `top` in a traceback; else the innermost of all."""
    frames = list(traceback.walk_tb(error.__traceback__))
    summaries = traceback.extract_tb(error.__traceback__)
    for (frame, _), summary in zip(reversed(frames), reversed(summaries), strict=True):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == top:
            return summary
    return summaries[-1]


def _place(path: str, module: ModuleType) -> str:
    """Return a module's name for a message, followed by the file of a plugin."""
    file = vars(module).get("__file__")
    if path.split(".")[0] in PACKAGES or not file:
        return path
    return f"{path} ({file})"


def _is_allowed(value: Any, plugins: Sequence[str]) -> bool:
    """Return True if the rules allow this object, whatever name led to it."""
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return False
    module = str(value.__module__)
    if not _holds_targets(module, plugins):
        return False
    top = module.partition(".")[0]
    if top == "dltrain":
        return inspect.isclass(value) or under(module, FUNCTION_PACKAGES)
    return top not in PACKAGES or _is_allowed_torch_class(value, module)


def _is_allowed_torch_class(value: Any, module: str) -> bool:
    import torch

    if not inspect.isclass(value) or not under(module, TORCH_CLASS_PACKAGES):
        return False
    bases = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    return value.__name__ not in REFUSED_TRANSFORMS and issubclass(value, bases)


def _described(value: Any) -> str:
    """Return the description of a refused object for a message."""
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    if inspect.isclass(value):
        return f"the class {value.__module__}.{value.__qualname__}"
    if inspect.isroutine(value):
        return f"the function {value.__module__}.{value.__qualname__}"
    return f"an object of the class {type(value).__qualname__}"
