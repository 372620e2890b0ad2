"""Config-driven deep-learning experiments, all on one engine.

The names in `__all__` are the public API. Each is imported when it is first used, so that
`import dltrain` is quick and changes nothing in the process.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltrain import rng
    from dltrain.api.check import CheckReport, check
    from dltrain.api.evaluate import Evaluation, evaluate
    from dltrain.api.load import load
    from dltrain.api.predictor import Predictor
    from dltrain.api.resume import resume
    from dltrain.api.run import History, Run
    from dltrain.api.sweep import Sweep, sweep
    from dltrain.api.train import RunInterrupted, train
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
    "dltrain.api.check": ("CheckReport", "check"),
    "dltrain.api.evaluate": ("Evaluation", "evaluate"),
    "dltrain.api.load": ("load",),
    "dltrain.api.predictor": ("Predictor",),
    "dltrain.api.resume": ("resume",),
    "dltrain.api.run": ("History", "Run"),
    "dltrain.api.sweep": ("Sweep", "sweep"),
    "dltrain.api.train": ("RunInterrupted", "train"),
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
    "CheckReport",
    "ConfigError",
    "Data",
    "Dataset",
    "DivergedError",
    "DltrainError",
    "Engine",
    "Evaluation",
    "Fraction",
    "History",
    "Image",
    "InputError",
    "Interval",
    "Mean",
    "NonNegative",
    "Optim",
    "Plot",
    "PositiveFloat",
    "PositiveInt",
    "Predictor",
    "Probability",
    "Run",
    "RunFolder",
    "RunInterrupted",
    "Sample",
    "Source",
    "Spec",
    "Stage",
    "Sweep",
    "Table",
    "Task",
    "Text",
    "Transform",
    "UsageError",
    "UserCodeError",
    "check",
    "evaluate",
    "load",
    "resume",
    "rng",
    "sweep",
    "train",
]

# As libraries do: messages go where the program that imports dltrain sends them, or nowhere.
logging.getLogger("dltrain").addHandler(logging.NullHandler())


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
