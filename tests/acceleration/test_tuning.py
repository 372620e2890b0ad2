"""Runs with device=fast: what is measured, written and repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dltrain.acceleration.candidates import Candidate
from dltrain.acceleration.tuning import Measured, Measurements, Search
from dltrain.acceleration.tuning_cache import cache_file, read_measurements, write_measurements
from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.tuned import cache_key
from dltrain.runs.identity import identity, requested_config

SMALL = (
    *("model=lenet5", "dataset=digits", "trainer.epochs=1", "trainer.log_every=1"),
    *("callbacks=quiet", "trainer.stage_steps=4"),
)
CHOSEN = Candidate("bf16", False, "off", 1)
FORCED = Measurements(
    (Measured(Candidate("fp32", True, "off", 1), ms=2.0), Measured(CHOSEN, ms=1.0)),
    compile_tried=False,
)
BY_HAND = ("device.precision=bf16", "device.channels_last=false", "device.threads=1")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every search end in `FORCED` at once, and count them."""
    searches: list[int] = []

    def run(search: Search) -> Measurements:
        searches.append(1)
        search.begin()  # trains, and draws random numbers
        return FORCED

    monkeypatch.setattr(Search, "run", run)
    return searches


def folder_of(outcome: Any) -> Path:
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


def numbers(run: Path) -> str:
    return (run / "metrics.jsonl").read_text()


def device_of(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())["device"]


def test_a_chosen_setting_gives_the_numbers_of_the_same_setting_by_hand(dltrain, forced):
    measured = folder_of(dltrain(*SMALL, "device=fast", "--json"))
    from_cache = folder_of(dltrain(*SMALL, "device=fast", "--json"))
    by_hand = folder_of(dltrain(*SMALL, *BY_HAND, "--json"))
    assert forced == [1]  # the second run reads the cache
    assert numbers(measured) == numbers(from_cache) == numbers(by_hand)
    for run in (measured, from_cache):
        device = device_of(run)
        assert device["precision"] == "bf16"
        assert device["channels_last"] is False
        assert device["compile"] == "off"
        assert device["threads"] == 1
        assert device["tune"] is False
    tuning = json.loads((from_cache / "manifest.json").read_text())["tuning"]
    assert tuning["cached"] is True
    assert tuning["tolerance"] == 0.02
    assert [one["ms"] for one in tuning["finalists"]] == [2.0, 1.0]


def test_the_choice_is_said_in_a_line(dltrain, forced):
    outcome = dltrain(*SMALL, "device=fast")
    assert "device=fast: bf16 instead of fp32, contiguous, 1 thread: 2.00 x" in outcome.out


def test_a_resumed_run_uses_the_same_settings_and_measures_nothing(dltrain, forced):
    run = folder_of(dltrain(*SMALL, "device=fast", "--json"))
    outcome = dltrain("resume", str(run), "trainer.stage_steps=8", "--json")
    assert outcome.code == 0, outcome.err
    whole = folder_of(dltrain(*SMALL, *BY_HAND, "--json"))
    resumed = folder_of(dltrain("resume", str(whole), "trainer.stage_steps=8", "--json"))
    assert numbers(run) == numbers(resumed)
    assert forced == [1]


def test_a_run_keeps_the_identity_of_its_request(dltrain, forced):
    run = folder_of(dltrain(*SMALL, "device=fast", "--json"))
    manifest = json.loads((run / "manifest.json").read_text())
    asked = compose([*SMALL, "device=fast"]).public
    assert identity(requested_config(manifest)) == identity(asked)
    assert identity(manifest["config"]) != identity(asked)


@pytest.mark.parametrize("content", ["", "{}", '{"version": 1, "key": "other"}', "[1]"])
def test_a_damaged_or_foreign_file_is_measured_again(content: str, dltrain, forced):
    folder_of(dltrain(*SMALL, "device=fast", "--json"))
    (file,) = Path("no-data/.dltrain").glob("tuning-*.json")
    file.write_text(content)
    outcome = dltrain(*SMALL, "device=fast")
    assert "is ignored and measured again" in outcome.out
    assert forced == [1, 1]
    assert json.loads(file.read_text())["version"] == 1


