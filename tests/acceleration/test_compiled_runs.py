"""Whole runs with device.compile=model equal plain ones, and their checkpoints are ordinary.

A backend that runs each graph as it is stands in for the compiler, which takes half a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dltrain.runs.folder import METRICS

PLUGIN = ("plugins=[own_interruption]", "callbacks.own={_target_: own_interruption.InterruptAt}")
RUN = (
    "model=lenet5",
    "dataset=digits",
    "dataset.batch_size=100",  # does not divide the number of samples
    "trainer.epochs=2",
    "trainer.log_every=1",
    "callbacks=quiet",
    "device=cpu",
)
SETTINGS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "bf16": ("device.precision=bf16", "device.channels_last=true"),
    "accumulated": ("trainer.accumulate=2", "regularization=[clip,ema]"),
    "augmented": ("preprocessing=[random_crop]", "regularization=[mixup]"),
    "recomputed": ("model=resnet_small", "device.checkpoint_activations=true"),
    "generative": ("model=vae", "model.hidden_sizes=[16]"),
}
CLOSE = 1e-4  # relative: a graph may add in another order


pytestmark = pytest.mark.usefixtures("graphs")


def trained(dltrain: Callable[..., Any], *settings: str) -> Path:
    """Return the folder of a run that ended well."""
    outcome = dltrain(*RUN, *settings, "--json")
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's log."""
    return [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]


def assert_close(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == (value if isinstance(value, str) else approximately(value))


def approximately(value: float) -> Any:
    return pytest.approx(value, rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_compiled_run_equals_a_plain_one(
    name: str, dltrain: Callable[..., Any], graphs: list[Any]
) -> None:
    plain = metrics(trained(dltrain, *SETTINGS[name], "device.compile=off"))
    assert not graphs
    compiled = metrics(trained(dltrain, *SETTINGS[name], "device.compile=model"))
    assert graphs
    assert_close(compiled, plain)


def test_an_interrupted_run_equals_a_whole_one(
    dltrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = metrics(trained(dltrain, "device.compile=model"))
    monkeypatch.setenv("INTERRUPT_AT", "10")
    stopped = dltrain(*RUN, "device.compile=model", *PLUGIN, "--json")
    assert stopped.code == 143, stopped.err
    monkeypatch.delenv("INTERRUPT_AT")
    resumed = dltrain("resume", "last", PLUGIN[0], "--json")
    assert resumed.code == 0, resumed.err
    assert metrics(Path(resumed.json["run"])) == whole


@pytest.mark.parametrize(
    "command",
    [("evaluate",), ("resume", "trainer.epochs=3"), ("reproduce",)],
    ids=lambda words: words[0],
)
def test_commands_work_on_a_compiled_run(
    command: tuple[str, ...], dltrain: Callable[..., Any]
) -> None:
    run = trained(dltrain, "device.compile=model")
    name, *more = command
    outcome = dltrain(name, str(run), *more)
    assert outcome.code == 0, outcome.err
