"""The part of a step that a run is bound by, and the settings that help."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import torch

from dltrain.device import Device, cpu_is_fast_in_bf16
from dltrain.profiling.clock import CALLBACK, DATA, LOGGING, Ledger, is_of_steps
from dltrain.sweeps.launchers.slots import cores

LARGER_BATCH = 4  # times the samples of a batch
MANY_RECORDS = 200  # steps between records that cost next to nothing
MAX_SETTINGS = 3
NOTABLE_SHARE = 0.1


@dataclass(frozen=True)
class Shares:
    """Fractions of a training step: waiting for data, kernels, logging with callbacks.

    `kernels` is None if no step was traced.
    """

    data: float
    kernels: float | None
    logging: float

    @property
    def python(self) -> float:
        """The fraction that is neither data nor kernels."""
        return max(0.0, 1 - self.data - (self.kernels or 0.0))

    def bound(self) -> str:
        """Return what takes most of a step: data, Python or arithmetic; "" if it is unknown."""
        if self.kernels is None:
            if self.data > 0.5:
                return DATA
            return ""
        parts = {DATA: self.data, "Python": self.python, "arithmetic": self.kernels}
        return max(parts, key=lambda name: parts[name])


def shares_of(ledger: Ledger, kernel_seconds_a_step: float | None) -> Shares:
    """Return the shares of a step of a ledger."""
    whole = ledger.of_steps()
    if not whole or not ledger.steps:
        return Shares(0.0, None, 0.0)
    callback_seconds = 0.0
    for phase, seconds in ledger.seconds.items():
        if phase.startswith(CALLBACK) and is_of_steps(phase):
            callback_seconds += seconds
    data = ledger.seconds.get(DATA, 0.0) / whole
    kernels = None
    if kernel_seconds_a_step is not None:
        kernels = min(1 - data, kernel_seconds_a_step * ledger.steps / whole)
    logging = (ledger.seconds.get(LOGGING, 0.0) + callback_seconds) / whole
    return Shares(data, kernels, logging)


def verdict(shares: Shares, settings: list[str]) -> str:
    """Return the line that says what the run is bound by and what to set."""
    bound = shares.bound()
    if not bound:
        return (
            "no stage has made enough steps to tell Python from arithmetic: "
            "leave trainer.epochs, trainer.steps and trainer.stage_steps as debug=profile sets them"
        )
    data = f"waiting for data {shares.data:.0%}"
    if shares.kernels is None:
        figures = data
    else:
        figures = f"{data}, kernels {shares.kernels:.0%}, Python and calls {shares.python:.0%}"
    advice = "no setting that this run does not use yet would help"
    if settings:
        advice = f"try {', or '.join(settings)}"
    return f"bound by {bound}: of a step, {figures}; {advice}"


def settings_for(shares: Shares, config: dict[str, Any], device: Device, learns: bool) -> list[str]:
    """Return up to three settings that may help, as typed on the command line.

    `learns` is True for a run that trains networks.
    """
    helpful = {
        DATA: data_settings(config, device),
        "Python": python_settings(shares, config, device, learns),
        "arithmetic": arithmetic_settings(config, device),
        "": {},
    }
    settings = helpful[shares.bound()]
    return [setting for setting, helps in settings.items() if helps][:MAX_SETTINGS]


def data_settings(config: dict[str, Any], device: Device) -> dict[str, bool]:
    """Return settings that bring batches sooner, and whether each may help this run."""
    dataset = config["dataset"]
    on_cpu = device.torch_device().type == "cpu"
    place = config["device"].get("data", "device")
    return {
        "dataset.workers=0": 0 < dataset.get("workers", 0) < cores(),
        "dataset.memory=true": dataset.get("memory", True) is not True,
        "device.data=device": not on_cpu and place != "device",
        "fewer options of preprocessing": bool(config["preprocessing"]),
    }


def python_settings(
    shares: Shares, config: dict[str, Any], device: Device, learns: bool
) -> dict[str, bool]:
    """Return settings that do more in each call, or make fewer calls, and whether each may help."""
    logs = shares.logging > NOTABLE_SHARE
    batch_size = config["dataset"].get("batch_size", "all")
    is_number = isinstance(batch_size, int)
    compiled = device.resolved_compile()
    on_gpu = device.torch_device().type == "cuda"
    has_compiler = shutil.which("c++") is not None
    return {
        f"trainer.log_every={MANY_RECORDS}": logs and config["trainer"]["log_every"] < MANY_RECORDS,
        "callbacks.tensorboard=null": logs and config["callbacks"].get("tensorboard") is not None,
        f"dataset.batch_size={LARGER_BATCH * batch_size}": learns and is_number,
        "device.compile=step": learns and on_gpu and compiled != "step",
        "device.compile=model": learns and not on_gpu and has_compiler and compiled == "off",
    }


def arithmetic_settings(config: dict[str, Any], device: Device) -> dict[str, bool]:
    """Return settings that compute the same in less time, and whether each may help."""
    kind = device.torch_device().type
    on_cpu = kind == "cpu"
    is_plain = device.resolved_precision() == "fp32"
    return {
        "device=cuda": on_cpu and torch.cuda.is_available(),
        "device=fast": is_plain and not config["device"].get("tune", False),
        "device.precision=bf16": is_plain and has_fast_bf16(kind),
        f"device.threads={cores()}": on_cpu and torch.get_num_threads() < cores(),
    }


def has_fast_bf16(kind: str) -> bool:
    """Return whether a kind of device has instructions for bf16."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    return kind == "cpu" and cpu_is_fast_in_bf16()
