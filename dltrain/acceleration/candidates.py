"""The settings that device=fast chooses among, and how they are named in messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FP32_TOLERANCE = 1e-3  # relative; another memory format or compiled kernels add in another order
LOW_TOLERANCE = 2e-2  # relative; bf16 has 8 bits, fp16 and TF32 have 11
COMPILED = {"model": "compiled", "step": "whole step compiled"}


@dataclass(frozen=True)
class Candidate:
    """Settings of a device that can be measured: precision, memory format, compilation, threads.

    `channels_last` is None for a network without convolutions, and `threads` is 0 where the
    device is not a CPU: such a setting makes no difference, and is left as it is.
    """

    precision: str = "fp32"
    channels_last: bool | None = None
    compile: str = "off"
    threads: int = 0

    @property
    def tolerance(self) -> float:
        """The relative difference of the losses that is accepted."""
        if self.precision == "fp32":
            return FP32_TOLERANCE
        return LOW_TOLERANCE

    @property
    def network(self) -> tuple[str, bool | None, str]:
        """The settings that a network is built with; threads can be changed afterwards."""
        return self.precision, self.channels_last, self.compile

    def __str__(self) -> str:
        parts = [self.precision]
        if self.channels_last is not None:
            parts.append("channels-last" if self.channels_last else "contiguous")
        if self.compile in COMPILED:
            parts.append(COMPILED[self.compile])
        if self.threads:
            parts.append("1 thread" if self.threads == 1 else f"{self.threads} threads")
        return ", ".join(parts)

    def settings(self) -> dict[str, Any]:
        """Return the settings by their keys in a configuration; without those left as they are."""
        settings: dict[str, Any] = {"precision": self.precision, "compile": self.compile}
        if self.channels_last is not None:
            settings["channels_last"] = self.channels_last
        if self.threads:
            settings["threads"] = self.threads
        return settings


@dataclass(frozen=True)
class CandidateSpace:
    """The values that each setting may have; those of `reference` are among them.

    A setting that the user fixed has one value. `reference` is what device=auto does.
    """

    reference: Candidate
    precisions: tuple[str, ...]
    formats: tuple[bool | None, ...]
    compilations: tuple[str, ...]
    threads: tuple[int, ...]


def thread_counts(available: int) -> tuple[int, ...]:
    """Return the powers of two below the number of available threads, and that number."""
    counts = []
    count = 1
    while count < available:
        counts.append(count)
        count *= 2
    return (*counts, available)
