"""The settings of the whole process that a device makes, and when it makes them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = """
import resource
import torch
from dltrain.device import let_malloc_keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)  # 64 MiB: given back to the system, where nothing is said
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
if let_malloc_keep_memory():
    faults()
    print(without, faults())
"""


def test_freed_memory_serves_what_is_asked_next_on_a_cpu():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    if not done.stdout:
        pytest.skip("this C library has no mallopt")
    without, kept = (int(word) for word in done.stdout.split())
    assert kept < without / 100


IMPORTS = """
import importlib, os, pkgutil, signal, threading
import torch

SETTINGS = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "CUBLAS_WORKSPACE_CONFIG")

def state():
    tiny = torch.tensor([1e-30]) * 1e-10  # a denormal, or 0
    return (
        bool(tiny), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(), threading.excepthook,
        {name: value for name, value in os.environ.items() if name in SETTINGS},
        [signal.getsignal(number) for number in signal.valid_signals()],
    )

before = state()
assert before[0], "torch keeps denormals unless it is told otherwise"
import dltrain
for module in pkgutil.walk_packages(dltrain.__path__, "dltrain."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
after = state()
assert before == after, [pair for pair in zip(before, after) if pair[0] != pair[1]]
"""


def test_imports_change_nothing_in_the_process():
    """Rounding, threads, hooks, the environment and signal handlers stay as they are."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flush", [True, False])
def test_denormals_are_flushed_as_the_device_says(flush: bool, dltrain):
    outcome = dltrain(
        "debug=smoke", f"device.flush_denormals={flush}".lower(), "callbacks=quiet", "--json"
    )
    assert outcome.code == 0, outcome.err
    try:
        assert bool(torch.tensor([1e-30]) * 1e-10) == (not flush)
    finally:
        torch.set_flush_denormal(False)
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text())
    assert manifest["flush_denormals"] is flush
    assert manifest["keep_freed_memory"] is (manifest["device"] == "cpu")
