"""A run that compiles nothing does not load torch's compiler, and makes the same steps."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from dltrain.acceleration.start_up import without_graph_breaks

TRAINED = """
import sys, torch
from torch import nn
from dltrain.device import Device
Device(name="cpu", {settings}).set_up()
layer = nn.Linear(2, 2)
for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop):
    optimizer = kind(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


def compiler_is_loaded(settings: str) -> bool:
    """Train in a process of its own; return whether that loaded the compiler."""
    command = [sys.executable, "-c", TRAINED.format(settings=settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_a_run_that_compiles_nothing_loads_no_compiler() -> None:
    assert not compiler_is_loaded("")


def test_a_run_that_compiles_keeps_torchs_steps() -> None:
    assert compiler_is_loaded("compile='model'")


def test_the_step_records_no_gradient() -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    recording: list[bool] = []

    def step(self: torch.optim.Optimizer) -> None:
        recording.append(torch.is_grad_enabled())

    without_graph_breaks(step)(optimizer)
    optimizer.defaults["differentiable"] = True
    without_graph_breaks(step)(optimizer)
    assert recording == [False, True]
    assert torch.is_grad_enabled()
