"""Folders of runs that nobody trained: as few files as a listing reads, made in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIRECTIONS = {"accuracy": "max", "loss": "min"}


def config_of(seed: int = 0, lr: float = 0.001, **values: Any) -> dict[str, Any]:
    """Return a configuration, smaller than a real one."""
    config = {
        "seed": seed,
        "name": None,
        "debug": None,
        "paths": {"data": "data", "output": "outputs"},
        "init": {"from": None, "weights": None},
        "model": {"_target_": "dltrain.models.mlp.MLP", "hidden_sizes": [256, 128]},
        "dataset": {
            "_target_": "dltrain.data.images.in_memory.InMemory",
            "source": {"_target_": "dltrain.data.images.digits.Digits", "path": None},
        },
        "task": {"_target_": "dltrain.tasks.classification.Classification"},
        "optimizer": {"_target_": "dltrain.optimizers.adam.adam", "lr": lr},
    }
    return config | values


def manifest_of(config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a manifest of a run with that configuration."""
    settings = {"model": "mlp", "dataset": "digits", "optimizer.lr": config["optimizer"]["lr"]}
    return {
        "command": "dltrain",
        "overrides": [],
        "choices": {"model": "mlp", "dataset": "digits", "optimizer": "adam"},
        "config": config,
        "watch": {"metric": "val/accuracy", "mode": "max"},
        "directions": DIRECTIONS,
        "created": "2030-01-02T10:00:00+0000",
        "effective": {"parameters": 100, "test_samples": 10},
        "settings": settings,
    } | more


def results_of(accuracy: float = 0.9, status: str = "completed", **more: Any) -> dict[str, Any]:
    """Return the results of a run that reached `accuracy`."""
    return {
        "status": status,
        "metrics": {"val/accuracy": accuracy, "test/accuracy": accuracy, "test/loss": 1 - accuracy},
        "best": {"metric": "val/accuracy", "value": accuracy, "epoch": 2, "step": 20},
        "epochs": 2,
        "steps": 20,
        "seconds": 3.5,
        "samples_per_second": 1000.0,
    } | more


def make_run(
    root: Path,
    path: str,
    config: dict[str, Any] | None = None,
    results: dict[str, Any] | None = None,
    **manifest: Any,
) -> Path:
    """Make a run's folder `path` below `root`; without results, it has not ended."""
    folder = root / path
    folder.mkdir(parents=True)
    content = manifest_of(config or config_of(), **manifest)
    (folder / "config.yaml").write_text("{seed: 0}\n", encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder
