"""Runs written by dltrain 0.1.0 still load, evaluate, predict and resume.

tests/fixtures/runs_0_1/make.py wrote them.
"""

from __future__ import annotations

import importlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from dltrain.config.renamed import with_current_names

FIXTURES = Path(__file__).parents[1] / "fixtures"
RUNS = FIXTURES / "runs_0_1"
NAMES = sorted(path.parent.name for path in RUNS.glob("*/expected.json"))
NEEDS = {  # libraries that the package does not depend on
    "coco": "faster_coco_eval",
    "yolo": "faster_coco_eval",
    "voc": "faster_coco_eval",
    "tabular": "pyarrow",
    "regression": "pyarrow",
    "series": "pyarrow",
    "text_folder": "tokenizers",
    "translation": "tokenizers",
    "q_table": "gymnasium",
    "dqn": "gymnasium",
}
# The commands that make what `predict` made in 0.1.0; every other run is still given to `predict`.
COMMANDS_NOW = {
    "gan": ("generate",),
    "language_model": ("generate",),
    "word_vectors": ("export", "--format", "word2vec"),
}


@pytest.fixture
def earlier_run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copy the run of that name and the data of its configuration into the current folder."""
    name: str = request.param
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    shutil.copytree(RUNS / "data", tmp_path / "data")
    shutil.copytree(RUNS / name, tmp_path / name)
    return Path(name)


def assert_same(value: Any, expected: Any) -> None:
    """Compare nested results; numbers may be rounded differently on another machine."""
    if isinstance(expected, dict):
        assert value.keys() >= expected.keys()
        for key, part in expected.items():
            assert_same(value[key], part)
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for part, expected_part in zip(value, expected, strict=True):
            assert_same(part, expected_part)
    elif isinstance(expected, float) and not math.isnan(expected):
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-5)
    else:
        assert value == expected or expected != expected


def as_today(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is still in a row of predictions of 0.1.0.

    Samples of a split were numbered, and are named by their files today; boxes had the size and the
    scale of the network's input, and are in pixels of the file today.
    """
    kept = {key: value for key, value in row.items() if key not in ("scale", "pixels")}
    if row["input"].startswith("test/"):
        del kept["input"]
    return kept


@pytest.mark.parametrize("earlier_run", NAMES, indirect=True)
def test_an_earlier_run_gives_the_figures_that_it_gave(earlier_run: Path, dltrain: Any) -> None:
    """Evaluate, predict and train one step further; compare each with the same command of 0.1.0."""
    expected = json.loads((earlier_run / "expected.json").read_text(encoding="utf-8"))
    outcome = dltrain("evaluate", str(earlier_run), "--json")
    assert outcome.code == 0, outcome.err
    assert_same(outcome.json["metrics"], expected["evaluate"])

    if "predict" in expected:
        verb, *options = COMMANDS_NOW.get(earlier_run.name, ("predict",))
        outcome = dltrain(verb, str(earlier_run), *options, *expected["predict"], "--json")
        assert outcome.code == 0, outcome.err
        predicted = outcome.json
        if "rows" in predicted:
            predicted["rows"] = predicted["rows"][: len(expected["predicted"]["rows"])]
            expected["predicted"]["rows"] = list(map(as_today, expected["predicted"]["rows"]))
        assert_same(predicted, expected["predicted"])

    outcome = dltrain("resume", str(earlier_run), expected["resume"], "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["steps"] == expected["steps"]
    assert_same(outcome.json["metrics"], expected["resumed"])


def test_every_task_has_an_earlier_run() -> None:
    configurations = [
        json.loads((RUNS / name / "manifest.json").read_text(encoding="utf-8"))["config"]
        for name in NAMES
    ]
    tasks = {config["task"]["_target_"].rpartition(".")[2] for config in configurations}
    assert tasks == {
        "Adversarial",
        "Autoencoding",
        "Classification",
        "DQN",
        "DeepAutoencoding",
        "DeepBelief",
        "Detection",
        "Forecasting",
        "LanguageModeling",
        "Regression",
        "Seq2Seq",
        "TemporalDifference",
        "WordEmbedding",
    }


@pytest.mark.parametrize("target", (FIXTURES / "targets_0_1.txt").read_text().split())
def test_every_earlier_target_is_found(target: str) -> None:
    """targets_0_1.txt has all targets of the configuration files of 0.1.0."""
    node = with_current_names({"_target_": target})
    assert is_found(node["_target_"])
    assert "source" not in node or is_found(node["source"]["_target_"])


def is_found(target: str) -> bool:
    """Return whether the module of a target has its class."""
    module, _, name = target.rpartition(".")
    return hasattr(importlib.import_module(module), name)
