"""Cross-validation: `dataset.folds=5` without `dataset.fold` is a sweep over the folds."""

from __future__ import annotations

from typing import Any

from dltrain.runs.identity import FOLD_KEY

FOLDS = "folds"
FOLD = "fold"


def wants_all_folds(config: dict[str, Any]) -> bool:
    """Tell if a configuration asks for folds and for none of them in particular."""
    dataset = config.get("dataset")
    if not isinstance(dataset, dict):
        return False
    return isinstance(dataset.get(FOLDS), int) and dataset.get(FOLD) is None


def fold_axis(config: dict[str, Any]) -> list[str]:
    """Return the override that sweeps over all folds, or [] if the configuration has none."""
    if not wants_all_folds(config):
        return []
    numbers = ",".join(str(number) for number in range(config["dataset"][FOLDS]))
    return [f"{FOLD_KEY}={numbers}"]
