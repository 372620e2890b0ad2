"""Resuming with other batches, data or limits: the place, the schedule and the averages fit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.callbacks import checkpoint as saving
from dltrain.config.compose import compose
from dltrain.experiment.instantiate import instantiate
from dltrain.runs.checkpoint import Store, commit, load
from dltrain.runs.replan import StageLength
from dltrain.step_runner import MemoryGuard

RUN = (
    "dataset=synthetic",
    "dataset.source.train_samples=200",
    "dataset.batch_size=18",
    "model=mlp",
    "model.hidden_sizes=[8]",
    "trainer.epochs=3",
    "trainer.save_every=7",
    "trainer.log_every=1",
    "callbacks=quiet",
    "optimizer.lr=0.01",
)
SCHEDULES = ("cosine", "onecycle", "polynomial", "step", "warmup", "constant")
# a change of the run at step 14 of 30, after batch 4 of 10 of epoch 2: (overrides, batches an
# epoch, batch to continue after, epochs, limit of steps, accumulation)
CHANGES: dict[str, tuple[tuple[str, ...], int, int, int, float, int]] = {
    "half batches": (("dataset.batch_size=9",), 20, 8, 3, math.inf, 1),
    "double batches": (("dataset.batch_size=36",), 5, 2, 3, math.inf, 1),
    "batches that do not fit": (("dataset.batch_size=50",), 4, 1, 3, math.inf, 1),
    "accumulation": (("trainer.accumulate=3",), 10, 4, 3, math.inf, 3),
    "all at once": (
        ("dataset.batch_size=9", "trainer.accumulate=4", "trainer.epochs=5"),
        *(20, 8, 5, math.inf, 4),
    ),
    "larger validation split": (("dataset.val_fraction=0.5",), 6, 2, 3, math.inf, 1),
    "folds": (("dataset.folds=2", "dataset.fold=0"), 6, 2, 3, math.inf, 1),
    "more data": (("dataset.source.train_samples=400",), 20, 8, 3, math.inf, 1),
    "fewer steps": (("trainer.steps=20",), 10, 4, 3, 20, 1),
    "fewer steps of other batches": (
        ("trainer.steps=24", "dataset.batch_size=9"),
        *(20, 8, 3, 24, 1),
    ),
}


def as_if_killed_after(folder: Path, step: int) -> None:
    """Remove every checkpoint after `step`, and the results."""
    store = Store(folder / "checkpoints")
    for path in store.steps():
        if int(path.name.partition(".")[0]) > step:
            shutil.rmtree(path)
    for path in (*store.stage_end_folders(), *store.folder.glob("stage-*")):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("last", "best"):
        (store.folder / name).unlink(missing_ok=True)
    (folder / "results.json").unlink()


@pytest.fixture
def killed(dltrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what makes a run that was killed after a step, all of whose checkpoints are kept."""
    monkeypatch.setattr(saving, "KEEP", 1000)

    def make(*overrides: str, step: int = 14) -> Path:
        outcome = dltrain(*RUN, *overrides, "--json")
        assert outcome.code == 0, outcome.err
        folder = Path(outcome.json["run"])
        as_if_killed_after(folder, step)
        return folder

    return make


