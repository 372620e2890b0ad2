"""Measure training on a GPU.

    python -m benchmarks.gpu [--device cuda|cpu] [--steps 200] [--parts cnn epochs large records]

* cnn: a step of the CNN with device.compile=step, against plain steps and against a hand-written
  loop that records a CUDA graph of the same network, optimizer and batch, and gathers each batch
  from images on the device.
* epochs: five epochs of the CNN on MNIST, against the loop of most tutorials on the same card:
  transforms per sample, DataLoader, loss.item(). The latter is timed for so many steps.
* large: a language model, ResNet-50, and ResNet-18 and VGG-16 for small images in bf16: steps per
  second, and the model FLOPs utilization: the operations of forward and backward pass
  (torch.utils.flop_counter) over the peak of the card.
* records: mnist_fast and cifar10_fast with a few seeds, see benchmarks.records.

Images of ResNet, VGG and of the first part are synthetic. MNIST and CIFAR-10 are read from
DLTRAIN_DATA or data; where they are not there, a line says so. On a CPU a step is not recorded, and
nothing has a peak: its figures show that the script runs.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.engine import usual
from benchmarks.records import report as record_line
from benchmarks.records import trained
from dltrain.config.compose import compose
from dltrain.engine import Engine
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.files import to_json
from dltrain.runs.folder import RunFolder

WARM_UP = 20  # steps before the clock starts: compilation, recording, the first batches
BATCH = 64
EPOCHS = 5
RECORD_SEEDS = 3
# dense bf16 operations per second, from the data sheets of the cards
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L4": 121e12, "RTX 4090": 165e12}
CNN = ("model=cnn", "dataset=synthetic", f"dataset.batch_size={BATCH}")
SMALL_IMAGES = ("dataset=synthetic", "dataset.batch_size=128", "device.channels_last=true")
LANGUAGE_MODEL = ("model=transformer_lm", "dataset=language_modeling", "task.sample_tokens=0")
LARGE = {
    "resnet50": ("model=resnet50", "dataset=synthetic"),
    "resnet18, images of 32 pixels": ("model=resnet18", *SMALL_IMAGES),
    "vgg16, images of 32 pixels": ("model=vgg16", *SMALL_IMAGES),
}
CPU_LARGE_STEPS = 2
TEXT_WORDS = 200_000
PARTS = ("cnn", "epochs", "large", "records")
DATA = Path(os.environ.get("DLTRAIN_DATA", "data"))


def build(device: str, *overrides: str) -> Experiment:
    """Return an experiment on the device."""
    settings = (f"device.name={device}", "dataset.val_fraction=0", "callbacks=quiet")
    composed = compose([*overrides, *settings])
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of_steps(experiment: Experiment, device: str, first: int, last: int) -> float:
    """Train with dltrain's engine; return the seconds from the end of one step to that of another.

    All that a run logs by default without callbacks is on.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder), "gpu", {})
        session = open_session(experiment, run)
        marks: list[float] = []

        def step_end(engine: Engine) -> None:
            if engine.step in (first, last):
                synchronize(device)
                marks.append(time.perf_counter())

        session.engine.listeners["step_end"].append(step_end)
        session.engine.fit(experiment.task)
        session.engine.emit("close")
    return marks[1] - marks[0]


def seconds_per_step(device: str, steps: int, *overrides: str) -> float:
    """Return the seconds of a step of dltrain's engine, after the warm-up."""
    last = WARM_UP + steps
    experiment = build(device, *overrides, "trainer.epochs=null", f"trainer.steps={last}")
    return seconds_of_steps(experiment, device, WARM_UP, last) / steps


def hand_written(device: str, steps: int) -> float:
    """Return the seconds of a step of a hand-written loop.

    Images and targets lie on the device, as bytes; a step gathers a batch into the tensors that a
    CUDA graph reads, and replays the graph. On a CPU the step is called.
    """
    experiment = build(device, *CNN)
    network: nn.Module = experiment.task.model  # type: ignore[assignment]
    network.train()
    stored, classes = experiment.data.stored["train"]  # type: ignore[attr-defined]
    images, targets = stored.to(device), classes.to(device)
    optimizer = torch.optim.Adam(network.parameters(), fused=True, capturable=device == "cuda")
    rows = torch.zeros(BATCH, dtype=torch.int64, device=device)

    def step() -> None:
        inputs = images[rows].float().mul_(1 / 127.5).sub_(1)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(inputs), targets[rows]).backward()
        optimizer.step()

    replay = step
    if device == "cuda":
        replay = recorded(step)
    batches = endless_rows(len(targets), device)
    for _ in range(WARM_UP):
        rows.copy_(next(batches))
        replay()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        rows.copy_(next(batches))
        replay()
    synchronize(device)
    return (time.perf_counter() - start) / steps


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of a step."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def endless_rows(samples: int, device: str) -> Iterator[torch.Tensor]:
    """Yield the rows (BATCH,) of whole batches, in a new order in each epoch."""
    while True:
        order = torch.randperm(samples, device=device)
        yield from (rows for rows in order.split(BATCH) if len(rows) == BATCH)


