"""Trainings and predictions in one process leave nothing behind."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import dltrain as library

SETTINGS = ("dataset=digits", "model=mlp", "trainer.epochs=1", "trainer.steps=2")


def train_and_predict() -> None:
    net = library.train(*SETTINGS).load()
    list(net.predict(np.zeros((8, 8), np.uint8)))


def left_behind() -> dict[str, int]:
    """Return counts of what a training may leave behind."""
    gc.collect()
    objects = gc.get_objects()
    tensors = [one for one in objects if isinstance(one, torch.Tensor)]
    return {
        "tensors": len(tensors),
        "bytes of tensors": sum(t.numel() * t.element_size() for t in tensors),
        "modules": sum(isinstance(one, torch.nn.Module) for one in objects),
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


def test_a_training_leaves_nothing_behind() -> None:
    for _ in range(2):
        train_and_predict()
    library.check(*SETTINGS)
    before = left_behind()
    for _ in range(2):
        train_and_predict()
    library.check(*SETTINGS)
    library.sweep(*SETTINGS, "seed=0,1")
    assert left_behind() == before


@pytest.mark.slow
def test_twenty_trainings_take_the_memory_of_three() -> None:
    sizes = []
    for _ in range(20):
        train_and_predict()
        gc.collect()
        sizes.append(resident_bytes())
    assert sizes[-1] < 1.05 * sizes[2], sizes


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])
