"""`dltrain compare`: what differs, which run is better, and what cannot be compared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from outcome import Outcome
from PIL import Image
from run_folders import config_of, make_run, results_of

from dltrain.runs.folder import RunFolder

Command = Callable[..., Outcome]
DAY = "2030-01-02"
ONE = f"{DAY}/10-00-00-000001_mlp_digits"
TWO = f"{DAY}/10-00-00-000002_mlp_digits"


def make(root: Path, path: str, accuracy: float = 0.8, **values: object) -> Path:
    """Make a finished run under outputs whose configuration has other `values`."""
    manifest = values.pop("manifest", {})
    config = config_of(**values)  # type: ignore[arg-type]
    return make_run(root / "outputs", path, config, results_of(accuracy), **manifest)  # type: ignore[arg-type]


def rows_of(outcome: Outcome) -> dict[str, list[str]]:
    """Return the words of each line of the output, by the first one."""
    lines = [line.split() for line in outcome.out.splitlines() if line.startswith("  ")]
    return {words[0]: words[1:] for words in reversed(lines)}


def test_settings_stand_beside_metrics(dltrain: Command, tmp_path: Path) -> None:
    make(tmp_path, ONE, 0.8)
    make(tmp_path, TWO, 0.9, lr=0.1, seed=3)
    outcome = dltrain("compare", "000001", "000002")
    assert outcome.code == 0, outcome.err
    rows = rows_of(outcome)
    assert rows["A"] == [f"outputs/{ONE}", "completed", DAY, "10:00"]
    assert rows["optimizer.lr"] == ["0.001", "0.1"]
    assert rows["seed"] == ["0", "3"]
    assert "model.hidden_sizes" not in rows
    assert rows["test/accuracy"] == ["0.8000", "0.9000", "+0.1000", "+12.5", "%", "B"]
    assert rows["test/loss"] == ["0.2000", "0.1000", "-0.1000", "-50.0", "%", "B"]
    assert rows["best"] == ["val/accuracy", "0.8000", "0.9000", "+0.1000", "+12.5", "%", "B"]
    assert rows["time"] == ["3.5", "s", "3.5", "s"]
    assert "note" not in outcome.out


def test_json(dltrain: Command, tmp_path: Path) -> None:
    make(tmp_path, ONE, 0.8)
    make(tmp_path, TWO, 0.6, lr=0.1)
    answer = dltrain("compare", "000001", "000002", "--json").json
    assert answer["config"] == {"optimizer.lr": {"A": 0.001, "B": 0.1}}
    assert answer["metrics"]["test/accuracy"] == {"A": 0.8, "B": 0.6}
    assert answer["better"]["test/accuracy"] == answer["better"]["test/loss"] == "A"
    assert answer["change"]["test/loss"] == pytest.approx(0.2)
    assert Path(answer["runs"]["B"]["run"]).resolve() == tmp_path / "outputs" / TWO
    assert answer["warnings"] == []


def test_equal_runs(dltrain: Command, tmp_path: Path) -> None:
    make(tmp_path, ONE)
    make(tmp_path, TWO)
    outcome = dltrain("compare", "000001", "000002")
    assert "the configurations are the same" in outcome.out
    assert rows_of(outcome)["test/accuracy"] == ["0.8000", "0.8000", "0.0000", "+0.0", "%"]


def test_more_than_two_have_a_column_each(dltrain: Command, tmp_path: Path) -> None:
    for number, accuracy in enumerate((0.7, 0.9, 0.8)):
        make(tmp_path, f"{DAY}/10-00-00-000001_sweep/{number}", accuracy, seed=number)
    for name in (
        f"outputs/{DAY}/10-00-00-000001_sweep",
        "000001_sweep",
        f"{DAY}/10-00-00-000001_sweep",
    ):
        outcome = dltrain("compare", name)
        assert outcome.code == 0, outcome.err
        rows = rows_of(outcome)
        assert rows["test/accuracy"] == ["0.7000", "0.9000", "*", "0.8000"]
        assert rows["test/loss"] == ["0.3000", "0.1000", "*", "0.2000"]
        assert rows["seed"] == ["0", "1", "2"]


def test_a_part_of_a_name_that_fits_a_sweep_and_a_run_is_refused(
    dltrain: Command, tmp_path: Path
) -> None:
    for number in range(2):
        make(tmp_path, f"{DAY}/10-00-00-000001_sweep/{number}", seed=number)
    assert dltrain("compare", "10-00").code == 0
    make(tmp_path, TWO)
    outcome = dltrain("compare", "10-00", "000002")
    assert outcome.code == 3
    assert "'10-00' could be any of 3 runs" in outcome.err


OTHER_TASK = {"task": {"_target_": "dltrain.tasks.regression.Regression"}}
OTHER_LOSS = {"loss": {"_target_": "dltrain.losses.MSE"}}
OTHER_SPLIT = {
    "dataset": {
        "_target_": "dltrain.data.images.in_memory.InMemory",
        "source": {"_target_": "dltrain.data.images.digits.Digits", "path": None},
        "split_seed": 4,
    }
}


@pytest.mark.parametrize(
    ("values", "note", "is_judged"),
    [
        (OTHER_TASK, "the tasks differ (A: Classification; B: Regression)", False),
        (OTHER_LOSS, "the losses differ (A: None; B: MSE): values of the loss", True),
        (OTHER_SPLIT, "the splits differ (dataset.split_seed)", False),
        (
            {"manifest": {"dataset_fingerprint": "x" * 64}},
            "the data differ (another fingerprint of the same data set)",
            False,
        ),
        (
            {"manifest": {"dataset_fingerprint": "x", "choices": {"dataset": "mnist"}}},
            "the data sets differ (A: digits; B: mnist)",
            False,
        ),
        (
            {"manifest": {"effective": {"test_samples": 77}}},
            "the splits differ (test samples: 10, 77)",
            False,
        ),
        ({"debug": "smoke"}, "the figures mean nothing for B (debug=smoke)", True),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_said(
    values: dict, note: str, is_judged: bool, dltrain: Command, tmp_path: Path
) -> None:
    """The metrics are shown, and no run is called the better one."""
    make(tmp_path, ONE, 0.8)
    manifest = {"settings": {}, **values.get("manifest", {})}
    make(tmp_path, TWO, 0.9, **{**values, "manifest": manifest})
    outcome = dltrain("compare", "000001", "000002", "--json")
    assert outcome.code == 0, outcome.err
    assert any(note in warning for warning in outcome.json["warnings"]), outcome.json["warnings"]
    assert ("test/accuracy" in outcome.json["better"]) == is_judged
    if values is OTHER_LOSS:
        assert "test/loss" not in outcome.json["better"]
    assert outcome.json["metrics"]["test/accuracy"] == {"A": 0.8, "B": 0.9}


def test_metrics_of_one_run_are_named(dltrain: Command, tmp_path: Path) -> None:
    make(tmp_path, ONE)
    results = {**results_of(), "metrics": {"test/bleu": 0.4}, "best": {}}
    make_run(tmp_path / "outputs", TWO, config_of(**OTHER_TASK), results)
    outcome = dltrain("compare", "000001", "000002")
    assert "only A has best val/accuracy, test/accuracy, test/loss, val/accuracy" in outcome.out
    assert "only B has test/bleu" in outcome.out


def test_facts_that_differ(dltrain: Command, tmp_path: Path) -> None:
    for path, commit, torch in ((ONE, "a" * 40, "2.9"), (TWO, "b" * 40, "2.10")):
        facts = {"git": {"commit": commit, "dirty": False}, "versions": {"torch": torch}}
        make(tmp_path, path, manifest={**facts, "device": "cpu"})
    rows = rows_of(dltrain("compare", "000001", "000002"))
    assert rows["git.commit"] == ["a" * 12, "b" * 12]
    assert rows["versions.torch"] == ["2.9", "2.10"]
    assert "device" not in rows


def test_runs_that_are_training(dltrain: Command, tmp_path: Path) -> None:
    """The figures of a run that is being written are those that it has logged."""
    make(tmp_path, ONE)
    folder = make_run(tmp_path / "outputs", TWO)
    lines = [json.dumps({"step": n, "epoch": n, "val/accuracy": n / 10}) for n in (1, 2)]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 3, "val/acc']))
    with RunFolder(folder).locked():
        outcome = dltrain("compare", "000001", "000002", "--out", "curves.png")
    assert outcome.code == 0, outcome.err
    assert "not finished: B (running)" in outcome.out
    assert rows_of(outcome)["val/accuracy"][:2] == ["0.8000", "0.2000"]


def test_curves_are_drawn(dltrain: Command, tmp_path: Path) -> None:
    for path, slope in ((ONE, 0.1), (TWO, 0.2)):
        folder = make(tmp_path, path)
        lines = [json.dumps({"step": n, "epoch": n, "val/accuracy": n * slope}) for n in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    outcome = dltrain("compare", "000001", "000002", "--out", "curves.png")
    assert "picture curves.png" in outcome.out
    pixels = np.asarray(Image.open("curves.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_no_curve_to_draw(dltrain: Command, tmp_path: Path) -> None:
    make(tmp_path, ONE)
    make(tmp_path, TWO)
    outcome = dltrain("compare", "000001", "000002", "--out", "curves.png")
    assert outcome.code == 0
    assert "there is no curve to draw" in outcome.out
    assert not Path("curves.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["000001"], 2, "name two runs or more"),
        ([], 2, "name two runs or more"),
        (["000001", "000001"], 2, "name two runs or more"),
        (["000001", "lenet"], 3, "no run is called 'lenet'"),
        (["000001", "000002", "optimizer.lr=1"], 2, "compare takes no settings (optimizer.lr=1)"),
        (["000001", "000002", "--out", "curves.txt"], 2, "expected the name of a picture"),
        (["000001", "000002", "--out", "no/where/curves.png"], 2, "cannot be written"),
        (["000001", "000003"], 3, "manifest.json is absent or has no configuration"),
    ],
    ids=str,
)
def test_mistakes(
    words: list[str], code: int, message: str, dltrain: Command, tmp_path: Path
) -> None:
    for path in (ONE, TWO):
        folder = make(tmp_path, path)
        (folder / "metrics.jsonl").write_text(
            '{"step": 1, "val/accuracy": 0.1}\n{"step": 2, "val/accuracy": 0.2}\n'
        )
    broken = make(tmp_path, f"{DAY}/10-00-00-000003_mlp_digits")
    (broken / "manifest.json").unlink()
    outcome = dltrain("compare", *words)
    assert outcome.code == code
    assert message in outcome.err


def test_comparing_imports_no_torch(tmp_path: Path) -> None:
    make(tmp_path, ONE)
    make(tmp_path, TWO)
    code = (
        "import sys; from dltrain.cli import main;"
        "sys.exit(main(['compare', '000001', '000002']) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
