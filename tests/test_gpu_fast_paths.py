"""Fast paths on a CUDA device give the losses of plain steps, and do not wait (`make test-gpu`).

DLTRAIN_TEST_DEVICE=cpu runs the comparisons on the CPU, where graphs and TF32 are not used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_gpu_families import (
    DEVICE,
    FAMILIES,
    RECORDABLE,
    RECORDED,
    TOLERANCE,
    losses,
    needs_device,
    of_compiler,
    train,
)

from dltrain.acceleration.graphs import GraphStepRunner
from dltrain.config.compose import compose
from dltrain.engine import Engine
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import Session, open_session
from dltrain.runs.folder import METRICS, RunFolder

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
STEPS = 6
PATH = ("trainer.epochs=6", f"trainer.stage_steps={STEPS}")
WITH_CONVOLUTIONS = ("cnn", "resnet", "vgg", "dcgan")
COMPILED = ("mlp", "cnn", "resnet", "vae", "lstm", "charlm", "transformer", "timeseries")
RECOMPUTED = ("resnet", "charlm", "transformer")
ON_DEVICE: dict[str, tuple[str, ...]] = {
    "digits": ("model=cnn",),
    "synthetic": ("model=resnet_small", "preprocessing=[flip,random_crop]"),
    "mackey_glass": ("model=lstm",),
    "diabetes": ("model=tabular_mlp",),
}
HALF_TOLERANCE = 3e-2  # of a loss in bf16, which has 8 bits
TF32_TOLERANCE = 1e-2  # of a loss; TF32 has 11 bits
CHOOSING = ("detection", "dqn", "q_table", "dbn", "perceptron")  # among boxes, actions, units
WAITING = ("detection", "dqn", "q_table")  # they need values on the host, as documented
RESUMED: dict[str, tuple[str, ...]] = {
    "recorded": ("device.compile=step",),
    "compiled": ("device.compile=model",),
    "channels-last bf16": ("device.channels_last=true", "device.precision=bf16"),
    "streamed": ("device.data=host",),
    "recomputed": ("device.checkpoint_activations=true",),
}


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_in_tf32(family: str, dltrain: Callable[..., Any]) -> None:
    """The losses are those of fp32 within the rounding; those of discrete choices are finite."""
    plain = losses(train(dltrain, family, "device.precision=fp32"))
    rounded = losses(train(dltrain, family, "device.precision=tf32"))
    assert len(rounded) == len(plain)
    if family not in CHOOSING:
        assert rounded == pytest.approx(plain, rel=TF32_TOLERANCE, abs=TF32_TOLERANCE)


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", WITH_CONVOLUTIONS)
def test_channels_last_equals_contiguous(
    family: str, precision: str, dltrain: Callable[..., Any]
) -> None:
    settings = (*PATH, f"device.precision={precision}")
    contiguous = losses(train(dltrain, family, *settings, "device.channels_last=false"))
    last = losses(train(dltrain, family, *settings, "device.channels_last=true"))
    tolerance = HALF_TOLERANCE if precision == "bf16" else 5 * TOLERANCE
    assert last == pytest.approx(contiguous, rel=tolerance)


@pytest.mark.gpu
@needs_device
@of_compiler
@pytest.mark.parametrize("family", COMPILED)
def test_compiled_networks_equal_plain_ones(family: str, dltrain: Callable[..., Any]) -> None:
    settings = (*PATH, "device.precision=fp32")
    plain = losses(train(dltrain, family, *settings, "device.compile=off"))
    compiled = losses(train(dltrain, family, *settings, "device.compile=model"))
    assert compiled == pytest.approx(plain, rel=5 * TOLERANCE)


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("family", RECOMPUTED)
def test_recomputed_activations_equal_kept_ones(family: str, dltrain: Callable[..., Any]) -> None:
    settings = (*PATH, "device.precision=fp32")
    kept = losses(train(dltrain, family, *settings))
    recomputed = losses(train(dltrain, family, *settings, "device.checkpoint_activations=true"))
    assert kept
    assert recomputed == pytest.approx(kept, rel=TOLERANCE)


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("dataset", ON_DEVICE)
def test_data_on_the_device_equals_streamed_data(dataset: str, dltrain: Callable[..., Any]) -> None:
    """The same batches come from the device's memory and, pinned, from the host's."""
    run = (*ON_DEVICE[dataset], f"dataset={dataset}", "callbacks=quiet", "trainer.log_every=1")
    settings = (*run, f"device.name={DEVICE}", "trainer.epochs=null", "trainer.steps=20")
    found = []
    for place in ("host", "device"):
        outcome = dltrain(*settings, f"device.data={place}", "--json")
        assert outcome.code == 0, outcome.err
        found.append(losses_of(outcome.json["run"]))
    assert len(found[0]) == 20
    assert found[1] == pytest.approx(found[0], rel=TOLERANCE)


@pytest.mark.gpu
@needs_device
@of_compiler
@pytest.mark.parametrize("path", RESUMED)
def test_a_resumed_run_equals_a_whole_one(path: str, dltrain: Callable[..., Any]) -> None:
    """A run is ended within its stage and extended: the losses are those of one run."""
    run = ("model=resnet_small", "dataset=synthetic", "callbacks=quiet")
    small = ("dataset.batch_size=16", "trainer.log_every=1", "trainer.epochs=null")
    rates = ("optimizer=adam", "schedule=constant")  # which do not depend on the number of steps
    settings = (*run, *small, *rates, f"device.name={DEVICE}", *RESUMED[path])
    whole = dltrain(*settings, "trainer.steps=12", "--json")
    assert whole.code == 0, whole.err
    part = dltrain(*settings, "trainer.steps=7", "--json")
    assert part.code == 0, part.err
    longer = dltrain("resume", part.json["run"], "trainer.steps=12", "--json")
    assert longer.code == 0, longer.err
    expected = losses_of(whole.json["run"])
    tolerance = HALF_TOLERANCE if "bf16" in path else 5 * TOLERANCE
    assert len(expected) == 12
    assert losses_of(longer.json["run"]) == pytest.approx(expected, rel=tolerance)


def losses_of(run: str) -> list[float]:
    """Return the training losses in the log of a run."""
    lines = (Path(run) / METRICS).read_text(encoding="utf-8").splitlines()
    return losses([json.loads(line) for line in lines])


def session_of(family: str, folder: Path, *overrides: str) -> Session:
    """Return the session of a short run of a family on the GPU, in which nothing is logged."""
    settings = ("debug=smoke", "callbacks=quiet", "dataset.batch_size=4", "device.name=cuda")
    quiet = ("trainer.log_every=1000000", "trainer.epochs=2", "trainer.stage_steps=null")
    own = RECORDABLE.get(family, ())
    composed = compose([*settings, *FAMILIES[family], *quiet, *own, *overrides])
    assert not composed.problems, composed.problems
    experiment = Experiment.to_train(composed.config).build()
    return open_session(experiment, RunFolder.create(folder, "test", {}))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("compilation", ["off", "step"])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WAITING])
def test_steps_do_not_wait(family: str, compilation: str, tmp_path: Path) -> None:
    """Torch raises an error where a step waits for the device, with the batches that it takes."""
    if compilation == "step" and family not in RECORDED:
        pytest.skip("its steps are not recorded")
    session = session_of(family, tmp_path, f"device.compile={compilation}")

    checked = 0

    def step_end(engine: Engine) -> None:
        nonlocal checked
        if engine.epoch != 1:  # an epoch has four or five batches; a step is recorded at the fourth
            return
        if engine.position == 1:
            torch.cuda.set_sync_debug_mode("error")
        elif engine.position == 3:
            torch.cuda.set_sync_debug_mode("default")
        checked += engine.position in (2, 3)

    session.engine.listeners["step_end"].append(step_end)
    try:
        session.engine.fit(session.experiment.task)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        session.engine.emit("close")
    assert checked >= 2


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("family", RECORDED)
def test_recorded_steps_are_replayed(family: str, tmp_path: Path) -> None:
    """The steps come from a CUDA graph, not from the plain fallback."""
    session = session_of(family, tmp_path, "device.compile=step")
    runner: Any = session.engine.step_runner
    graphs = runner.runner
    assert isinstance(graphs, GraphStepRunner)
    session.engine.fit(session.experiment.task)
    session.engine.emit("close")
    assert graphs.replays > 0
