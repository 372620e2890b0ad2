"""Every command on streams that have ASCII only: nothing fails, and nothing becomes "?"."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dltrain.cli import main
from dltrain.runs.folder import LOG
from dltrain.verbs import VERBS

TEXTS = ("dataset.batch_size=4",)
FAMILIES = {  # an experiment of each task, cut to what two steps need
    "classification": ("experiment=mlp_mnist",),
    "detection": ("experiment=rcnn_digits", "dataset.batch_size=1"),
    "regression": ("experiment=mlp_diabetes",),
    "forecasting": ("experiment=mlp_timeseries",),
    "autoencoding": ("experiment=autoencoder_mnist",),
    "adversarial": ("experiment=gan_mnist",),
    "deep_belief": ("experiment=dbn_mnist",),
    "language_modeling": ("experiment=charlm_lstm_shakespeare", *TEXTS, "task.sample_tokens=4"),
    "seq2seq": ("experiment=seq2seq_reverse", *TEXTS, "task.length_ratio=0.1"),
    "embedding": ("experiment=word2vec_imdb", *TEXTS),
    "dqn": ("experiment=dqn_cartpole",),
    "temporal_difference": ("experiment=qlearning_cliffwalking",),
}
ARROWS = set("↑→↓←")


def run_on_ascii(*argv: str) -> tuple[int, str]:
    """Return a command's exit code, and what it wrote on both streams."""
    before = sys.stdout, sys.stderr
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    errors = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace")
    sys.stdout, sys.stderr = output, errors
    try:
        code = main(list(argv))
    finally:
        sys.stdout, sys.stderr = before
    errors.flush()
    output.flush()
    return code, raw.getvalue().decode("ascii")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_of_each_family_ends_well(family: str) -> None:
    if family in ("dqn", "temporal_difference"):
        pytest.importorskip("gymnasium")
    if family == "detection":
        pytest.importorskip("faster_coco_eval")
    words = (*FAMILIES[family], "debug=smoke", "callbacks.tensorboard=null")
    code, output = run_on_ascii(*words)
    assert code == 0, output
    assert "?" not in output
    if family == "temporal_difference":
        assert re.search(r"[<>v^]( [<>v^]){3}", output)
        (log,) = Path().glob(f"outputs/*/*/{LOG}")
        assert ARROWS & set(log.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "argv",
    [
        ("--help",),
        ("list",),
        ("check", "model=mlp"),
        ("show", "dataset", "dataset=tabular", "dataset.target=größe"),
        ("show", "name", "name=中文"),
        ("completion", "bash"),
        ("__complete", "--", "model="),
        *(("--help", verb) for verb in VERBS),
    ],
    ids=" ".join,
)
def test_a_command_that_prints(argv: tuple[str, ...]) -> None:
    assert run_on_ascii(*argv)[0] == 0


def test_a_value_in_another_script_is_escaped() -> None:
    code, output = run_on_ascii("show", "name", "name=中文")
    assert code == 0
    assert r"name=\u4e2d\u6587" in output
    code, output = run_on_ascii("model=größe")
    assert code == 2
    assert r"model=gr\xf6\xdfe" in output


def test_json_of_another_script_can_be_read() -> None:
    code, output = run_on_ascii("show", "name", "name=中文", "--json")
    assert code == 0
    assert json.loads(output.splitlines()[-1])["name"]["value"] == "中文"


def test_class_names_in_a_locale_without_them(tmp_path: Path) -> None:
    """A whole process under the C locale, where names of files are bytes."""
    for name in ("größe", "中文"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for i in range(10):
            Image.new("L", (8, 8), i).save(folder / f"{i}.png")
    words = ("dataset=image_folder", "dataset.path=pictures", "dataset.channels=1", "model=mlp")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    short = ("trainer.epochs=1", "callbacks.tensorboard=null")
    done = subprocess.run(
        [sys.executable, "-m", "dltrain", *words, *short],
        capture_output=True,
        timeout=100,
        check=False,
        env=os.environ | environment,
    )
    output = (done.stdout + done.stderr).decode("ascii")
    assert done.returncode == 0, output
    done = subprocess.run(
        [sys.executable, "-m", "dltrain", "predict", "last", "pictures", "--json"],
        capture_output=True,
        timeout=100,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["rows"]) == 20


def test_a_class_folder_whose_name_is_not_utf8(dltrain, tmp_path: Path) -> None:
    """It trains, predicts into every format and on the screen, and scores."""
    for name in (b"caf\xe9", b"tea"):
        folder = tmp_path / "pictures" / os.fsdecode(name)
        try:
            folder.mkdir(parents=True)
        except OSError:
            pytest.skip("this file system has names of UTF-8 only")
        for i in range(12):
            Image.new("L", (8, 8), i).save(folder / f"{i}.png")
    words = ("dataset=image_folder", "dataset.path=pictures", "dataset.channels=1", "model=mlp")
    assert dltrain(*words, "trainer.epochs=1", "callbacks=quiet").code == 0
    for out in ([], ["--out", "rows.csv"], ["--out", "rows.jsonl"], ["--json"]):
        outcome = dltrain("predict", "last", "pictures", *out)
        assert outcome.code == 0, outcome.err
    outcome = dltrain("evaluate", "last", "--out", "scores.csv")
    assert outcome.code == 0, outcome.err
    rows = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 25
    assert any("caf\\udce9" in row for row in rows)