def logged_rates(folder: Path, after: int) -> list[float]:
    """Return the learning rates of the steps after a step."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [x["train/lr"] for x in lines if x["split"] == "train" and x["step"] > after]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_ends_where_the_training_ends(
    schedule: str, killed: Callable[..., Path], dltrain: Callable[..., Any]
) -> None:
    """After a change of what an epoch or an update is, the rates are those of the new plan's rest.

    So they are positive, and those of a run that had the new settings from its beginning.
    """
    folder = killed(f"schedule={schedule}")
    node = compose([f"schedule={schedule}"]).config["schedule"]
    for name, (overrides, batches, place, epochs, limit, accumulate) in CHANGES.items():
        outcome = dltrain("resume", str(folder), "--fork", *overrides, "--json")
        assert outcome.code == 0, (name, outcome.err)
        left = int(min((epochs - 1) * batches - place, limit - 14))
        assert outcome.json["steps"] == 14 + left, name
        total = math.ceil(min(epochs * batches, limit) / accumulate)
        planned = instantiate(node, "schedule", {}, [])(total_updates=total)
        rates = logged_rates(Path(outcome.json["run"]), 14)
        updates = math.ceil(left / accumulate)
        expected = [0.01 * planned.factor(total - updates + i) for i in range(updates)]
        made = rates[accumulate - 1 :: accumulate]  # one of an incomplete window is not logged
        assert made == pytest.approx(expected[: left // accumulate], rel=1e-9), name
        assert len(made) >= 3, name
        assert min(rates) > 0, name


def test_a_line_says_where_it_continues(
    killed: Callable[..., Path], dltrain: Callable[..., Any]
) -> None:
    folder = killed("schedule=cosine")
    outcome = dltrain("resume", str(folder), "dataset.batch_size=50", "trainer.epochs=4")
    assert (
        "epoch 2 has 4 batches now and continues after batch 1: it stopped after batch 4 of 10"
        in outcome.out
    )
    assert "the schedule now spans 16 updates and continues at update 5: " in outcome.out
    assert "the learning rate changes from 0.00604 to 0.00778" in outcome.out


def test_without_a_change_of_the_plan_nothing_is_said_or_converted(
    killed: Callable[..., Path], dltrain: Callable[..., Any]
) -> None:
    folder = killed("schedule=cosine")
    outcome = dltrain("resume", str(folder), "trainer.evaluate_every=3", "trainer.on_oom=halve")
    assert outcome.code == 0
    assert "the schedule now spans" not in outcome.out
    assert "continues after batch" not in outcome.out


def test_a_run_that_is_past_its_new_end_says_so(
    killed: Callable[..., Path], dltrain: Callable[..., Any]
) -> None:
    folder = killed("schedule=cosine")
    outcome = dltrain("resume", str(folder), "trainer.epochs=1", "--json")
    assert outcome.code == 0
    assert "nothing is left to train: the run has made 14 steps" in outcome.out
    assert outcome.json["steps"] == 14


def test_a_checkpoint_that_does_not_know_its_plan_starts_its_epoch_again(
    killed: Callable[..., Path], dltrain: Callable[..., Any]
) -> None:
    """Version 0.1 did not save it. Without a change of the plan it continues where it stopped."""
    folder = killed("schedule=cosine")
    newest = Store(folder / "checkpoints").steps()[-1]
    state = load(newest)
    del state["length"], state["optims"][0]["total_updates"], state["optims"][0]["accumulate"]
    shutil.rmtree(newest)
    commit(newest, state, {"step": 14, "points": ["last"]})
    same = dltrain("resume", str(folder), "--fork", "--json")
    other = dltrain("resume", str(folder), "--fork", "dataset.batch_size=9", "--json")
    assert [same.json["steps"], other.json["steps"]] == [30, 14 + 40]
    assert "epoch 2 has 20 batches now and continues after batch 0" in other.out
    assert "the schedule now spans 60 updates and continues at update 20" in other.out


@pytest.mark.parametrize("average", ["swa", "ema", "averaging"])
def test_averages_keep_their_window(
    average: str, killed: Callable[..., Path], dltrain: Callable[..., Any]
) -> None:
    """Stochastic weight averaging that had begun does not begin again with smaller batches."""
    folder = killed(f"regularization=[{average}]", "schedule=constant", step=28)
    state = load(Store(folder / "checkpoints").steps()[-1])
    before = state["optims"][0]["averages"][0]
    outcome = dltrain("resume", str(folder), "dataset.batch_size=9", "--json")
    assert outcome.code == 0, outcome.err
    end = load(Store(folder / "checkpoints").steps()[-1])
    after, values = end["optims"][0]["averages"][0], end["task"]["model.1.weight"]
    assert not torch.equal(after, values), "the mean of several updates, not the last weights"
    assert (after - before).norm() < (values - before).norm()


def test_a_window_that_was_begun_as_a_longer_one_ends_as_the_mean_of_its_batches(
    killed: Callable[..., Path], dltrain: Callable[..., Any]
) -> None:
    """The gradients of 2 of 4 batches, and then one that makes the update: a mean over three."""
    whole = killed("trainer.accumulate=3", "optimizer=sgd", "schedule=constant", step=0)
    assert dltrain("resume", str(whole), "trainer.steps=3", "--json").json["steps"] == 3
    part = killed(
        "trainer.accumulate=4", "optimizer=sgd", "schedule=constant", "trainer.save_every=2", step=2
    )
    resumed = dltrain("resume", str(part), "trainer.accumulate=1", "trainer.steps=3", "--json")
    assert resumed.json["steps"] == 3
    one, other = (load(Store(x / "checkpoints").steps()[-1])["task"] for x in (whole, part))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_divided_batches_keep_the_size_of_a_part(
    killed: Callable[..., Path], dltrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 samples in 6 parts (after memory ran out) become 9 samples in 3."""
    with monkeypatch.context() as patch:
        patch.setattr(MemoryGuard, "state_dict", lambda self: {"parts": 6})
        folder = killed("trainer.on_oom=halve")
    parts = []
    load_parts = MemoryGuard.load_state_dict

    def noting(guard: MemoryGuard, state: dict[str, Any]) -> None:
        load_parts(guard, state)
        parts.append(guard.parts)

    monkeypatch.setattr(MemoryGuard, "load_state_dict", noting)
    assert dltrain("resume", str(folder), "dataset.batch_size=9").code == 0
    assert parts == [3]


