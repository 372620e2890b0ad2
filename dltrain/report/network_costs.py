"""The size of a trained network and the time of its predictions."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dltrain.engine import Engine, Task
from dltrain.report.costs import COUNTED, enlarge, inputs_of
from dltrain.report.network_figures import Figures
from dltrain.types import RoundedLayer
from dltrain.weights.freezing import PREFIX

BATCHES = (1, 64)
"""The numbers of samples that are predicted at once."""
MAX_SECONDS = 0.3  # of the timed passes of a network and a batch; one pass may take longer
MIN_PASSES = 3
MAX_PASSES = 50
LONG_SECONDS = 1.0  # a pass that takes longer is timed once
Pass = Callable[[], object]


@dataclass(frozen=True)
class NetworkSize:
    """The size of a network: that of its weights on the disk, and its numbers.

    `weight_bytes` are those of weights and buffers as a checkpoint stores them, without optimizers
    and averages. `flops` are those of a prediction for one sample; 0 where they are not known.
    """

    weight_bytes: int
    parameters: int
    nonzero_parameters: int
    flops: int


@dataclass(frozen=True)
class Subject:
    """A trained task in evaluation mode, with inputs (B, ...) that it predicts."""

    task: Task
    engine: Engine
    inputs: Tensor

    @classmethod
    def of(cls, engine: Engine, batch: Any) -> Subject:
        """Return the task of an engine, with a batch of data made large enough."""
        inputs = inputs_of(enlarge(engine.move(batch), max(BATCHES)))
        engine.task.eval()
        return cls(engine.task, engine, inputs)

    def predict(self, count: int) -> Any:
        """Return the predictions for `count` samples, when the device has made them."""
        with torch.no_grad(), self.engine.autocast:
            outputs = self.task.predict(self.inputs[:count])
        if self.inputs.device.type != "cpu":
            torch.accelerator.synchronize(self.inputs.device)
        return outputs

    def size(self) -> NetworkSize:
        """Return the size of the network."""
        counter = FlopCounterMode(display=False, custom_mapping=counted())
        with counter:
            self.predict(1)
        numbers = list(self.parameters())
        stored = [v for v in of_network(self.task.state_dict()).values() if isinstance(v, Tensor)]
        return NetworkSize(
            weight_bytes=sum(value.numel() * value.element_size() for value in stored),
            parameters=sum(p.numel() for p in numbers),
            nonzero_parameters=sum(int(p.count_nonzero()) for p in numbers),
            flops=int(counter.get_total_flops()),
        )

    def parameters(self) -> Iterator[Tensor]:
        """Yield weights and biases of the network; those of rounded layers as real numbers."""
        yield from of_network(dict(self.task.named_parameters())).values()
        for layer in of_network(dict(self.task.named_modules())).values():
            if isinstance(layer, RoundedLayer):
                yield from layer.real_parameters()


def int8_convolution_flops(
    inputs: Sequence[int],
    scale: Any,
    zero_point: Any,
    weight: Sequence[int],
    *others: Any,
    out_shape: Any,
    **named: Any,
) -> int:
    """Return the FLOPs of an int8 convolution with a weight (O, I, h, w)."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def linear_flops(inputs: Sequence[int], *others: Any, out_shape: Any, **named: Any) -> int:
    """Return the FLOPs of a product of inputs (..., I) with rounded weights (O, I)."""
    return 2 * math.prod(inputs) * int(out_shape[-1])


def counted() -> dict[Any, Any]:
    """Return the FLOPs of operations that torch's counter does not know, as functions."""
    try:
        rounded = {
            torch.ops.onednn.qconv_pointwise: int8_convolution_flops,
            torch.ops.onednn.qlinear_pointwise: linear_flops,
            torch.ops.aten._weight_int4pack_mm_for_cpu: linear_flops,
        }
    except AttributeError:  # a build of torch without the kernels
        rounded = {}
    return {**COUNTED, **rounded}


def of_network(values: dict[str, Any]) -> dict[str, Any]:
    """Return what belongs to the network of a task, by name; all of it if no part is called so."""
    own = {name: value for name, value in values.items() if name.startswith(PREFIX)}
    return own or values


def figures_of(subjects: Sequence[Subject]) -> list[Figures]:
    """Return size and latency of each subject.

    `weight_bytes`, `parameters`, `nonzero_parameters` and `flops` are those of `NetworkSize`;
    `latency_ms_1` and `latency_ms_64` are the median milliseconds of a prediction of so many
    samples. The subjects take turns on one thread, so the machine is as busy for one as for
    another.
    """
    figures: list[Figures] = [asdict(subject.size()) for subject in subjects]
    with one_thread():
        for count in BATCHES:
            times = medians([bound(subject, count) for subject in subjects])
            for own, median in zip(figures, times, strict=True):
                own[f"latency_ms_{count}"] = 1000 * median
    return figures


def bound(subject: Subject, count: int) -> Pass:
    """Return a function that predicts `count` samples."""
    return lambda: subject.predict(count)


def medians(passes: Sequence[Pass]) -> list[float]:
    """Return the median seconds of each function; they are called in turns."""
    first = [seconds(one) for one in passes]  # memory is allocated, kernels are chosen
    rounds = min((number_of_rounds(once) for once in first), default=0)
    times: list[list[float]] = [[] for _ in passes]
    for _ in range(rounds):
        for one, own in zip(passes, times, strict=True):
            own.append(seconds(one))
    return [statistics.median(own) for own in times]


def number_of_rounds(once: float) -> int:
    """Return how often a function is timed that takes so many seconds."""
    if once >= LONG_SECONDS:
        return 1
    return max(MIN_PASSES, min(MAX_PASSES, int(MAX_SECONDS / max(once, 1e-9))))


def seconds(one: Pass) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    one()
    return time.perf_counter() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
