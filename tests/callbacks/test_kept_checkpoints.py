"""The best checkpoints and those of every N-th epoch are kept, also where saving fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import Counting, On

from dltrain.callbacks.checkpoint import MAX_UNWRITTEN_EPOCHS, Checkpoint
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.engine import Callback, Engine, Resume
from dltrain.errors import SaveError
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, load

pytestmark = pytest.mark.usefixtures("quick_disk")
BATCHES = 2  # an epoch


class Scored(Counting):
    """A task that scores what a table says of the step."""

    steps: torch.Tensor

    def __init__(self, scores: list[float], stages: int = 1) -> None:
        super().__init__(*[(len(scores), BATCHES, 1)] * stages)
        self.scores = scores
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def step(self, batch: tuple[int, int]) -> dict[str, torch.Tensor]:
        self.steps += 1
        return super().step(batch)

    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        list(batches)
        place = (int(self.steps) - 1) // BATCHES % len(self.scores)
        return {"score": self.scores[place]}


def fit(
    folder: Path,
    scores: list[float],
    *more: Callback,
    keep: int = 1,
    stages: int = 1,
    **settings: Any,
) -> Checkpoint:
    saver = Checkpoint(Store(folder, keep), **settings)
    Engine([*more, saver]).fit(Scored(scores, stages))
    return saver


def steps(store: Store) -> list[int]:
    return [saved.step for saved in store.saved()]


SCORES = [0.5, 0.9, 0.1, 0.7, 0.8, 0.2, 0.3]


@pytest.mark.parametrize("affordable", [True, False])
def test_the_best_ones_are_kept_under_their_names(
    affordable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of two steps: of the seven, the second, fifth and fourth are the best.

    They are saved where no more than a hundredth of the time may be spent on saving, too.
    """
    monkeypatch.setattr(Checkpoint, "is_affordable", lambda self: affordable)
    store = fit(tmp_path, SCORES, keep=3).store
    newest = [12, 14] if affordable else [14]
    assert steps(store) == [4, 8, 10, *newest]
    named = {path.name: int(path.read_text()) for path in tmp_path.glob("best*")}
    assert named == {"best": 4, "best-2": 10, "best-3": 8}
    reader = Store(tmp_path)
    assert [int(reader.named(name).name) for name in named] == list(named.values())
    assert int(reader.named("epoch:5").name) == int(reader.named("10").name) == 10
    assert reader.named("epoch:3") is reader.named("6") is reader.named("best-9") is None
    assert {"best-3", "epoch:5", "10"} <= set(reader.names())


def test_of_equal_ones_the_later_is_kept(tmp_path: Path) -> None:
    assert steps(fit(tmp_path, [1.0] * 6, keep=3).store) == [8, 10, 12]


@pytest.mark.usefixtures("save_every_epoch")
def test_epochs_are_kept_forever(tmp_path: Path) -> None:
    """A later run with other settings does not remove them."""
    store = fit(tmp_path, SCORES, keep_every=3).store
    assert steps(store) == [4, 6, 12, 14]
    state = load(store.steps()[-1])
    saver = Checkpoint(Store(tmp_path))
    Engine([saver]).fit(Scored([*SCORES, 0.0, 0.0, 0.0]), Resume(state))
    assert steps(saver.store) == [4, 6, 12, 18, 20]


def test_evaluations_within_epochs_are_ranked_too(tmp_path: Path) -> None:
    """A state that is saved within an epoch and at its end counts once."""
    store = fit(tmp_path, SCORES, EvaluateEvery(1), keep=2).store
    assert [saved.step for saved in store.ranked()][:2] == [4, 3]


@pytest.mark.usefixtures("save_every_epoch")
def test_the_stage_that_was_evaluated_last_counts(tmp_path: Path) -> None:
    store = fit(tmp_path, SCORES, keep=2, stages=2).store
    assert [saved.step for saved in store.ranked()][:2] == [18, 24]
    assert steps(store) == [18, 24, 26, 28]


@pytest.mark.usefixtures("save_every_epoch")
def test_by_default_one_is_kept(tmp_path: Path) -> None:
    assert steps(fit(tmp_path, SCORES).store) == [4, 12, 14]
    assert not list(tmp_path.glob("best-*"))