def step_flops(device: str, *overrides: str) -> int:
    """Return the operations of one training step."""
    experiment = build(device, *overrides, "trainer.epochs=1")
    stage = next(iter(experiment.task.stages()))
    batch = experiment.device.feed().move(next(iter(stage.batches.epoch(0))))
    counter = FlopCounterMode(display=False)
    with counter, experiment.device.autocast():
        stage.step(batch)
    return int(counter.get_total_flops())


def report(name: str, value: float, unit: str, note: str = "") -> None:
    print(f"{name:44} {value:12.4g} {unit} {note}")
    print(to_json({"name": name, "value": value, "unit": unit, "note": note}), flush=True)


def measure_cnn(device: str, steps: int) -> None:
    """Measure a step of the CNN in three ways."""
    plain = seconds_per_step(device, steps, *CNN)
    report("cnn, plain step", plain * 1e6, "microseconds", "synthetic images")
    loop = hand_written(device, steps)
    if device == "cpu":
        report("cnn, hand-written step", loop * 1e6, "microseconds")
        report("cnn, plain step / hand-written", plain / loop, "times")
        return
    step = seconds_per_step(device, steps, *CNN, "device.compile=step")
    report("cnn, device.compile=step", step * 1e6, "microseconds")
    report("cnn, hand-written CUDA graph", loop * 1e6, "microseconds")
    report("cnn, device.compile=step / hand-written", step / loop, "times")


def measure_epochs(device: str, steps: int) -> None:
    """Measure five epochs on MNIST against the usual loop."""
    if not (DATA / "MNIST").is_dir():
        print(f"no MNIST in {DATA}: five epochs are not measured")
        return
    epochs = EPOCHS if device == "cuda" else 1
    settings = ("model=cnn", "dataset=mnist", f"trainer.epochs={epochs}", "device.compile=step")
    experiment = build(device, *settings)
    last = epochs * len(experiment.data.train)
    images = (last - WARM_UP) * BATCH
    rate = images / seconds_of_steps(experiment, device, WARM_UP, last)
    report(f"cnn, {epochs} epochs of MNIST", rate, "images per second")
    blocks = usual("cnn", device)
    next(blocks)
    start = time.perf_counter()
    timed_images = sum(itertools.islice(blocks, max(1, steps // 20)))
    synchronize(device)
    usual_rate = timed_images / (time.perf_counter() - start)
    report("cnn, the usual loop", usual_rate, "images per second")
    report("cnn on MNIST / the usual loop", rate / usual_rate, "times")


def measure_large(device: str, steps: int) -> None:
    """Measure large networks in bf16."""
    card = torch.cuda.get_device_name() if device == "cuda" else ""
    peak = max((flops for name, flops in PEAK_FLOPS.items() if name in card), default=0.0)
    if device == "cpu":
        steps = CPU_LARGE_STEPS
    with tempfile.TemporaryDirectory() as folder:
        text = write_text(Path(folder))
        networks = {"transformer_lm": (*LANGUAGE_MODEL, f"dataset.path={text}"), **LARGE}
        measure_networks(device, steps, networks, peak)


def write_text(folder: Path) -> Path:
    """Write a text of made-up words for a language model; return its path."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(2000)]
    path = folder / "text.txt"
    path.write_text(" ".join(draw.choices(words, k=TEXT_WORDS)), encoding="utf-8")
    return path


def measure_networks(
    device: str, steps: int, networks: dict[str, tuple[str, ...]], peak: float
) -> None:
    """Measure steps of networks in bf16, and how much of the peak they use."""
    for name, overrides in networks.items():
        settings = (*overrides, "device.precision=bf16")
        seconds = seconds_per_step(device, steps, *settings)
        report(f"{name}, bf16", 1 / seconds, "steps per second")
        if peak:
            used = step_flops(device, *settings) / seconds / peak
            report(f"{name}, bf16, model FLOPs utilization", used, "of the peak", f"{peak:.3g}")


def measure_records(device: str, steps: int) -> None:
    """Train the fast experiments with a few seeds."""
    seeds = RECORD_SEEDS if device == "cuda" else 1
    folders = {"mnist_fast": "MNIST", "cifar10_fast": "cifar-10-batches-bin"}
    for name, folder in folders.items():
        if not (DATA / folder).is_dir():
            print(f"no {folder} in {DATA}: {name} is not trained")
            continue
        if name == "cifar10_fast" and device == "cpu":
            continue  # minutes; cifar10_fast_small is its form for a CPU
        records = [trained(name, seed, [f"device={device}"]) for seed in range(seeds)]
        print(record_line(name, records), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    device = arguments.device
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {card}")
    measures = {
        "cnn": measure_cnn,
        "epochs": measure_epochs,
        "large": measure_large,
        "records": measure_records,
    }
    for part in arguments.parts:
        measures[part](device, arguments.steps)


if __name__ == "__main__":
    main()
