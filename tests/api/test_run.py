"""Runs, sweeps, evaluations and checks as Python sees them, and misuse of each."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_folders import make_run, results_of

import dltrain as library

BRIEF = ("dataset=digits", "model=mlp", "trainer.epochs=2", "trainer.log_every=10")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> library.Run:
    return library.train(*BRIEF, **{"paths.output": tmp_path_factory.mktemp("trained")})


def test_a_run_tells_what_its_files_hold(run: library.Run) -> None:
    results = json.loads((run.folder / "results.json").read_text())
    assert run.folder.is_absolute()
    assert run.status == "completed"
    assert run.metrics == results["metrics"]
    assert run.best["metric"] == "val/accuracy"
    assert run.best["epoch"] in (1, 2)
    assert run.best["mode"] == "max"
    assert run.config["model"]["_target_"] == "dltrain.models.mlp.MLP"
    assert run.checkpoint == run.checkpoints["best"]
    assert run.checkpoint is not None
    assert (run.checkpoint / "manifest.json").is_file()
    assert run.manifest["command"] == (
        f"dltrain {' '.join(BRIEF)} paths.output={run.folder.parents[1]}"
    )
    assert "val/accuracy" in repr(run)
    assert "<td>completed</td>" in run._repr_html_()


def test_the_history_is_that_of_the_log(run: library.Run) -> None:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    history = run.history
    assert history.records == lines
    assert history["val/loss"] == [line["val/loss"] for line in lines if "val/loss" in line]
    assert history.steps("val/loss") == [81, 162]
    assert history.epochs("val/loss") == [1, 2]
    assert len(history["train/loss"]) == len(history.steps("train/loss")) > 10
    assert set(history) >= {"train/loss", "val/loss", "val/accuracy"}
    assert dict(history)["val/loss"] == history["val/loss"]
    assert "step" not in history
    assert "val/loss" in repr(history)
    with pytest.raises(KeyError, match="the run logged train/loss"):
        history["val/los"]


def test_a_run_is_found_by_name_and_read_again(run: library.Run, tmp_path: Path) -> None:
    root = run.folder.parents[1]
    assert library.Run("last", output=root).folder == run.folder
    found = library.Run(run.folder.name, output=root)
    found.results["status"] = "forgotten"
    assert found.status == "forgotten"
    assert found.reload().status == "completed"


def test_a_run_that_has_not_ended_has_no_results(run: library.Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((run.folder / "config.yaml").read_text())
    unfinished = library.Run(tmp_path)
    assert (unfinished.status, unfinished.metrics, unfinished.best) == ("unfinished", {}, {})
    assert unfinished.checkpoint is None
    assert len(unfinished.history) == 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "train/loss": null}\n{"st')
    assert math.isnan(unfinished.reload().history["train/loss"][0])


def test_an_evaluation_has_metrics_and_tables(run: library.Run) -> None:
    scores = library.evaluate(run)
    assert scores.metrics["test/accuracy"] == run.metrics["test/accuracy"]
    assert set(scores.per_class) == set("0123456789")
    assert scores.per_target == {}
    assert scores.step == run.best["step"]
    assert library.evaluate(run, split="val").metrics["val/loss"] == run.best["metrics"]["val/loss"]
    shifted = library.evaluate(run, tta=["flip", "shift"])
    assert shifted.metrics["test/loss"] != scores.metrics["test/loss"]
    samples = library.evaluate(run, samples=True).samples
    assert scores.samples == []
    losses = [sample["loss"] for sample in samples]
    assert sum(losses) / len(losses) == pytest.approx(scores.metrics["test/loss"], rel=1e-4)


def test_a_check_reports_costs_and_every_problem() -> None:
    report = library.check(*BRIEF, "dataset.batch_size=32")
    assert report.parameters == 50_826
    assert report.flops == report.figures["forward_flops_per_sample"] > 0
    assert report.layers[0].name.startswith("model")
    assert report.config["dataset"]["batch_size"] == 32
    assert report.initial_loss == pytest.approx(math.log(10), abs=0.5)
    with pytest.raises(library.ConfigError) as caught:
        library.check("modle=mlp", **{"trainer.epochs": -1, "optimizer.lr": "fast"})
    written = {written for written, _ in caught.value.problems}
    assert written == {"modle=mlp", "trainer.epochs=-1", "optimizer.lr=fast"}
    assert not Path("outputs").exists()


def test_the_best_run_by_the_watched_metric_is_that_of_the_table(tmp_path: Path) -> None:
    """The best evaluation counts, not the last, also if the metric is named."""
    rows = []
    for job, (best, last) in enumerate([(0.9, 0.1), (0.8, 0.8)]):
        results = results_of(best)
        results["best"]["mode"] = "max"
        results["metrics"]["val/accuracy"] = last
        folder = make_run(tmp_path, str(job), None, results)
        rows.append({"job": job, "overrides": [], **results, "run": str(folder)})
    swept = library.Sweep(tmp_path, rows)
    assert swept.best().folder == swept.best("val/accuracy").folder == tmp_path / "0"


def test_a_sweep_has_its_runs_and_the_best() -> None:
    swept = library.sweep("dataset=digits", "model=perceptron,mlp", "trainer.epochs=1")
    assert len(swept.runs) == len(swept.rows) == 2
    assert swept.failed == []
    values = [run.best["value"] for run in swept.runs]
    assert swept.best().folder == swept.runs[values.index(max(values))].folder
    losses = [run.metrics["test/loss"] for run in swept.runs]
    lowest = swept.best("test/loss", mode="min")
    assert lowest.metrics["test/loss"] == min(losses)
    assert swept.best("test/accuracy").metrics["test/accuracy"] == max(
        run.metrics["test/accuracy"] for run in swept.runs
    )
    with pytest.raises(library.UsageError, match="mode='max' or mode='min'"):
        swept.best("test/loss")
    with pytest.raises(library.UsageError, match="no run of"):
        swept.best("test/bleu")
    assert "2 runs, 0 failed" in repr(swept)


def test_a_sweep_groups_its_seeds() -> None:
    swept = library.sweep(
        "dataset=digits",
        "model=perceptron",
        "optimizer.lr=0.1,0.01",
        "trainer.epochs=1",
        "seed=0,1",
    )
    first, second = swept.groups()
    assert (first.label, second.label) == ("lr=0.1", "lr=0.01")
    summary = first.metrics["test/loss"]
    values = [run.metrics["test/loss"] for run in swept.runs[:2]]
    assert (first.n, summary.n, summary.mean) == (2, 2, pytest.approx(sum(values) / 2))
    assert summary.low < summary.mean < summary.high
    assert "best val/accuracy" in first.metrics
    assert len(swept.groups(over=())) == 4


def test_a_run_that_fails_does_not_end_a_sweep() -> None:
    swept = library.sweep(
        *("dataset=digits", "model=mlp", "trainer.epochs=1", "launcher=inline"),
        *("optimizer=sgd", "optimizer.lr=1e30,0.1"),
    )
    (failed,) = swept.failed
    assert failed["status"] == "diverged"
    assert "loss" in failed["reason"]
    assert len(swept.runs) == 2
    assert swept.best().folder == swept.runs[1].folder


def test_a_finished_run_is_extended_and_a_fork_leaves_it(run: library.Run) -> None:
    before = (run.folder / "metrics.jsonl").read_text()
    fork = library.resume(run, {"trainer": {"epochs": 3}}, fork=True)
    assert fork.folder != run.folder
    assert fork.history.epochs("val/loss") == [1, 2, 3]
    assert (run.folder / "metrics.jsonl").read_text() == before
    with pytest.raises(library.UsageError, match="is finished"):
        library.resume(run)


def test_an_error_names_the_folder_of_its_run() -> None:
    with pytest.raises(library.DivergedError) as caught:
        library.train(*BRIEF, "optimizer=sgd", "optimizer.lr=1e30")
    (note,) = caught.value.__notes__
    folder = note.rpartition(" ")[2]
    assert library.Run(folder).status == "diverged"


IMAGE = np.zeros((1, 8, 8), np.uint8)
MISUSES: dict[str, tuple[Callable[[Any, Any], Any], type[Exception], str]] = {
    "unknown run": (lambda run, net: library.load("nothing"), library.InputError, "no run"),
    "unknown checkpoint": (
        lambda run, net: library.load(run, checkpoint="newest"),
        library.UsageError,
        "checkpoint=newest: expected best, last",
    ),
    "unknown device": (
        lambda run, net: library.load(run, device="tpu"),
        library.ConfigError,
        "expected one of auto, cpu, cuda, mps",
    ),
    "typo": (
        lambda run, net: library.load(run, "dataset.pth=x"),
        library.ConfigError,
        "no such key",
    ),
    "unknown split": (
        lambda run, net: library.evaluate(run, split="tests"),
        library.UsageError,
        "split=tests: expected one of train, val, test",
    ),
    "unknown view": (
        lambda run, net: library.evaluate(run, tta="mirror"),
        library.UsageError,
        "tta=mirror: unknown view",
    ),
    "one image": (lambda run, net: net(IMAGE), library.InputError, r"image\[None\]"),
    "channels last": (
        lambda run, net: net(IMAGE.reshape(1, 8, 8, 1)),
        library.InputError,
        "permute",
    ),
    "wrong size": (
        lambda run, net: net(np.zeros((2, 1, 9, 9), np.uint8)),
        library.InputError,
        r"have the shape \(2, 1, 9, 9\); the run was trained on \(B, 1, 8, 8\)",
    ),
    "wrong type": (
        lambda run, net: net(IMAGE[None].astype(np.int64)),
        library.InputError,
        "of the type int64: expected uint8, or floats in 0..1",
    ),
    "bytes as floats": (
        lambda run, net: net(torch.full((1, 1, 8, 8), 255.0)),
        library.InputError,
        "values from 255 to 255: floats are in 0..1",
    ),
    "not finite": (
        lambda run, net: net(torch.full((1, 1, 8, 8), math.nan)),
        library.InputError,
        "not finite",
    ),
    "no samples": (
        lambda run, net: net(torch.zeros(0, 1, 8, 8)),
        library.InputError,
        "no samples",
    ),
    "texts as an array": (
        lambda run, net: net(np.array(["a", "b"], object)),
        library.InputError,
        "an array of object",
    ),
    "no values": (
        lambda run, net: net(torch.zeros(2, 1, 8, 8, device="meta")),
        library.InputError,
        "the device meta, where it has no values",
    ),
    "no pixels": (
        lambda run, net: list(net.predict(np.zeros((8, 0), np.uint8))),
        library.InputError,
        "has no pixels",
    ),
    "no name": (lambda run, net: list(net.predict("")), library.InputError, "is empty"),
    "top as a text": (
        lambda run, net: net.predict("x", top="3"),
        library.UsageError,
        "top=3: expected a whole number",
    ),
    "a step without a checkpoint": (
        lambda run, net: library.load(run, checkpoint=12345),
        library.InputError,
        "checkpoint=12345 is not one of the checkpoints",
    ),
    "deleted run": (
        lambda run, net: library.load(Path("gone").absolute()),
        library.InputError,
        r"gone: no run is there; was its folder moved or deleted\?",
    ),
    "a list": (lambda run, net: net([1, 2]), library.UsageError, "not list; predict"),
    "absent file": (
        lambda run, net: list(net.predict("absent.png")),
        library.InputError,
        "absent.png: no such file",
    ),
    "closed file": (
        lambda run, net: list(net.predict(closed_file())),
        library.InputError,
        "the file is closed",
    ),
    "no image": (
        lambda run, net: list(net.predict(text_file())),
        library.InputError,
        "notes.png cannot be read as an image",
    ),
    "a number": (lambda run, net: list(net.predict(3)), library.UsageError, "cannot read int"),
    "rows": (
        lambda run, net: list(net.predict({"a": 1})),
        library.InputError,
        "not trained on a table",
    ),
    "array that is no image": (
        lambda run, net: list(net.predict(np.zeros((8, 8, 7)))),
        library.InputError,
        "is not an image",
    ),
    "nothing": (lambda run, net: net.predict(), library.UsageError, "either inputs or a split"),
    "top": (lambda run, net: net.predict("x", top=0), library.UsageError, "top=0"),
    "train split": (
        lambda run, net: net.predict(split="train"),
        library.UsageError,
        "split=train: expected one of val, test",
    ),
    "generate": (lambda run, net: net.generate(), library.UsageError, "generates no images"),
    "generate text": (lambda run, net: net.generate("a"), library.UsageError, "writes no text"),
    "samples": (lambda run, net: net.generate(samples=0), library.UsageError, "samples=0"),
    "top_p": (lambda run, net: net.generate("a", top_p=0), library.UsageError, "top_p=0"),
    "rollout": (lambda run, net: net.rollout(), library.UsageError, "has no episodes"),
}


def closed_file() -> Any:
    with Path("closed.png").open("wb") as file:
        pass
    return file


def text_file() -> Path:
    path = Path("notes.png")
    path.write_text("no image")
    return path


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_told_in_the_words_of_the_command_line(misuse: str, run: library.Run) -> None:
    call, error, message = MISUSES[misuse]
    net = library.load(run)
    with pytest.raises(error, match=message):
        call(run, net)


@pytest.mark.parametrize("layout", ["sparse", "big-endian", "half", "bfloat16"])
def test_a_batch_may_have_any_layout(layout: str, run: library.Run) -> None:
    net = library.load(run)
    values = np.array(IMAGE[None] // 255, np.float32)
    batches: dict[str, Any] = {
        "sparse": torch.tensor(values).to_sparse(),
        "big-endian": values.astype(">f4"),
        "half": values.astype(np.float16),
        "bfloat16": torch.tensor(values).bfloat16(),
    }
    assert torch.equal(net(batches[layout]), net(values))
    (row,) = net.predict(torch.tensor(values[0]).bfloat16())
    (expected,) = net.predict(values[0])
    assert row == expected


ERRORS = {
    "settings": lambda: library.train("modle=mlp", "dataste=digits"),
    "input": lambda: library.Run("absent"),
    "diverged": lambda: library.train(
        "dataset=digits", "model=mlp", "trainer.epochs=1", "optimizer=sgd", "optimizer.lr=1e30"
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_reaches_another_process(kind: str) -> None:
    """A pool of processes passes errors on as pickles."""
    with pytest.raises(library.DltrainError) as caught:
        ERRORS[kind]()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is type(caught.value)
    assert str(copy) == str(caught.value)
    assert vars(copy) == vars(caught.value)


def test_an_interruption_reaches_another_process(run: library.Run) -> None:
    copy = pickle.loads(pickle.dumps(library.RunInterrupted("Ctrl-C", run)))
    assert isinstance(copy, KeyboardInterrupt)
    assert copy.run.folder == run.folder
    assert "dltrain.resume(" in str(copy)


def test_a_plugin_may_be_a_text(run: library.Run) -> None:
    assert library.Run(run.folder, plugins="torch").plugins == ("torch",)
    assert library.load(run, plugins="torch").class_names


def test_unreadable_inputs_may_be_left_out(
    run: library.Run, caplog: pytest.LogCaptureFixture
) -> None:
    from PIL import Image

    Path("pictures").mkdir()
    for name in ("a", "b"):
        Image.fromarray(IMAGE[0]).save(f"pictures/{name}.png")
    Path("pictures/c.png").write_text("no image")
    net = library.load(run)
    rows = list(net.predict("pictures", skip_unreadable=True))
    assert [Path(row["input"]).name for row in rows] == ["a.png", "b.png"]
    assert "c.png cannot be read as an image" in caplog.text
    with pytest.raises(library.InputError, match=r"c\.png"):
        list(net.predict("pictures"))


def test_a_split_is_predicted_like_any_samples(run: library.Run) -> None:
    net = library.load(run)
    rows = list(net.predict(split="test"))
    right = [row["class"] == row["label"] for row in rows]
    assert sum(right) / len(right) == pytest.approx(run.metrics["test/accuracy"])


def test_threads_may_share_a_predictor(run: library.Run) -> None:
    from concurrent.futures import ThreadPoolExecutor

    net = library.load(run)
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), np.uint8)
    expected = net(images)
    rows = list(net.predict(images))
    with ThreadPoolExecutor(4) as pool:
        outputs = [pool.submit(net, images) for _ in range(8)]
        listed = [pool.submit(lambda: list(net.predict(images))) for _ in range(4)]
        for output in outputs:
            assert torch.equal(output.result(), expected)
        for result in listed:
            assert [row["probability"] for row in result.result()] == [
                row["probability"] for row in rows
            ]
    assert torch.is_grad_enabled()


def test_averaged_weights_are_used_and_the_states_of_optimizers_are_dropped() -> None:
    run = library.train(*BRIEF, "regularization=[ema]")
    net = run.load()
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8)
    first = net(images)
    assert torch.equal(first, net(images))
    assert library.evaluate(run).metrics["test/loss"] == run.metrics["test/loss"]
    rows = list(net.predict(split="test"))
    right = [row["class"] == row["label"] for row in rows]
    assert sum(right) / len(right) == pytest.approx(run.metrics["test/accuracy"])
    assert net.trained.engine.stage.optims == ()


def test_a_program_that_is_started_again_continues(tmp_path: Path) -> None:
    """With resume="auto" the second call returns the run of the first."""
    settings = {"resume": "auto", "paths.output": tmp_path}
    first = library.train(*BRIEF, **settings)
    again = library.train(*BRIEF, **settings)
    assert again.folder == first.folder
    assert again.metrics == first.metrics
    other = library.train(*BRIEF, seed=1, **settings)
    assert other.folder != first.folder