def test_fewer_are_kept_after_a_resume_with_fewer(tmp_path: Path) -> None:
    state = load(fit(tmp_path, SCORES, keep=3).store.steps()[-1])
    saver = Checkpoint(Store(tmp_path, 2))
    Engine([saver]).fit(Scored([*SCORES, 0.0]), Resume(state))
    assert steps(saver.store) == [4, 10, 14, 16]
    assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-2"]


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("killed_at", range(1, 14))
def test_a_killed_run_keeps_the_same_ones(killed_at: int, tmp_path: Path) -> None:
    """The checkpoints on the disk are all that a resume needs to know."""

    class Killed(Exception):
        pass

    def kill(engine: Engine) -> None:
        for callback in engine.callbacks:
            if isinstance(callback, Checkpoint):
                callback.wait()  # the thread that writes would survive the "kill"
        raise Killed

    settings: dict[str, Any] = {"keep": 3, "keep_every": 3}
    whole = fit(tmp_path / "whole", SCORES, **settings).store
    with pytest.raises(Killed):
        fit(tmp_path / "part", SCORES, On("step_end", killed_at, kill), **settings)
    newest = Store(tmp_path / "part").recover()
    saver = Checkpoint(Store(tmp_path / "part", 3), keep_every=3)
    resume = None if newest is None else Resume(load(newest))
    Engine([saver]).fit(Scored(SCORES), resume)
    assert steps(saver.store) == steps(whole)
    for name in ("best", "best-2", "best-3", "last"):
        assert (tmp_path / "part" / name).read_text() == (whole.folder / name).read_text()


def test_a_kept_epoch_waits_for_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest of those that found no room are written when there is some again."""
    scores = [float(i) for i in range(2 * MAX_UNWRITTEN_EPOCHS)]
    real = checkpoint.commit

    def full(folder: Path, state: Any, about: Any) -> None:
        raise SaveError(folder, OSError(28, "No space left on device"), 1000)

    def free(engine: Engine) -> None:
        monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", real)

    monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", full)
    room = On("step_end", BATCHES * (len(scores) - 1), free)
    saver = fit(tmp_path, scores, room, keep_every=1, on_error="continue")
    expected = [BATCHES * (i + 1) for i in range(len(scores))][-MAX_UNWRITTEN_EPOCHS - 1 :]
    assert steps(saver.store)[-MAX_UNWRITTEN_EPOCHS:] == expected[1:]
    assert int((tmp_path / "last").read_text()) == expected[-1]
    assert not saver.failed


def test_a_folder_of_another_name_is_left_alone(tmp_path: Path) -> None:
    """It may be a copy that somebody made by hand."""
    copy = tmp_path / "000000001 copy"
    copy.mkdir()
    (copy / "manifest.json").write_text("{}")
    fit(tmp_path, SCORES, keep=2)
    assert copy.is_dir()


RUN = (
    *("dataset=synthetic", "dataset.source.train_samples=200", "dataset.batch_size=60"),
    *("model=mlp", "model.hidden_sizes=[8]", "trainer.epochs=5", "callbacks=quiet"),
)


def test_a_checkpoint_is_chosen_by_its_name(dltrain: Callable[..., Any]) -> None:
    """Choose by rank, step and epoch, in evaluate and predict, and by the path of a pointer."""
    run = dltrain(*RUN, "checkpoints.keep=2", "checkpoints.every=1", "--json").json["run"]
    names = {"epoch:2": 6, "9": 9, "last": 15, "best-2": None, "epoch:5": 15}
    for name, step in names.items():
        outcome = dltrain("evaluate", run, f"checkpoint={name}", "--json")
        assert outcome.code == 0, outcome.err
        if step is not None:
            assert int(outcome.json["checkpoint"].partition(".")[0]) == step
    assert dltrain("predict", run, "split=test", "checkpoint=epoch:1", "--json").code == 0
    second = (Path(run) / "checkpoints" / "best-2").read_text()
    by_path = dltrain("evaluate", f"{run}/checkpoints/best-2", "--json")
    assert by_path.json["checkpoint"] == second
    absent = dltrain("evaluate", run, "checkpoint=epoch:9")
    assert absent.code == 3
    assert "best, last, best-2, " in absent.err
    assert "epoch:1, epoch:2" in absent.err
    wrong = dltrain("evaluate", run, "checkpoint=newest")
    assert (wrong.code, "a step such as 300" in wrong.err) == (2, True)


def test_a_fork_ranks_its_parents_best_too(dltrain: Callable[..., Any]) -> None:
    run = dltrain(*RUN, "checkpoints.keep=2", "--json").json["run"]
    outcome = dltrain("resume", run, "--fork", "trainer.epochs=7", "--json")
    assert outcome.code == 0, outcome.err
    store = Store(Path(outcome.json["run"]) / "checkpoints")
    assert store.ranked()[0].folder == store.pointed("best")
    results = json.loads((Path(outcome.json["run"]) / "results.json").read_text())
    assert results["best"]["step"] == store.ranked()[0].step
