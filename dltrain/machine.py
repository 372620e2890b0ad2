"""The machine that a run trains on: its CPU, and the environment variables that change numbers."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

import torch

VARIABLES = (  # which change how numbers are rounded, or where data is read
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_CBWR", "ATEN_CPU_CAPABILITY"),
    *("ONEDNN_MAX_CPU_ISA", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "DLTRAIN_DATA"),
)


def machine() -> dict[str, str | int]:
    """Return the machine's CPU, the instructions that torch uses on it, and its system."""
    return {
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """Return the name of the CPU, as far as the system tells it."""
    if sys.platform == "linux":
        with suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, str]:
    """Return the variables of `VARIABLES` that are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}
