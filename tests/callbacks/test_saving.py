"""Saving while a run continues: the best state, errors in the background, full disks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import Counting

from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.engine import Callback, Engine
from dltrain.errors import DltrainError, SaveError
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, load
from dltrain.types import Interval

pytestmark = pytest.mark.usefixtures("quick_disk")


def test_a_stage_that_is_trained_longer_saves_its_end_again(tmp_path: Path) -> None:
    """The end state of the first training of a stage does not stand for that of the second."""
    for epochs in (1, 3):
        Engine([Checkpoint(Store(tmp_path))]).fit(Counting((epochs, 4, None)))
    assert Store(tmp_path).stage_ends()[0]["step"] == 12


@pytest.mark.parametrize("event", ["wait", "save", "run_end"])
def test_a_write_error_in_the_background_surfaces(
    event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the writing thread is raised in the training thread, once."""

    engine = Engine([saver := Checkpoint(Store(tmp_path))])
    engine.fit(Counting((1, 2, None)))
    monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", full)
    engine.step += 1
    saver.save(engine)
    act = {
        "wait": saver.wait,
        "save": lambda: saver.save(engine),
        "run_end": lambda: saver.run_end(engine),
    }[event]
    with pytest.raises(SaveError, match="No space left"):
        act()
    saver.wait()


def full(folder: Path, state: Any, about: Any) -> None:
    raise SaveError(folder, OSError(28, "No space left on device"), 1000)


class At(Callback):
    """Calls `act` after step `step`."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def step_end(self, engine: Engine) -> None:
        if engine.step == self.step:
            self.act()


def test_a_full_disk_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be written from step 3 to 9: one line, the checkpoint before stays, and the end
    of the first stage and
    the best state are written when there is room again."""
    caplog.set_level("INFO", "dltrain")
    saver = Checkpoint(Store(tmp_path), every=Interval(steps=1), on_error="continue")
    real = checkpoint.commit

    def fill() -> None:
        saver.wait()
        monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", full)

    def free() -> None:
        saver.wait()
        assert [int(folder.name) for folder in saver.store.steps()] == [1, 2]
        assert saver.failed
        monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", real)

    Engine([At(3, fill), At(9, free), saver]).fit(Counting((3, 2, 1), (3, 2, 1)))
    assert caplog.text.count("cannot be saved: No space left on device; it needs 1,000 bytes") == 1
    assert caplog.text.count("saving works again") == 1
    assert not saver.failed
    saver.require_complete()
    store = Store(tmp_path)
    assert [int(folder.name.partition(".")[0]) for folder in store.steps()][-1] == 12
    assert {index: end["step"] for index, end in store.stage_ends().items()} == {0: 6, 1: 12}
    best = store.read("best")
    assert best is not None
    assert best[1]["step"] == saver.best["step"] == 12


def test_a_disk_that_stays_full_is_said_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends, its best state is in memory for the test, and the loss of the rest is
    an error.
    """
    monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", full)
    saver = Checkpoint(Store(tmp_path), on_error="continue")
    Engine([saver]).fit(Counting((2, 2, 1)))
    state = saver.best_state()
    assert state is not None
    assert state["step"] == 4
    with pytest.raises(DltrainError, match="the last state of the run could not be saved"):
        saver.require_complete()
    with pytest.raises(SaveError):
        Engine([Checkpoint(Store(tmp_path))]).fit(Counting((1, 2, None)))


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        (Interval(steps=3), [3, 6, 9, 12, 15, 15]),
        (Interval(epochs=2), [10, 15]),
        (Interval(seconds=0.0), [*range(1, 16), 15]),
        (Interval(seconds=1e6), [15]),
    ],
)
def test_save_every(
    every: Interval, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps, epochs or seconds; the end is always saved, and no state twice."""
    monkeypatch.setattr("dltrain.callbacks.checkpoint.KEEP", 100)
    Engine([Checkpoint(Store(tmp_path), every)]).fit(Counting((3, 5, None)))
    assert [int(folder.name.partition(".")[0]) for folder in Store(tmp_path).steps()] == steps
    states = [load(folder) for folder in Store(tmp_path).steps()]
    assert len({(s["step"], s["epoch"], s["position"], s["settled"]) for s in states}) == len(
        states
    )


def test_an_evaluation_is_in_the_checkpoint_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume continues at the next step: what is evaluated at a step has to be saved with it."""
    monkeypatch.setattr("dltrain.callbacks.checkpoint.KEEP", 100)
    every = EvaluateEvery(2)
    saver = Checkpoint(Store(tmp_path), Interval(steps=2))
    monkeypatch.setattr(
        Checkpoint, "save_or_hold", lambda self, engine, is_due: None
    )  # what is asked for counts alone
    Engine([every, saver]).fit(Counting((1, 5, 1)))
    best = [
        load(folder)["callbacks"]["checkpoint"]["best"]["step"]
        for folder in Store(tmp_path).steps()
    ]
    assert best == [2, 4, 5]


def test_the_best_is_pointed_at_before_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, a resume starts from the older `last`; its `best` is then found
    again, not forgotten.
    """
    pointed: list[str] = []
    point = Store.point
    monkeypatch.setattr(
        Store, "point", lambda self, p, name: (pointed.append(p), point(self, p, name))
    )
    Engine([Checkpoint(Store(tmp_path))]).fit(Counting((1, 2, 1)))
    assert pointed == ["best", "last"]


def test_a_held_state_does_not_take_the_name_of_a_later_one_of_its_step(tmp_path: Path) -> None:
    """The last step is evaluated, an incomplete accumulation window then changes the weights, and
    both are saved.
    """
    saver = Checkpoint(Store(tmp_path))

    class Hold(Callback):
        def step_end(self, engine: Engine) -> None:
            if engine.step == 2:
                saver.improved = True
                saver.save_or_hold(engine, is_due=False)

    Engine([saver, Hold()]).fit(Counting((1, 2, None)))
    found = [Store(tmp_path).read(pointer) for pointer in ("best", "last")]
    places = [(state["step"], state["settled"]) for _, state in filter(None, found)]
    assert places == [(2, False), (2, True)]


@pytest.mark.usefixtures("save_every_epoch")
def test_saving_continues_beside_the_training(tmp_path: Path) -> None:
    """Checkpoints of a whole run: the newest two, all of them whole."""
    Engine([Checkpoint(Store(tmp_path))]).fit(Counting((5, 2, None)))
    steps = Store(tmp_path).steps()
    assert [int(folder.name) for folder in steps] == [8, 10]
    assert [load(folder)["step"] for folder in steps] == [8, 10]
