"""Means over batches: a figure does not depend on how its samples are divided into batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.engine import Stage
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.step_runner import length

TABLE = (
    "dataset=tabular",
    "dataset.path=imb.csv",
    "dataset.target=y",
    "callbacks=quiet",
    "model.dropout=0",
)
SGD = ("optimizer=sgd", "optimizer.lr=0.1", "schedule=constant", "--json")
COUNTS = {"rare": 24, "common": 176}


@pytest.fixture(autouse=True)
def table(tmp_path: Path) -> None:
    """Write a table of two classes, one of them rare, that two columns do not quite separate."""
    lines = ["a,b,y"]
    for i in range(sum(COUNTS.values())):
        rare = i % 25 < 3
        lines.append(
            f"{(i * 37) % 101 / 50 - rare},{(i * 53) % 97 / 48},{'rare' if rare else 'common'}"
        )
    (tmp_path / "imb.csv").write_text("\n".join(lines), encoding="utf-8")


def last_weights(outcome: Any) -> dict[str, Any]:
    """Return the weights that a run ended with."""
    assert outcome.code == 0, outcome.err
    folder = Store(Path(outcome.json["run"]) / "checkpoints").pointed("last")
    assert folder is not None
    state: dict[str, Any] = checkpoint.load(folder)["task"]
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("balance", ["weights", "focal"])
def test_the_test_loss_is_the_same_for_every_evaluation_batch_size(
    balance: str, dltrain: Callable[..., Any]
) -> None:
    """A weighted loss is the sum of weighted losses over the sum of weights of the whole split."""
    trained = dltrain(*TABLE, f"dataset.balance={balance}", "trainer.epochs=2", "--json")
    assert trained.code == 0, trained.err
    for size in (1024, 50, 7, 1):
        again = dltrain(
            "evaluate", trained.json["run"], f"dataset.eval_batch_size={size}", "--json"
        )
        loss = again.json["metrics"]["test/loss"]
        assert loss == pytest.approx(trained.json["metrics"]["test/loss"], rel=1e-5), size


def test_class_weights_count_with_a_batch_size_of_one(dltrain: Callable[..., Any]) -> None:
    """Each sample keeps its weight, though it is alone in its batch."""
    one = (*TABLE, *SGD, "dataset.batch_size=1", "trainer.epochs=1", "optimizer.lr=0.01")
    plain = last_weights(dltrain(*one))
    balanced = last_weights(dltrain(*one, "dataset.balance=weights"))
    assert any(
        not torch.allclose(value, balanced[name], atol=1e-3) for name, value in plain.items()
    )


@pytest.mark.parametrize("balance", ["none", "weights", "focal"])
def test_accumulated_batches_make_the_update_of_one_large_batch(
    balance: str, dltrain: Callable[..., Any]
) -> None:
    """Also at an epoch's end, where batches have other sizes: 144 samples are 4 x 32 + 16 and 2 x
    64 + 16.
    """
    common = (*TABLE, *SGD, f"dataset.balance={balance}", "trainer.epochs=1")
    whole = last_weights(dltrain(*common, "dataset.batch_size=64"))
    small = last_weights(dltrain(*common, "dataset.batch_size=32", "trainer.accumulate=2"))
    for name, value in whole.items():
        torch.testing.assert_close(small[name], value, rtol=0, atol=1e-6)


def test_accumulated_translations_are_a_mean_over_tokens(
    dltrain: Callable[..., Any], tmp_path: Path
) -> None:
    """Texts of 1 to 8 words, one a batch and two an update, or two a batch: the same updates."""
    source = [" ".join(["a", "b", "c", "d"][: 1 + i % 4] * (1 + i % 2)) for i in range(40)]
    (tmp_path / "s").write_text("\n".join(source), encoding="utf-8")
    (tmp_path / "t").write_text("\n".join(text.upper() for text in source), encoding="utf-8")
    data = (
        "dataset=translation",
        "dataset.pairs.source=s",
        "dataset.pairs.target=t",
        "dataset.tokenizer=word",
        "dataset.bucketing=false",
    )
    common = (*data, "model=seq2seq", "model.dropout=0", *SGD, "callbacks=quiet")
    whole = last_weights(dltrain(*common, "dataset.batch_size=2", "trainer.steps=4"))
    small = last_weights(
        dltrain(*common, "dataset.batch_size=1", "trainer.accumulate=2", "trainer.steps=8")
    )
    for name, value in whole.items():
        torch.testing.assert_close(small[name], value, rtol=0, atol=1e-5)


def test_a_batch_in_parts_makes_the_same_update(
    dltrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """trainer.on_oom=halve under class weights, where every batch of more than 20 samples is too
    large.
    """
    common = (*TABLE, *SGD, "dataset.balance=weights", "dataset.batch_size=50", "trainer.epochs=1")
    whole = last_weights(dltrain(*common))
    original = Stage.__getattribute__

    def step_of(stage: Stage, name: str) -> Any:
        found = original(stage, name)
        if name != "step":
            return found

        def step(batch: Any) -> Any:
            if length(batch) > 20:
                raise torch.OutOfMemoryError("no")
            return found(batch)

        return step

    monkeypatch.setattr(Stage, "__getattribute__", step_of)
    parts = last_weights(dltrain(*common, "trainer.on_oom=halve"))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=1e-6)


def test_the_logged_training_loss_is_a_mean_over_samples(dltrain: Callable[..., Any]) -> None:
    """With weights that do not move, the loss of an epoch of 100 and 44 samples is that of one of
    144.
    """
    fixed = (
        *TABLE,
        "optimizer=sgd",
        "optimizer.lr=1e-12",
        "trainer.epochs=1",
        "trainer.log_every=1000",
        "--json",
    )
    found = []
    for size in (100, 144):
        outcome = dltrain(*fixed, f"dataset.batch_size={size}")
        assert outcome.code == 0, outcome.err
        path = Path(outcome.json["run"]) / "metrics.jsonl"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found.append(next(record["train/loss"] for record in records if record["split"] == "train"))
    assert found[0] == pytest.approx(found[1], rel=1e-6)
