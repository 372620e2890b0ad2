"""Which `_target_` may be built: a configuration is code only where the user wrote it.

The rule: the name's top package must be dltrain, torch, torchvision or a plugin named on the command line, or the name
is refused before anything is imported. Then the object found is judged by what it is and where it was defined, not by
the name that led to it: `torch.nn.modules.module.torch.load` is torch.load. Of dltrain's own functions only those pass
that make something to choose (FACTORIES): a run's saved configuration must not be able to call data.download.fetch.
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

from dltrain.config.schema import close_matches
from dltrain.errors import UsageError

PACKAGES = ("dltrain", "torch", "torchvision")
FACTORIES = tuple(f"dltrain.{name}" for name in ("losses", "models", "optimizers", "schedules", "regularization"))
TORCH_FUNCTIONS: frozenset[str] = frozenset()  # torch functions that a configuration may name: none is needed yet


def locate(target: str, plugins: Sequence[str] = ()) -> Any:
    """The class or function that `target` names; UsageError if the rule above refuses it or it does not exist."""
    parts = target.split(".")
    if parts[0] not in (*PACKAGES, *plugins):
        raise UsageError(
            f"{target} is not imported: targets come from {', '.join(PACKAGES)}, "
            f"or from a package that you name on the command line, as plugins=[{parts[0]}]"
        )
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        raise UsageError(f"{target} is not the public name of a class or function")
    found: Any = _import(parts[0], target)
    if found is None:
        raise UsageError(
            f"{target} does not exist: there is no module {parts[0]}, neither installed nor as {parts[0]}.py in {Path.cwd()}"
        )
    for i, part in enumerate(parts[1:], 1):
        inside = found
        if hasattr(inside, part):
            found = getattr(inside, part)
            continue
        is_package = hasattr(inside, "__path__") and inside.__name__ == ".".join(parts[:i])
        found = _import(".".join(parts[: i + 1]), target) if is_package else None
        if found is None:
            close = close_matches(part, [name for name in dir(inside) if not name.startswith("_")])
            meant = f"; did you mean {'.'.join([*parts[:i], close[0]])}?" if close else ""
            missing = f"module {part}" if is_package and i + 1 < len(parts) else part
            raise UsageError(f"{target} does not exist: {_where('.'.join(parts[:i]), inside)} has no {missing}{meant}")
    if not _allowed(found, plugins):
        raise UsageError(f"{target} may not be built from a configuration: it is {_describe(found)}")
    return found


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
        where = "" if isinstance(e, SyntaxError) else f" ({last.filename}, line {last.lineno})"  # that says it itself
        raise UsageError(f"{target} cannot be imported: {type(e).__name__}: {e}{where}") from e


def _where(name: str, found: Any) -> str:
    """How a message names what `locate` has come to: a plugin's module with its file."""
    file = getattr(found, "__file__", None)
    return f"{name} ({file})" if file and name.split(".")[0] not in PACKAGES else name


def _allowed(found: Any, plugins: Sequence[str]) -> bool:
    module = str(getattr(found, "__module__", ""))
    home = module.split(".")[0]
    if home == "dltrain" and inspect.isfunction(found):  # others download, unpack and write files
        return module.startswith(FACTORIES)
    if home in ("dltrain", *plugins):
        return inspect.isclass(found) or inspect.isfunction(found)
    if home not in PACKAGES:
        return False
    if inspect.isclass(found):
        import torch

        # torchvision's transforms are Modules too
        bases = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.utils.data.Dataset)
        return issubclass(found, bases)
    return f"{found.__module__}.{getattr(found, '__qualname__', '')}" in TORCH_FUNCTIONS


def _describe(found: Any) -> str:
    if isinstance(found, ModuleType):
        return f"the module {found.__name__}"
    kind = "class" if inspect.isclass(found) else "function" if callable(found) else type(found).__name__
    return f"the {kind} {getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', '?')}"
