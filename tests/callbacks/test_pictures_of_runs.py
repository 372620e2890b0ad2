"""Pictures of a run: at every evaluation in TensorBoard, and the final ones in the run's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import SMALL
from test_tensorboard import loaded

from dltrain.callbacks import tensorboard
from dltrain.callbacks.tensorboard import DrawingTime
from dltrain.runs.folder import METRICS

VAE = (
    "model=vae",
    "dataset=digits",
    "model.hidden_sizes=[16]",
    "trainer.epochs=3",
    "callbacks.progress=null",
    "--json",
)
VAE_PICTURES = {"reconstructions", "prior", "interpolations", "codes"}


def names(folder: Path) -> set[str]:
    """The files in a run's pictures/."""
    return {path.name for path in (folder / "pictures").iterdir()}


def steps_of_images(folder: Path) -> dict[str, list[int]]:
    """The steps at which each picture was written for TensorBoard, by its tag."""
    events = loaded(folder / "tensorboard")
    return {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}


def test_tensorboard_has_the_pictures_of_every_evaluation(
    dltrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "FREE_DRAWING_SECONDS", 10.0)  # on a slow machine too
    outcome = dltrain(*VAE)
    assert outcome.code == 0, outcome.err
    shown = steps_of_images(Path(outcome.json["run"]))
    steps = outcome.json["steps"]
    assert shown["val/codes"] == [steps], "a plot, which a short run draws at its end"
    for name in VAE_PICTURES - {"codes"}:
        assert shown[f"val/{name}"] == [steps // 3, 2 * steps // 3, steps], name
    for name in VAE_PICTURES:
        assert shown[f"test/{name}"] == [steps]


def test_pictures_come_every_second_evaluation_and_at_the_end(dltrain: Callable[..., Any]) -> None:
    """Also for evaluations within an epoch."""
    outcome = dltrain(
        *VAE,
        "callbacks.tensorboard.pictures_every=2",
        "trainer.epochs=1",
        "trainer.evaluate_every=3",
        "callbacks.pictures=null",
    )
    assert outcome.code == 0, outcome.err
    shown = steps_of_images(Path(outcome.json["run"]))["val/prior"]
    steps = outcome.json["steps"]
    evaluated = sorted({*range(3, steps, 3), steps})
    assert shown == sorted({*evaluated[1::2], steps})


def test_an_evaluation_at_the_same_step_is_drawn_again(dltrain: Callable[..., Any]) -> None:
    """The last, incomplete update changes the weights after an evaluation at that step."""
    outcome = dltrain(
        *VAE,
        "callbacks.tensorboard.pictures_every=1",
        "trainer.epochs=null",
        "trainer.steps=10",
        "trainer.evaluate_every=5",
        "trainer.accumulate=4",
    )
    assert outcome.code == 0, outcome.err
    shown = steps_of_images(Path(outcome.json["run"]))["val/prior"]
    assert shown == [5, 10, 10]


def test_no_setting_of_pictures_changes_the_run(dltrain: Callable[..., Any]) -> None:
    logs = []
    for more in (
        ("callbacks=quiet",),
        ("callbacks.tensorboard.pictures_every=1",),
        ("callbacks.tensorboard=null",),
    ):
        outcome = dltrain(*VAE, *more)
        assert outcome.code == 0, outcome.err
        logs.append((Path(outcome.json["run"]) / METRICS).read_bytes())
    assert logs[0] == logs[1] == logs[2]


def test_drawing_takes_a_hundredth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an allowance that is free, so that a short run shows its images."""
    now = {"run": 0.0, "thread": 0.0}
    monkeypatch.setattr(tensorboard.time, "perf_counter", lambda: now["run"])
    monkeypatch.setattr(tensorboard.time, "thread_time", lambda: now["thread"])
    drawing = DrawingTime(free_seconds=0.25)
    drawn = 0
    for evaluation in range(1000):
        now["run"] += 1.0
        if drawing.is_left():
            drawn += 1
            with drawing.measured():
                now["run"] += 0.05
                now["thread"] += 0.05
        if evaluation < 4:
            assert drawn == evaluation + 1, "the first ones are all drawn"
    assert now["thread"] == pytest.approx(0.05 * drawn)
    assert now["thread"] <= 0.25 + 0.01 * now["run"]
    assert drawn > 190, "the time that is allowed is used"


def test_the_first_plot_waits_until_its_library_can_be_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = {"run": 0.0}
    monkeypatch.setattr(tensorboard.time, "perf_counter", lambda: now["run"])
    drawing = DrawingTime(free_seconds=0.0, first_seconds=0.8)
    assert not drawing.is_left()
    now["run"] = 79.0
    assert not drawing.is_left()
    now["run"] = 81.0
    assert drawing.is_left()


def test_the_final_pictures_lie_in_the_folder(dltrain: Callable[..., Any]) -> None:
    outcome = dltrain(*VAE, "callbacks.tensorboard=null")
    folder = Path(outcome.json["run"])
    expected = {f"{name}.png" for name in (*VAE_PICTURES, "curves")}
    assert names(folder) == expected
    for name in expected:
        pixels = np.asarray(Image.open(folder / "pictures" / name))
        assert pixels.std() > 5, f"{name} is blank"
    assert not (folder / "tensorboard").exists()


def test_the_closing_table_names_them(dltrain: Callable[..., Any]) -> None:
    outcome = dltrain(*SMALL, "dataset=digits", "callbacks.progress=null")
    assert outcome.code == 0, outcome.err
    assert "pictures/ in the run: curves.png, confusion.png, per_class.png, roc.png" in outcome.out
    quiet = dltrain(*SMALL, "dataset=digits", "callbacks=quiet")
    assert "pictures/" not in quiet.out


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("cnn_mnist", {"confusion.png", "samples.png", "explain-filters.png"}),
        ("bilstm_imdb", {"confusion.png", "roc.png", "mistakes.txt"}),
        ("charlm_lstm_shakespeare", {"text.txt"}),
        ("seq2seq_reverse", {"translations.txt", "attention_1.png"}),
        ("word2vec_imdb", {"nearest.txt", "words.png"}),
        ("lstm_timeseries", {"predictions.png"}),
        ("qlearning_cliffwalking", {"policy.png"}),
        ("dbn_mnist", {"filters.png", "dreams.png"}),
    ],
)
def test_every_family_leaves_its_pictures_and_texts(
    experiment: str, expected: set[str], dltrain: Callable[..., Any]
) -> None:
    outcome = dltrain(
        f"experiment={experiment}",
        "debug=smoke",
        "callbacks.tensorboard=null",
        "callbacks.progress=null",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run"])
    drawn = names(folder)
    if experiment == "dbn_mnist":  # of whichever stage the fake run ends in
        drawn = {name.rpartition("_")[2] for name in drawn}
    assert expected | {"curves.png"} <= drawn
    assert all((folder / "pictures" / name).stat().st_size for name in names(folder))


def test_pictures_of_an_earlier_stage_have_its_name(dltrain: Callable[..., Any]) -> None:
    outcome = dltrain(
        "model=deep_belief_net",
        "dataset=digits",
        "dataset.scaling=unit",
        "model.hidden_sizes=[8,8]",
        "task.pretrain_epochs=1",
        "trainer.epochs=1",
        "callbacks.tensorboard=null",
        "callbacks.progress=null",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    drawn = names(Path(outcome.json["run"]))
    assert {"rbm_1_filters.png", "rbm_2_filters.png", "rbm_1_dreams.png"} <= drawn
    assert {"confusion.png", "curves.png"} <= drawn
    assert "filters.png" not in drawn


def test_a_disk_without_room_does_not_fail_the_run(
    dltrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says so, and the closing table lists nothing."""
    from dltrain.callbacks import pictures

    def full(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pictures, "replace_file", full)
    outcome = dltrain(*VAE, "callbacks.tensorboard=null")
    assert outcome.code == 0, outcome.err
    log = (Path(outcome.json["run"]) / "train.log").read_text()
    assert log.count("cannot be drawn or written (No space left on device)") == 1
    assert "pictures/ in the run" not in log


def test_a_resumed_run_draws_its_pictures_again(dltrain: Callable[..., Any]) -> None:
    outcome = dltrain(*VAE, "callbacks.tensorboard=null")
    folder = Path(outcome.json["run"])
    before = {name: (folder / "pictures" / name).read_bytes() for name in names(folder)}
    (folder / "pictures" / "prior.png").unlink()
    resumed = dltrain("resume", str(folder), "trainer.epochs=5", "--json")
    assert resumed.code == 0, resumed.err
    assert names(folder) == set(before)
    for name in ("curves.png", "prior.png"):
        assert (folder / "pictures" / name).read_bytes() != before[name], name
