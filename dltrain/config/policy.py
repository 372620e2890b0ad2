"""The rule for which `_target_` may be built: a configuration is code only where the user wrote it.

A name has to begin with a part of dltrain, torch or torchvision that holds choices (HOMES), or with
a plugin named on the command line; otherwise it is refused before anything is imported. The way to
the object leads through such modules only. Then the object is judged by what it is and where it was
defined, not by the name that led to it: `torch.nn.modules.module.torch.load` is stopped at torch.
Of functions only those of dltrain pass that make something to choose (FACTORIES):
a run's saved configuration must not be able to download, unpack, load or write.
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

from dltrain.config.renamed import current_name
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError

PACKAGES = ("dltrain", "torch", "torchvision")
FACTORIES = (
    "dltrain.losses",
    "dltrain.models",
    "dltrain.optimizers",
    "dltrain.schedules",
    "dltrain.regularization",
)
HOMES = (
    *FACTORIES,
    "dltrain.callbacks",
    "dltrain.config.settings",
    "dltrain.data",
    "dltrain.device",
    "dltrain.initialization",
    "dltrain.metrics",
    "dltrain.preprocessing",
    "dltrain.tasks",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
)
# The modules that define what may be built of torch: torch.nn has more, that starts processes and
# reads files.
DEFINED = ("torch.nn.modules", "torch.optim", "torchvision")
CALLS_ANYTHING = ("Lambda",)  # transforms of torchvision that run any function
MAX_NAME_CHARS = 200
_ABSENT = object()
BUILT = "may not be built from a configuration"


def locate(target: str, plugins: Sequence[str] = ()) -> Any:
    """Return the class or function that `target` names.

    Raises:
        UsageError: the rule above refuses it, or it does not exist.
    """
    if len(target) > MAX_NAME_CHARS or not target.isprintable():
        raise UsageError(f"{target[:60]!r} is not the public name of a class or function")
    target = current_name(target)
    for refusal in REFUSALS:
        why = refusal(target, plugins)
        if why is not None:
            raise UsageError(why)
    located = _follow(target, target.split("."), plugins)
    if not _is_allowed(located, plugins):
        raise UsageError(f"{target} {BUILT}: it is {_described(located)}")
    return located


def _not_imported(target: str, plugins: Sequence[str]) -> str | None:
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
        f"of your own that you name on the command line, as plugins=[{plugin}]"
    )


def _not_public(target: str, plugins: Sequence[str]) -> str | None:
    """Refuse what is not the dotted name of something public."""
    for name in target.split("."):
        if name.startswith("_") or not name.isidentifier():
            return f"{target} is not the public name of a class or function"
    return None


def _not_at_home(target: str, plugins: Sequence[str]) -> str | None:
    """Refuse the parts of dltrain and torch that hold nothing to choose from."""
    top, *below = target.split(".")
    if top not in PACKAGES or under(target, HOMES):
        return None
    homes = [home for home in HOMES if home.startswith(f"{top}.")]
    problem = f"{target} {BUILT}; of {top} only what is in {', '.join(homes)} may"
    close = close_matches(".".join([top, *below[:1]]), homes)
    if not close or close[0].count(".") != 1:
        return problem
    meant = current_name(".".join([close[0], *below[1:]]))
    return f"{problem}; did you mean {meant}?"


REFUSALS = (_not_imported, _not_public, _not_at_home)  # before anything is imported


def _follow(target: str, names: list[str], plugins: Sequence[str]) -> Any:
    """Return what the dotted `names` lead to, importing modules on the way."""
    top = names[0]
    current: Any = _imported(top, target)
    if current is None:
        why = f"there is no module {top}, neither installed nor as {top}.py in {Path.cwd()}"
        raise UsageError(f"{target} does not exist: {why}")
    for depth, name in enumerate(names[1:], 1):
        path = ".".join(names[:depth])
        if not _is_on_the_way(current, path, plugins):
            raise UsageError(f"{target} {BUILT}: {path} is {_described(current)}")
        current = _member(current, name, target, names[:depth])
    return current


def _is_on_the_way(value: Any, path: str, plugins: Sequence[str]) -> bool:
    """Return True for the module called `path`, or another one that holds what is chosen from."""
    if not isinstance(value, ModuleType):
        return False
    return value.__name__ == path or _is_home(value.__name__, plugins)


def _member(module: ModuleType, name: str, target: str, names: list[str]) -> Any:
    """Return a member of a module, or of a package the module of that name."""
    member = getattr(module, name, _ABSENT)
    if member is not _ABSENT:
        return member
    path = ".".join(names)
    is_package = "__path__" in vars(module) and module.__name__ == path
    submodule: ModuleType | None = None
    if is_package:
        submodule = _imported(f"{path}.{name}", target)
    if submodule is not None:
        return submodule
    is_module_missing = is_package and target != f"{path}.{name}"
    missing = name
    if is_module_missing:
        missing = f"module {name}"
    why = f"{_place(path, module)} has no {missing}{_close_member(module, path, name)}"
    raise UsageError(f"{target} does not exist: {why}")


def _close_member(module: ModuleType, path: str, name: str) -> str:
    """Return the question for a public member with a similar name; empty if there is none."""
    public = [other for other in dir(module) if not other.startswith("_")]
    close = close_matches(name, public)
    if close:
        return f"; did you mean {path}.{close[0]}?"
    return ""


def under(name: str, packages: Sequence[str]) -> bool:
    """Return True if the dotted `name` is one of `packages`, or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_home(module: str, plugins: Sequence[str]) -> bool:
    top = module.partition(".")[0]
    if top in PACKAGES:
        return under(module, HOMES)
    return top in plugins


