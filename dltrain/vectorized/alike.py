"""The runs of a sweep that can be one program: they differ in their seeds, or in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dltrain.runs.identity import canonical, is_surrounding
from dltrain.types import flatten

NUMBERED = (
    "optimizer.",
    "schedule.",
    "regularization.",
    "loss.",
)  # groups whose numbers may differ
DROPOUT = "dropout"  # the end of a key of a model that may differ
WORD_DROPOUT = "word_dropout"  # but this one is no layer, so all runs would have that of the first


def may_differ(key: str, value: Any) -> bool:
    """Return whether runs of one program may have different values of a dotted key."""
    if key == "seed" or is_surrounding(key):
        return True
    is_dropout = key.endswith(DROPOUT) and not key.endswith(WORD_DROPOUT)
    is_open = key.startswith(NUMBERED) or is_dropout
    return is_open and is_numeric(value)


def is_numeric(value: Any) -> bool:
    """Return whether a value is a number, or a list of numbers."""
    if isinstance(value, list | tuple):
        return all(map(is_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def likeness(config: dict[str, Any]) -> str:
    """Return what the runs of one program have in common of their configurations."""
    values = flatten(config)
    return canonical(
        {key: "?" if may_differ(key, value) else value for key, value in values.items()}
    )


def reason_apart(config: dict[str, Any]) -> str:
    """Return why a run is trained alone, as its configuration tells; "" if it need not be."""
    device = config["device"]
    reasons: Sequence[tuple[bool, str]] = (
        (config["trainer"]["max_seconds"] is not None, "trainer.max_seconds limits its time"),
        (config["debug"] == "profile", "debug=profile measures its steps"),
        (bool(device.get("tune")), "device=fast measures its network"),
        (device.get("compile") not in ("off", False), "device.compile compiles its network"),
        (device.get("precision") == "fp16", "device.precision=fp16 scales its loss"),
        (device.get("processes", 1) not in (1, None), "device.processes divides its batches"),
        (bool(device.get("checkpoint_activations")), "device.checkpoint_activations is set"),
    )
    return next((reason for applies, reason in reasons if applies), "")
