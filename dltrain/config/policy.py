"""Which `_target_` may be built: a configuration is code only where the user wrote it.

The rule: the name has to begin with a part of dltrain, torch or torchvision that holds what is chosen from (HOMES), or
with a plugin named on the command line, or it is refused before anything is imported. The way to the object leads through
such modules only. Then the object found is judged by what it is and where it was defined, not by the name that led to it:
`torch.nn.modules.module.torch.load` is stopped at torch. Of functions only those of dltrain pass that make something to
choose (FACTORIES): a run's saved configuration must not be able to download, unpack, load or write.
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
from dltrain.config.spelling import close_matches
from dltrain.errors import UsageError

PACKAGES = ("dltrain", "torch", "torchvision")
FACTORIES = tuple(
    f"dltrain.{name}" for name in ("losses", "models", "optimizers", "schedules", "regularization")
)
HOMES = (
    *FACTORIES,
    *(
        f"dltrain.{name}"
        for name in ("callbacks", "config.settings", "data", "device", "initialization", "metrics")
    ),
    *("dltrain.preprocessing", "dltrain.tasks"),
    *("torch.nn", "torch.optim", "torchvision.models", "torchvision.ops", "torchvision.transforms"),
)
DEFINED = (
    "torch.nn.modules",
    "torch.optim",
    "torchvision",
)  # torch.nn has more, that starts processes and reads files
LONGEST = 200  # characters of a name
BUILT = "may not be built from a configuration"


def locate(target: str, plugins: Sequence[str] = ()) -> Any:
    """The class or function that `target` names; UsageError if the rule above refuses it or it does not exist."""
    if len(target) > LONGEST or not target.isprintable():
        raise UsageError(f"{target[:60]!r} is not the public name of a class or function")
    target = current_name(target)
    parts = target.split(".")
    if parts[0] not in PACKAGES and (
        parts[0] not in plugins or parts[0] in sys.stdlib_module_names
    ):
        named = (
            parts[0]
            if parts[0].isidentifier() and parts[0] not in sys.stdlib_module_names
            else "NAME"
        )
        raise UsageError(
            f"{target} is not imported: targets come from {', '.join(PACKAGES)}, "
            f"or from a package of yours that you name on the command line, as plugins=[{named}]"
        )
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        raise UsageError(f"{target} is not the public name of a class or function")
    if parts[0] in PACKAGES and not under(target, HOMES):
        homes = [home for home in HOMES if home.startswith(f"{parts[0]}.")]
        close = close_matches(".".join(parts[:2]), homes)
        meant = (
            f"; did you mean {current_name('.'.join([close[0], *parts[2:]]))}?"
            if close and close[0].count(".") == 1
            else ""
        )
        raise UsageError(
            f"{target} {BUILT}; of {parts[0]} only what is in {', '.join(homes)} may{meant}"
        )
    return _walk(target, parts, plugins)


def _walk(target: str, parts: list[str], plugins: Sequence[str]) -> Any:
    found: Any = _import(parts[0], target)
    if found is None:
        raise UsageError(
            f"{target} does not exist: there is no module {parts[0]}, neither installed nor as {parts[0]}.py in {Path.cwd()}"
        )
    for i, part in enumerate(parts[1:], 1):
        inside, path = found, ".".join(parts[:i])
        if not isinstance(inside, ModuleType) or not (
            inside.__name__ == path or _is_home(inside.__name__, plugins)
        ):
            raise UsageError(f"{target} {BUILT}: {path} is {_describe(inside)}")
        if hasattr(inside, part):
            found = getattr(inside, part)
            continue
        is_package = hasattr(inside, "__path__") and inside.__name__ == path
        found = _import(".".join(parts[: i + 1]), target) if is_package else None
        if found is None:
            close = close_matches(part, [name for name in dir(inside) if not name.startswith("_")])
            meant = f"; did you mean {path}.{close[0]}?" if close else ""
            missing = f"module {part}" if is_package and i + 1 < len(parts) else part
            raise UsageError(
                f"{target} does not exist: {_where(path, inside)} has no {missing}{meant}"
            )
    if not _allowed(found, plugins):
        raise UsageError(f"{target} {BUILT}: it is {_describe(found)}")
    return found


def under(name: str, packages: Sequence[str]) -> bool:
    """Whether the dotted `name` is one of `packages` or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_home(module: str, plugins: Sequence[str]) -> bool:
    top = module.partition(".")[0]
    return under(module, HOMES) if top in PACKAGES else top in plugins


def _import(module: str, target: str) -> ModuleType | None:
    """The module, or None if there is no such module; UsageError if it exists and does not load."""
    here = str(Path.cwd())
    if module.split(".")[0] not in PACKAGES and here not in sys.path:
        sys.path.append(here)  # a plugin may lie where the command is given, as with `python -m`
    try:
        return importlib.import_module(module)
    except Exception as e:  # a plugin's own code runs here
        if isinstance(e, ModuleNotFoundError) and e.name == module:
            return None
        last = traceback.extract_tb(e.__traceback__)[-1]
        where = (
            "" if isinstance(e, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        )  # that says it itself
        raise UsageError(f"{target} cannot be imported: {type(e).__name__}: {e}{where}") from e


def _where(name: str, found: Any) -> str:
    """How a message names what `locate` has come to: a plugin's module with its file."""
    file = getattr(found, "__file__", None)
    return f"{name} ({file})" if file and name.split(".")[0] not in PACKAGES else name


def _allowed(found: Any, plugins: Sequence[str]) -> bool:
    if not (inspect.isclass(found) or inspect.isfunction(found)) or not _is_home(
        str(found.__module__), plugins
    ):
        return False
    home = found.__module__.partition(".")[0]
    if home == "dltrain":
        return inspect.isclass(found) or under(found.__module__, FACTORIES)
    if home not in PACKAGES:
        return True
    import torch

    bases = (
        torch.nn.Module,
        torch.optim.Optimizer,
        torch.optim.lr_scheduler.LRScheduler,
    )  # transforms are Modules too
    plain = under(found.__module__, DEFINED) and found.__name__ != "Lambda"  # that calls anything
    return plain and inspect.isclass(found) and issubclass(found, bases)


def _describe(found: Any) -> str:
    if isinstance(found, ModuleType):
        return f"the module {found.__name__}"
    kind = (
        "class"
        if inspect.isclass(found)
        else "function"
        if callable(found)
        else type(found).__name__
    )
    return f"the {kind} {getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', '?')}"
