"""Config-driven deep-learning experiments, all on one engine.

The names in `__all__` are the public API. Each is imported when it is first used, so that
`import dltrain` is quick and changes nothing in the process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltrain import rng
    from dltrain.data.dataset import Dataset
    from dltrain.engine import Callback, Engine, Mean, Stage, Task
    from dltrain.errors import (
        ConfigError,
        DivergedError,
        DltrainError,
        InputError,
        UsageError,
        UserCodeError,
    )
    from dltrain.optim import Optim
    from dltrain.runs.folder import RunFolder
    from dltrain.types import (
        Activation,
        Data,
        Fraction,
        Image,
        Interval,
        NonNegative,
        Plot,
        PositiveFloat,
        PositiveInt,
        Probability,
        Sample,
        Source,
        Spec,
        Table,
        Text,
        Transform,
    )

__version__ = "0.2.0"

# Each public name and its module. The imports above are the same, for type checkers.
MODULES = {
    "dltrain.data.dataset": ("Dataset",),
    "dltrain.engine": ("Callback", "Engine", "Mean", "Stage", "Task"),
    "dltrain.errors": (
        *("ConfigError", "DivergedError", "DltrainError", "InputError", "UsageError"),
        "UserCodeError",
    ),
    "dltrain.optim": ("Optim",),
    "dltrain.runs.folder": ("RunFolder",),
    "dltrain.types": (
        *("Activation", "Data", "Fraction", "Image", "Interval", "NonNegative", "Plot"),
        *("PositiveFloat", "PositiveInt", "Probability", "Sample", "Source", "Spec", "Table"),
        *("Text", "Transform"),
    ),
}
MODULE_OF = {name: module for module, names in MODULES.items() for name in names}

__all__ = [
    "Activation",
    "Callback",
    "ConfigError",
    "Data",
    "Dataset",
    "DivergedError",
    "DltrainError",
    "Engine",
    "Fraction",
    "Image",
    "InputError",
    "Interval",
    "Mean",
    "NonNegative",
    "Optim",
    "Plot",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "RunFolder",
    "Sample",
    "Source",
    "Spec",
    "Stage",
    "Table",
    "Task",
    "Text",
    "Transform",
    "UsageError",
    "UserCodeError",
    "rng",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "rng":
        return importlib.import_module("dltrain.rng")
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
