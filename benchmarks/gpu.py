"""Measure training steps on a GPU; it needs no data.

    python -m benchmarks.gpu [--device cuda|cpu] [--steps 200]

* A step of the CNN with device.compile=step, against plain steps and against a hand-written loop
  that records a CUDA graph of the same network, optimizer and batch size.
* A language model and ResNet-50 in bf16: steps per second, and the model FLOPs utilization: the
  operations of forward and backward pass (torch.utils.flop_counter) over the peak of the card.

On a CPU the step is not recorded and has no peak; the figures then show only that the script runs.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dltrain.config.compose import compose
from dltrain.engine import Engine
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.files import to_json
from dltrain.runs.folder import RunFolder

WARM_UP = 20  # steps before the clock starts: compilation, recording, the first batches
BATCH = 64
# dense bf16 operations per second, from the data sheets of the cards
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L4": 121e12, "RTX 4090": 165e12}
CNN = ("model=cnn", "dataset=synthetic", f"dataset.batch_size={BATCH}")
LARGE = {
    "transformer_lm": (
        "model=transformer_lm",
        "dataset=shakespeare",
        "debug=smoke",
        "trainer.stage_steps=null",
    ),
    "resnet50": ("model=resnet50", "dataset=synthetic"),
}


def build(device: str, steps: int, *overrides: str) -> Experiment:
    """Return an experiment that trains `steps` steps on the device."""
    settings = (f"device.name={device}", "trainer.epochs=null", f"trainer.steps={steps}")
    composed = compose([*overrides, *settings, "dataset.val_fraction=0", "callbacks=quiet"])
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_per_step(device: str, steps: int, *overrides: str) -> float:
    """Return the seconds of a step of dltrain's engine with all its default logging."""
    experiment = build(device, WARM_UP + steps, *overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder), "gpu", {})
        session = open_session(experiment, run)
        marks: list[float] = []

        def step_end(engine: Engine) -> None:
            if engine.step in (WARM_UP, WARM_UP + steps):
                synchronize(device)
                marks.append(time.perf_counter())

        session.engine.listeners["step_end"].append(step_end)
        session.engine.fit(experiment.task)
        session.engine.emit("close")
    return (marks[1] - marks[0]) / steps


def hand_written(steps: int) -> float:
    """Return the seconds of a step of a hand-written loop that replays a CUDA graph."""
    experiment = build("cuda", 1, *CNN)
    network: nn.Module = experiment.task.model  # type: ignore[assignment]
    network.train()
    spec = experiment.data.spec
    inputs = torch.randn(BATCH, *spec.input_shape, device="cuda")
    targets = torch.randint(len(spec.class_names), (BATCH,), device="cuda")
    optimizer = torch.optim.Adam(network.parameters(), fused=True, capturable=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(inputs), targets).backward()
        optimizer.step()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return timed(graph.replay, steps)


def timed(step: Callable[[], None], steps: int) -> float:
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def step_flops(device: str, *overrides: str) -> int:
    """Return the operations of one training step."""
    experiment = build(device, 1, *overrides)
    stage = next(iter(experiment.task.stages()))
    batch = experiment.device.feed().move(next(iter(stage.batches.epoch(0))))
    counter = FlopCounterMode(display=False)
    with counter, experiment.device.autocast():
        stage.step(batch)
    return int(counter.get_total_flops())


def report(name: str, value: float, unit: str, note: str = "") -> None:
    print(f"{name:44} {value:12.4g} {unit} {note}")
    print(to_json({"name": name, "value": value, "unit": unit, "note": note}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    device, steps = arguments.device, arguments.steps
    card = "CPU"
    if device == "cuda":
        card = torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {card}")
    plain = seconds_per_step(device, steps, *CNN)
    report("cnn, plain step", plain * 1e6, "microseconds")
    if device == "cpu":
        return
    recorded = seconds_per_step(device, steps, *CNN, "device.compile=step")
    report("cnn, device.compile=step", recorded * 1e6, "microseconds")
    loop = hand_written(steps)
    report("cnn, hand-written CUDA graph", loop * 1e6, "microseconds", "without reading data")
    report("cnn, device.compile=step / hand-written", recorded / loop, "times")
    peak = max((flops for name, flops in PEAK_FLOPS.items() if name in card), default=0.0)
    for name, overrides in LARGE.items():
        settings = (*overrides, "device.precision=bf16")
        seconds = seconds_per_step(device, steps, *settings)
        report(f"{name} bf16", 1 / seconds, "steps per second")
        if peak:
            used = step_flops(device, *settings) / seconds / peak
            report(f"{name} bf16, model FLOPs utilization", used, "of the peak", f"{peak:.3g}")


if __name__ == "__main__":
    main()
