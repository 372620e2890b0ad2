"""Costs of a training step: layers, FLOPs, memory and time, measured on one batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dltrain.engine import Engine, Stage, Task
from dltrain.step_runner import weighted
from dltrain.types import AuxiliaryHeads, EnvironmentBatch
from dltrain.weights.freezing import trainable_count

MAX_BATCH_SIZE = 4096  # that is measured
MAX_TIMED_STEPS = 8
MAX_TIMED_SECONDS = 2.0  # no further step after this time
UNTIMED_PREDICTIONS = 10  # before the first that is timed
MAX_PREDICTIONS = 300  # that are timed


class LayerRow(NamedTuple):
    """A line of the table of layers."""

    name: str
    type: str
    output_shape: str
    parameters: str


class StepCosts(NamedTuple):
    """The bytes that a step keeps for its backward pass, the first loss, and the time of a step."""

    activation_bytes: int
    initial_loss: float
    seconds: float


def recurrent_flops(
    inputs: Sequence[int],
    input_weights: Sequence[int],
    hidden_weights: Sequence[int],
    *others: Any,
    **named: Any,
) -> int:
    """Return the FLOPs of an LSTM layer in oneDNN, which torch's counter does not know.

    Shapes: inputs (T, B, F), weights (4 H, F) and (4 H, H).
    """
    steps, samples, features = inputs
    return int(2 * steps * samples * input_weights[0] * (features + hidden_weights[1]))


COUNTED = {torch.ops.aten.mkldnn_rnn_layer: recurrent_flops}


def enlarge(batch: Any, count: int) -> Any:
    """Return a fake batch repeated to `count` samples, at most `MAX_BATCH_SIZE`."""
    if isinstance(batch, EnvironmentBatch):
        return batch
    count = min(count, MAX_BATCH_SIZE)
    if isinstance(batch, Tensor):
        repeats = math.ceil(count / len(batch))
        return batch.repeat(repeats, *[1] * (batch.ndim - 1))[:count]
    return type(batch)(enlarge(part, count) for part in batch)


def inputs_of(batch: Any) -> Tensor:
    """Return the inputs (B, ...) of a batch."""
    if isinstance(batch, EnvironmentBatch):
        return batch.example()
    inputs: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
    return inputs


def prediction_flops(task: Task, batch: Any, engine: Engine) -> int:
    """Return the FLOPs of a prediction for one sample."""
    counter = FlopCounterMode(display=False, custom_mapping=COUNTED)
    with counter, torch.no_grad(), engine.autocast:
        task.eval().predict(inputs_of(batch)[:1])
    task.train()
    return int(counter.get_total_flops())


def step_costs(stage: Stage, batch: Any, engine: Engine) -> StepCosts:
    """Train on the batch several times; return what a step costs (its time is the median)."""
    kept: dict[int, int] = {}  # bytes by address

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), engine.autocast:
        metrics = weighted(stage.step(batch), stage, samples=1)
    loss = float(metrics.get("loss", torch.tensor(math.nan)))
    times: list[float] = []
    while len(times) < MAX_TIMED_STEPS and sum(times) <= MAX_TIMED_SECONDS:
        start = time.perf_counter()
        with engine.autocast:
            metrics = stage.step(batch)
        _ = [float(value) for value in metrics.values()]  # waits for the device
        times.append(time.perf_counter() - start)
    median = sorted(times)[len(times) // 2]
    return StepCosts(sum(kept.values()), loss, median)


def layer_rows(task: Task, stage: Stage, batch: Any, engine: Engine) -> list[LayerRow]:
    """Return a row for every module without children, in the order in which a step runs them."""
    rows: dict[str, LayerRow] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def add_row(module: nn.Module, args: Any, output: Any) -> None:
            shape = str(tuple(output.shape)) if isinstance(output, Tensor) else "-"
            parameters = f"{trainable_count(module):,}"
            rows.setdefault(name, LayerRow(name, type(module).__name__, shape, parameters))

        return add_row

    handles = []
    for name, module in task.named_modules():
        if name and not list(module.children()):
            handles.append(module.register_forward_hook(hook(name)))
    with engine.autocast:
        stage.step(batch)
    for handle in handles:
        handle.remove()
    return list(rows.values())


def network_parameters(network: nn.Module) -> int:
    """Return the number of parameters without auxiliary heads, which only training has.

    Those that are not trained count as well.
    """
    return sum(p.numel() for p in network.parameters()) - auxiliary_parameters(network)


def median_latency(task: Task, inputs: Tensor, engine: Engine) -> float:
    """Return the median time in seconds of a prediction for all of `inputs` (B, ...).

    On a busy machine the time is longer than alone.
    """
    times: list[float] = []
    task.eval()
    with torch.no_grad(), engine.autocast:
        for _ in range(UNTIMED_PREDICTIONS):
            task.predict(inputs)
        while len(times) < MAX_PREDICTIONS and sum(times) <= MAX_TIMED_SECONDS:
            wait_for_device()
            start = time.perf_counter()
            task.predict(inputs)
            wait_for_device()
            times.append(time.perf_counter() - start)
    task.train()
    return sorted(times)[len(times) // 2]


def wait_for_device() -> None:
    """Wait until an accelerator, if there is one, has done what was requested."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def auxiliary_parameters(task: nn.Module) -> int:
    """Return the number of parameters of auxiliary heads, which only training has."""
    total = 0
    for network in task.modules():
        if isinstance(network, AuxiliaryHeads):
            total += sum(map(trainable_count, network.auxiliary_heads()))
    return total


def state_bytes(task: nn.Module, stage: Stage) -> int:
    """Return the bytes of weights, gradients and the states of the optimizers."""
    weights = sum(p.numel() * p.element_size() for p in task.parameters())
    states = tensors_in([optim.optimizer.state_dict() for optim in stage.optims])
    return 2 * weights + sum(t.numel() * t.element_size() for t in states)


def tensors_in(value: Any) -> list[Tensor]:
    """Return every tensor in nested mappings and lists."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return tensors_in(list(value.values()))
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []
