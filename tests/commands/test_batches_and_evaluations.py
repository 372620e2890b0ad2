"""Training by command: batch norm with small batches, evaluations that count once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROWS = 200  # of which 144 are trained on, 16 validated on and 40 tested
TABLE = ("dataset=tabular", "dataset.path=base.csv", "dataset.target=y", "callbacks=quiet")


@pytest.fixture(autouse=True)
def table(tmp_path: Path) -> Path:
    """Write a table whose class is the sign of the sum of two columns."""
    lines = ["a,b,y"]
    for i in range(ROWS):
        a, b = ((i * 37) % 101) / 50 - 1, ((i * 53) % 97) / 48 - 1
        lines.append(f"{a},{b},{'yes' if a + b > 0 else 'no'}")
    path = tmp_path / "base.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def validations(outcome: Any) -> list[dict[str, Any]]:
    """Return the records of all evaluations of a run."""
    assert outcome.code == 0, outcome.err
    path = Path(outcome.json["run"]) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [record for record in records if record["split"] == "val"]


def test_a_last_batch_of_one_joins_the_batch_before_it(dltrain: Callable[..., Any]) -> None:
    """144 samples in batches of 11 leave one sample: 13 batches, the last one of 12, and batch norm
    works.
    """
    outcome = dltrain(
        *TABLE, "dataset.batch_size=11", "model.norm=batch", "trainer.epochs=1", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["steps"] == 13


@pytest.mark.parametrize("verb", [(), ("check",)])
def test_batch_norm_with_batches_of_one_is_refused_before_training(
    verb: tuple[str, ...], dltrain: Callable[..., Any], tmp_path: Path
) -> None:
    """Exit code 2, the key is named, and no run folder is made."""
    outcome = dltrain(*verb, *TABLE, "dataset.batch_size=1", "model.norm=batch")
    assert outcome.code == 2
    assert "dataset.batch_size=1  batch norm needs at least two samples a batch" in outcome.err
    assert not (tmp_path / "outputs").exists()


def test_batch_norm_of_a_generator_is_refused_too(dltrain: Callable[..., Any]) -> None:
    """The discriminator, which predicts, has none."""
    outcome = dltrain("check", "dataset=digits", "model=gan", "dataset.batch_size=1")
    assert outcome.code == 2
    assert "dataset.batch_size=1  batch norm needs at least two samples a batch" in outcome.err


def test_one_image_is_enough_for_batch_norm_over_pixels(dltrain: Callable[..., Any]) -> None:
    """Convolutions have many values per channel of one image: a batch size of 1 trains."""
    outcome = dltrain(
        "model=cnn", "dataset.batch_size=1", "trainer.steps=2", "callbacks=quiet", "--json"
    )
    assert (outcome.code, outcome.json["steps"]) == (0, 2)


@pytest.mark.parametrize(
    "stopping",
    [
        (
            "regularization=[early_stopping]",
            "regularization.early_stopping.patience=1",
            "schedule=constant",
        ),
        ("schedule=plateau", "schedule.patience=0"),
    ],
)
def test_an_evaluation_that_ends_an_epoch_counts_once(
    stopping: tuple[str, ...], dltrain: Callable[..., Any]
) -> None:
    """An epoch has 3 steps, and so has an evaluation interval: the run is the same without the
    interval.
    """
    common = (
        *TABLE,
        "dataset.batch_size=48",
        "trainer.epochs=6",
        "trainer.watch=val/loss",
        *stopping,
        "--json",
    )
    alone = validations(dltrain(*common))
    within = validations(dltrain(*common, "trainer.evaluate_every=3"))
    assert [record["step"] for record in within] == [3, 6, 9, 12, 15, 18]
    assert [record["val/loss"] for record in within] == [record["val/loss"] for record in alone]


def test_images_without_a_test_split_are_trained_on_as_other_data(
    dltrain: Callable[..., Any], tmp_path: Path
) -> None:
    """dataset.test_fraction=0 says that no test is wanted; `evaluate` says so, and what it can
    score.
    """
    for name, value in (("dark", 10), ("light", 240)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), value + number).save(folder / f"{number}.png")
    own = (
        f"dataset.path={tmp_path / 'images'}",
        "dataset.channels=1",
        "model=mlp",
        "dataset.val_fraction=0.4",
    )
    outcome = dltrain(
        "dataset=image_folder", *own, "dataset.test_fraction=0", "trainer.epochs=1", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert "no test samples" in outcome.out
    assert not [name for name in outcome.json["metrics"] if name.startswith("test/")]
    refused = dltrain("evaluate", outcome.json["run"])
    assert refused.code == 2
    assert "dataset.test_fraction" in refused.err
    assert "split=train or split=val can be evaluated" in refused.err
    assert dltrain("evaluate", outcome.json["run"], "split=val").code == 0
