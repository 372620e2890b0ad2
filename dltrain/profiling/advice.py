"""What a run is bound by, and the settings that help."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
            return DATA if self.data > 0.5 else ""
        parts = {DATA: self.data, "Python": self.python, "arithmetic": self.kernels}
        return max(parts, key=lambda name: parts[name])


def shares_of(ledger: Ledger, kernel_seconds_a_step: float | None) -> Shares:
    """Return the shares of a step of a ledger."""
    whole = ledger.of_steps()
    if not whole or not ledger.steps:
        return Shares(0.0, None, 0.0)
    callbacks = [
        seconds
        for phase, seconds in ledger.seconds.items()
        if phase.startswith(CALLBACK) and is_of_steps(phase)
    ]
    data = ledger.seconds.get(DATA, 0.0) / whole
    kernels = None
    if kernel_seconds_a_step is not None:
        kernels = min(1 - data, kernel_seconds_a_step * ledger.steps / whole)
    logging = (ledger.seconds.get(LOGGING, 0.0) + sum(callbacks)) / whole
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
    }
    return list(helpful.get(shares.bound(), iter(())))[:MAX_SETTINGS]


def data_settings(config: dict[str, Any], device: Device) -> Iterator[str]:
    """Yield settings that bring batches sooner."""
    dataset = config["dataset"]
    if 0 < dataset.get("workers", 0) < cores():
        yield "dataset.workers=0"
    if dataset.get("memory", True) is not True:
        yield "dataset.memory=true"
    on_cpu = device.torch_device().type == "cpu"
    if not on_cpu and config["device"].get("data", "device") != "device":
        yield "device.data=device"
    if config["preprocessing"]:
        yield "fewer options of preprocessing"


def python_settings(
    shares: Shares, config: dict[str, Any], device: Device, learns: bool
) -> Iterator[str]:
    """Yield settings that do more work for each call, or fewer calls."""
    if shares.logging > NOTABLE_SHARE:
        if config["trainer"]["log_every"] < MANY_RECORDS:
            yield f"trainer.log_every={MANY_RECORDS}"
        if config["callbacks"].get("tensorboard") is not None:
            yield "callbacks.tensorboard=null"
    if not learns:
        return
    batch_size = config["dataset"].get("batch_size")
    if isinstance(batch_size, int):
        yield f"dataset.batch_size={LARGER_BATCH * batch_size}"
    is_eager = device.resolved_compile() == "off"
    if device.torch_device().type == "cuda":
        if device.resolved_compile() != "step":
            yield "device.compile=step"
    elif is_eager and shutil.which("c++"):
        yield "device.compile=model"


def arithmetic_settings(config: dict[str, Any], device: Device) -> Iterator[str]:
    """Yield settings with which the same arithmetic takes less time."""
    kind = device.torch_device().type
    if kind == "cpu" and torch.cuda.is_available():
        yield "device=cuda"
    is_plain = device.resolved_precision() == "fp32"
    if is_plain and not config["device"].get("tune", False):
        yield "device=fast"
    if is_plain and has_fast_bf16(kind):
        yield "device.precision=bf16"
    if kind == "cpu" and torch.get_num_threads() < cores():
        yield f"device.threads={cores()}"


def has_fast_bf16(kind: str) -> bool:
    """Return whether a kind of device has instructions for bf16."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    return kind == "cpu" and cpu_is_fast_in_bf16()
