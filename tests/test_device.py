"""What the process is set to for its device."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from dltrain.device import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)  # 64 MiB: given back to the system, where nothing is said
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
if keep_freed_memory():
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