@pytest.mark.parametrize(
    ("earlier", "now", "position", "expected"),
    [
        ((3, 10, 18, 180), (3, 4, 50, 180), 4, 1),  # 72 samples: within the second batch
        ((3, 10, 18, 180), (3, 4, 50, 180), 10, 4),  # the epoch was over, but for its evaluation
        ((3, 10, 18, 180), (3, 5, 18, 90), 4, 2),  # other samples: the same fraction
        ((3, 7, 18, 180), (3, 14, 9, 180), 3, 6),  # batches of so many tokens: the same fraction
        ((3, 10, 18, 180), (3, 1, 180, 180), 9, 0),
    ],
)
def test_positions(earlier: Any, now: Any, position: int, expected: int) -> None:
    assert StageLength(*now).position_of(position, StageLength(*earlier)) == expected


def test_a_stream_starts_its_epoch_again(dltrain: Callable[..., Any]) -> None:
    """Batches that continue each other have no place in batches of another size."""
    Path("one.txt").write_text("the quick brown fox jumps over the lazy dog " * 60, "utf-8")
    stream = (
        *("dataset=language_modeling", "dataset.path=one.txt", "dataset.length=8"),
        *("dataset.stream=true", "dataset.batch_size=8", "model=gru_lm", "model.hidden_size=8"),
        *("trainer.epochs=2", "callbacks=quiet", "schedule=cosine"),
    )
    run = dltrain(*stream, "trainer.steps=3", "--json").json["run"]
    outcome = dltrain("resume", run, "dataset.batch_size=4", "trainer.steps=400", "--json")
    assert outcome.code == 0, outcome.err
    assert "continues after batch 0: it stopped after batch 3 of" in outcome.out
    batches = load(Store(Path(run) / "checkpoints").steps()[-1])["length"]["batches"]
    assert outcome.json["steps"] == 3 + 2 * batches


