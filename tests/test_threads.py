"""The number of threads of a step, and the way they wait: the same for the same command, and
good on a busy machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dltrain import device
from dltrain.cli import SHORT_WAITS, let_waiting_threads_sleep
from dltrain.config.compose import compose
from dltrain.device import Device, most_flops
from dltrain.experiment.experiment import Experiment
from dltrain.runs.folder import RunFolder
from dltrain.types import Spec


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which torch takes three threads."""
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "TORCH_THREADS", 3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("overrides", "threads"),
    [
        ([], 1),
        (["device.threads=0"], 3),
        (["device.threads=2"], 2),
        (["model.channels=[64,256,256]"], 3),
        (["dataset.batch_size=all"], 3),
        (["dataset=frozenlake"], 1),
        (["dataset=taxi"], 1),
        (["model=resnet18", "dataset=cifar10"], 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("experiment", [Experiment.to_train, Experiment.on_fake_data])
def test_small_networks_get_one_thread(
    overrides: list[str], threads: int, experiment: Callable[..., Experiment]
) -> None:
    """In evaluation and prediction, where fake data stand for the set's own, as in training."""
    experiment(compose(overrides).config).build()
    assert torch.get_num_threads() == threads


def test_the_number_is_in_the_manifest_and_a_resume_has_the_same(
    dltrain: Callable[..., Any],
) -> None:
    run = RunFolder(
        Path(dltrain("dataset=digits", "callbacks=quiet", "trainer.steps=1", "--json").json["run"])
    )
    assert run.read_json("manifest.json")["threads"] == 1
    torch.set_num_threads(3)
    assert dltrain("resume", str(run.folder), "trainer.steps=2").code == 0
    assert torch.get_num_threads() == 1


def test_flops_by_hand() -> None:
    """Twice the multiplications: a convolution's weights at every pixel, a layer's at every step,
    of tables none.
    """
    network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Linear(7, 2), nn.Embedding(9, 9))
    convolution, layer = 3 * 4 * 25, 14
    assert most_flops(network, Spec((3, 8, 6), (), 1, 1), 10) == 2 * 10 * (
        convolution * 48 + layer * 8
    )
    assert most_flops(network[1:], Spec((7,), (), 1, 1), 10) == 2 * 10 * layer
    assert most_flops(network[1:], Spec((20, 7), (), 1, 1), 10) == 2 * 10 * layer * 20
    assert most_flops(network[1:], Spec((20,), (), 1, 1, vocab_size=9), 10) == 2 * 10 * layer * 20


def test_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "torch_device", lambda self: torch.device("cuda"))
    torch.set_num_threads(3)
    Device().choose_threads(1)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", *SHORT_WAITS])
def test_waiting_threads_sleep_unless_the_user_says_how_they_wait(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in ("OMP_WAIT_POLICY", *SHORT_WAITS):
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(name, "PASSIVE")
    let_waiting_threads_sleep()
    assert {known: os.environ[known] for known in SHORT_WAITS if known in os.environ} in (
        {},
        {name: "PASSIVE"},
    )
    monkeypatch.delenv(name)
    for known, value in SHORT_WAITS.items():
        monkeypatch.setenv(known, value)
        monkeypatch.delenv(known)
    let_waiting_threads_sleep()
    assert SHORT_WAITS.items() <= os.environ.items()
    for known in SHORT_WAITS:
        monkeypatch.delenv(known)