def test_a_cache_that_cannot_be_written_does_not_stop_the_run(dltrain, forced):
    Path("no-data").write_text("a file in the place of the folder")
    folder_of(dltrain(*SMALL, "device=fast", "--json"))
    assert forced == [1]


def test_a_setting_that_the_user_fixed_stays(dltrain, forced):
    run = folder_of(dltrain(*SMALL, "device=fast", "device.precision=fp32", "--json"))
    assert device_of(run)["precision"] == "fp32"
    assert device_of(run)["channels_last"] is False


@pytest.mark.parametrize("settings", [("debug=smoke",), ("experiment=qlearning_frozenlake",)])
def test_runs_that_are_not_measured_are_as_with_auto(settings: tuple[str, ...], dltrain, forced):
    outcome = dltrain(
        *settings, "device=fast", "trainer.stage_steps=2", "callbacks=quiet", "--json"
    )
    assert device_of(folder_of(outcome))["precision"] == "fp32"
    assert forced == []


def test_a_real_search_measures_and_keeps_the_random_numbers(dltrain):
    run = folder_of(dltrain(*SMALL, "device=fast", "device.precision=fp32", "--json"))
    tuning = json.loads((run / "manifest.json").read_text())["tuning"]
    chosen = tuning["chosen"]
    settings = [f"device.{key}={value}".lower() for key, value in chosen.items()]
    assert numbers(folder_of(dltrain(*SMALL, *settings, "--json"))) == numbers(run)
    measured = [*tuning["finalists"], *tuning["others"]]
    assert {one["candidate"]["channels_last"] for one in measured} == {True, False}
    assert all(one["difference"] < 1e-3 for one in measured)


CHANGES = (
    *("model=cnn", "loss.label_smoothing=0.1", "optimizer=sgd", "dataset.batch_size=32"),
    *("regularization=[dropout]", "dataset=synthetic", "device.precision=fp32"),
    "trainer.accumulate=2",
)


def key_of(*overrides: str) -> str:
    config = compose([*SMALL, "device=fast", *overrides]).config
    experiment = Experiment.to_train(config)
    return cache_key(config, experiment, experiment.data)


@pytest.mark.parametrize("change", CHANGES)
def test_the_key_changes_with_what_a_step_depends_on(change: str):
    assert key_of() != key_of(change)


def test_the_key_stays_where_a_step_does_not_change():
    assert key_of() == key_of("seed=7", "trainer.epochs=3", "paths.output=elsewhere")


@pytest.mark.parametrize("name", ["machine", "device_name", "cpu_is_fast_in_bf16", "__version__"])
def test_the_key_changes_with_the_machine(name: str, monkeypatch: pytest.MonkeyPatch):
    before = key_of()
    value: Any = "other" if name == "__version__" else lambda *args: "other"
    monkeypatch.setattr(f"dltrain.experiment.tuned.{name}", value)
    assert key_of() != before


def test_measurements_survive_the_file(tmp_path: Path):
    path = cache_file(tmp_path / "made", "k" * 64)
    lost = Measured(CHOSEN, difference=float("inf"), problem="losses differ")
    measurements = Measurements(FORCED.finalists, (lost,), compile_tried=True)
    write_measurements(path, "k" * 64, measurements)
    assert read_measurements(path, "k" * 64) == measurements
    assert read_measurements(path, "other") is None
    assert list(path.parent.iterdir()) == [path]


def test_check_says_what_is_cached_and_measures_nothing(dltrain, forced):
    before = dltrain("check", *SMALL, "device=fast")
    assert "device=fast: nothing is cached for this network" in before.out
    folder_of(dltrain(*SMALL, "device=fast", "--json"))
    after = dltrain("check", *SMALL, "device=fast")
    assert "device=fast: bf16 instead of fp32" in after.out
    assert "measured by an earlier run" in after.out
    assert forced == [1]