def test_layers_that_were_unfrozen_stay_so(dltrain: Callable[..., Any]) -> None:
    frozen = (*RUN, "freeze=['1.*']", "unfreeze_epoch=1", "--json")
    outcome = dltrain(*frozen)
    assert outcome.code == 0, outcome.err
    refused = dltrain("resume", outcome.json["run"], "unfreeze_epoch=2", "trainer.epochs=5")
    assert refused.code == 2
    assert "unfreeze_epoch" in refused.err
    assert "were unfrozen after epoch 1" in refused.err
    assert dltrain("resume", outcome.json["run"], "trainer.epochs=5").code == 0


def test_every_stage_and_optimizer_is_planned(dltrain: Callable[..., Any]) -> None:
    """A GAN whose generator learns in every second step: both schedules continue in place."""
    gan = (
        *("dataset=synthetic", "dataset.source.train_samples=200", "dataset.batch_size=18"),
        *("dataset.scaling=unit", "model=gan", "task=adversarial", "task.discriminator_steps=2"),
        *("schedule=cosine", "callbacks=quiet", "trainer.log_every=1", "task.judge=null"),
    )
    run = dltrain(*gan, "trainer.epochs=2", "--json")
    assert run.code == 0, run.err
    outcome = dltrain(
        "resume", run.json["run"], "dataset.batch_size=9", "trainer.epochs=4", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert "now spans 80 updates and continues at update 40" in outcome.out
    assert "now spans 40 updates and continues at update 20" in outcome.out
    lines = map(json.loads, (Path(run.json["run"]) / "metrics.jsonl").read_text().splitlines())
    rates = [x for x in lines if x["split"] == "train" and x["step"] > 20]
    for key in ("train/lr_0", "train/lr_1"):
        values = [x[key] for x in rates]
        assert len(values) == 40
        assert values[0] > 10 * values[-1] > 0


def test_a_smoke_run_can_be_extended(dltrain: Callable[..., Any]) -> None:
    """It is finished after two steps a stage; `last` is never a smoke run."""
    real = dltrain(*RUN, "trainer.steps=2", "--json").json["run"]
    smoke = dltrain(*RUN, "debug=smoke", "--json").json
    assert smoke["status"] == "completed"
    assert dltrain("evaluate", "last", "--json").json["run"] == real
    evaluated = dltrain("evaluate", "last-any", "--json")
    assert evaluated.json["run"] == smoke["run"]
    assert "2 steps a stage on fake data; the figures mean nothing" in evaluated.err
    finished = dltrain("resume", "last-any", "trainer.epochs=2")
    assert finished.code == 2
    assert "trainer.stage_steps=4" in finished.err
    more = dltrain("resume", "last-any", "trainer.epochs=2", "trainer.stage_steps=4", "--json")
    assert more.json["steps"] == 4


def test_a_smoke_run_trains_frozen_layers_too(dltrain: Callable[..., Any]) -> None:
    """The experiment unfreezes them after more epochs than the smoke run has."""
    outcome = dltrain(*RUN, "freeze=['1.*']", "unfreeze_epoch=2", "debug=smoke", "--json")
    assert outcome.code == 0, outcome.err
    lines = map(json.loads, (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines())
    stages = [line["stage"] for line in lines if line["split"] == "train"]
    assert stages == ["frozen", "frozen", "train", "train"]
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text())
    assert manifest["note"] == outcome.json["note"]
    assert f"note {manifest['note']}" in " ".join(outcome.err.split())


def test_weights_of_a_smoke_run_are_warned_of(dltrain: Callable[..., Any]) -> None:
    assert dltrain(*RUN, "debug=smoke").code == 0
    assert dltrain(*RUN, "trainer.steps=1", "init.from=last").code == 3
    outcome = dltrain(*RUN, "trainer.steps=1", "init.from=last-any")
    assert outcome.code == 0, outcome.err
    assert "init.from=last-any: " in outcome.out
    assert "was trained on fake data (debug=smoke)" in outcome.out
