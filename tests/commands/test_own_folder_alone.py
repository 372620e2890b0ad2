"""A trained run needs its folder only: its training data is gone, and it lies elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from own_data import OWN_DATA

from dltrain.cli import main

BRIEF = ("trainer.epochs=1", "trainer.steps=2", "callbacks=quiet", "paths.data=data")


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def lone_run(
    request: pytest.FixtureRequest,
    trained_runs: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A run of some own data, moved; the folder that it was trained in is deleted."""
    name = request.param
    if name not in trained_runs:
        home = tmp_path_factory.mktemp("home")
        own = OWN_DATA[name]
        own.write(home)
        with monkeypatch.context() as patch:
            patch.chdir(home)
            words = [f"dataset={own.dataset}", *own.overrides, *BRIEF]
            assert main(words) == 0
        kept = tmp_path_factory.mktemp("kept") / "run"
        shutil.move(next((home / "outputs").glob("*/*")), kept)
        shutil.rmtree(home)
        trained_runs[name] = kept
    return trained_runs[name]


@pytest.mark.parametrize(
    ("name", "lone_run"),
    [(name, name) for name in OWN_DATA],
    ids=list(OWN_DATA),
    indirect=["lone_run"],
)
def test_predict(name: str, lone_run: Path, tmp_path: Path, dltrain) -> None:
    inputs = OWN_DATA[name].write_inputs(tmp_path)
    outcome = dltrain("predict", str(lone_run), *inputs, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["predicted"] >= len(inputs)