def _imported(module: str, target: str) -> ModuleType | None:
    """Return the module; None if it does not exist, UsageError if it exists and does not load."""
    here = str(Path.cwd())
    if module.partition(".")[0] not in PACKAGES and here not in sys.path:
        sys.path.append(here)  # a plugin may lie where the command is given, as with `python -m`
    try:
        return importlib.import_module(module)
    except Exception as e:  # a plugin's own code runs here
        if isinstance(e, ModuleNotFoundError) and e.name == module:
            return None
        why = f"{target} cannot be imported: {type(e).__name__}: {e}"
        if isinstance(e, SyntaxError):  # it names file and line itself
            raise UsageError(why) from e
        last = traceback.extract_tb(e.__traceback__)[-1]
        raise UsageError(f"{why} ({last.filename}, line {last.lineno})") from e


def _place(path: str, module: ModuleType) -> str:
    """Return how a message names a module: that of a plugin with its file."""
    file = vars(module).get("__file__")
    if path.split(".")[0] in PACKAGES or not file:
        return path
    return f"{path} ({file})"


def _is_allowed(value: Any, plugins: Sequence[str]) -> bool:
    """Return True if what a name led to may be built."""
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return False
    module = str(value.__module__)
    if not _is_home(module, plugins):
        return False
    top = module.partition(".")[0]
    if top == "dltrain":
        return inspect.isclass(value) or under(module, FACTORIES)
    return top not in PACKAGES or _is_plain_class_of_torch(value, module)


def _is_plain_class_of_torch(value: Any, module: str) -> bool:
    import torch

    if not inspect.isclass(value) or not under(module, DEFINED):
        return False
    bases = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    return value.__name__ not in CALLS_ANYTHING and issubclass(value, bases)


def _described(value: Any) -> str:
    """Return what a message calls something that may not be built."""
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    if inspect.isclass(value):
        return f"the class {value.__module__}.{value.__qualname__}"
    if inspect.isroutine(value):
        return f"the function {value.__module__}.{value.__qualname__}"
    return f"an object of the class {type(value).__qualname__}"
