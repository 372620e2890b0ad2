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
# operations with more arguments, or whose memory is not in a cache, take longer to call than the
# additions that are measured: up to four times as long
CALL_FACTOR = 4.0
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
    """Return the seconds of kernels in a traced step.

    On a GPU that is the mean time of its kernels; on a CPU the usual time of operations
    beyond the `price` of their calls, in seconds.
    """
    steps = step_ranges(events)
    on_device = [event for event in events if is_device_kernel(event)]
    if on_device:
        microseconds = sum(event.time_range.elapsed_us() for event in on_device)
        return microseconds * SECONDS_PER_UNIT / max(1, len(steps))
    of_steps: list[list[float]] = [[] for _ in steps]
    for place, event in within_steps(events, steps):
        of_steps[place].append(event.self_cpu_time_total * SECONDS_PER_UNIT)
    return usual_seconds(of_steps, CALL_FACTOR * price)


def step_ranges(events: Sequence[Any]) -> list[tuple[float, float]]:
    """Return the start and the end of each traced step, in order."""
    ranges = []
    for event in events:
        if event.name == STEP and event.device_type == DeviceType.CPU:
            ranges.append((event.time_range.start, event.time_range.end))
    return sorted(ranges)


def usual_seconds(of_steps: Sequence[Sequence[float]], fixed: float) -> float:
    """Return the seconds of a step's operations beyond a `fixed` cost of each, as they usually are.

    Where all steps make the same operations, the median of each operation counts: the system
    interrupts some of them.
    """
    counts = {len(operations) for operations in of_steps}
    if len(counts) == 1:
        medians = map(statistics.median, zip(*of_steps, strict=True))
        return seconds_beyond(fixed, medians)
    sums = [seconds_beyond(fixed, operations) for operations in of_steps]
    return statistics.median(sums or [0.0])


def seconds_beyond(fixed: float, operations: Iterable[float]) -> float:
    """Return the sum of the seconds of operations, each less a `fixed` cost."""
    total = 0.0
    for seconds in operations:
        total += max(0.0, seconds - fixed)
    return total


def is_device_kernel(event: Any) -> bool:
    """Return whether an event is work of a GPU, and not a range that a program has named."""
    return event.device_type != DeviceType.CPU and not event.is_user_annotation


def within_steps(
    events: Sequence[Any], steps: Sequence[tuple[float, float]]
) -> Iterable[tuple[int, Any]]:
    """Yield the operations that began within one of `steps` (start, end), with its number."""
    starts = [start for start, _ in steps]
    for event in events:
        if not event.name.startswith(("aten::", COMPILED)):
            continue
        place = bisect_right(starts, event.time_range.start) - 1
        if place >= 0 and event.time_range.start <= steps[place][1]:
            yield place, event
