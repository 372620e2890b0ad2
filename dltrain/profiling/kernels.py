"""The time that kernels take within traced steps: arithmetic, without the cost of calling them."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from dltrain.profiling.timed import STEP

SECONDS_PER_UNIT = 1e-6  # the profiler counts microseconds
CALIBRATION_CALLS = 200
# an operation with more arguments takes up to twice as long to call as an addition
CALL_FACTOR = 2.0
COMPILED = "## Call CompiledFxGraph"  # the profiler's name of a compiled network's kernels


def call_seconds() -> float:
    """Return the seconds of an operation on one number: the cost of calling any operation."""
    one = torch.ones(1)
    with profile(activities=[ProfilerActivity.CPU]) as calls:
        for _ in range(CALIBRATION_CALLS):
            torch.add(one, one)
    additions = [e.self_cpu_time_total for e in events_of(calls) if e.name == "aten::add"]
    return statistics.median(additions) * SECONDS_PER_UNIT


def events_of(trace: profile) -> Sequence[Any]:
    """Return the events of a trace, or none if it has recorded nothing."""
    return trace.events() or ()


def kernel_seconds(events: Sequence[Any], price: float) -> float:
    """Return the seconds of kernels within the traced steps.

    On a GPU that is the time of its kernels; on a CPU the time of operations beyond the `price` of
    their calls, in seconds.
    """
    on_device = [event for event in events if is_device_kernel(event)]
    if on_device:
        return sum(e.time_range.elapsed_us() for e in on_device) * SECONDS_PER_UNIT
    fixed = CALL_FACTOR * price
    kernels = (e.self_cpu_time_total * SECONDS_PER_UNIT for e in within_steps(events))
    return sum(max(0.0, seconds - fixed) for seconds in kernels)


def is_device_kernel(event: Any) -> bool:
    """Return whether an event is work of a GPU, and not a range that a program has named."""
    return event.device_type != DeviceType.CPU and not event.is_user_annotation


def within_steps(events: Sequence[Any]) -> Iterable[Any]:
    """Yield the operations that began within a step."""
    steps = sorted((e.time_range.start, e.time_range.end) for e in events if e.name == STEP)
    starts = [start for start, _ in steps]
    for event in events:
        if not event.name.startswith(("aten::", COMPILED)):
            continue
        place = bisect_right(starts, event.time_range.start) - 1
        if place >= 0 and event.time_range.start <= steps[place][1]:
            yield event
