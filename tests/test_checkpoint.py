"""Checkpoints: whole or not there, verified, never overwritten, pruned but for the best."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import Counting

from dltrain import checkpoint
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.checkpoint import MANIFEST, STATE, WEIGHTS, Store, commit, load, snapshot
from dltrain.engine import Engine
from dltrain.errors import InputError


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests kill no machine: they need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Odd(nn.Module):
    """Channels-last kernels, a tied weight, a buffer without dimensions, and state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.tensor(7))
        self.words: list[str] = []

    def get_extra_state(self) -> dict[str, Any]:
        return {"words": self.words}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.words = state["words"]


def write(folder: Path, step: int = 0) -> Path:
    commit(folder, snapshot({"task": nn.Linear(3, 2).state_dict(), "step": step}), {"step": step})
    return folder


def test_round_trip(tmp_path: Path) -> None:
    """What was saved comes back to the last bit, in any memory format, and other state beside it."""
    net = Odd()
    net.words = ["the", "cat"]
    rest = {"list": [1, None, {"t": torch.arange(3.0)}], "nan": float("nan"), "text": "ä"}
    commit(tmp_path / "c", snapshot({"task": net.state_dict(), **rest}), {"step": 5})
    state = load(tmp_path / "c")
    again = Odd()
    again.load_state_dict(state["task"])
    assert again.words == ["the", "cat"]
    assert again.second.weight is again.first.weight
    assert again.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for name, value in net.state_dict().items():
        assert isinstance(value, dict) or torch.equal(value, again.state_dict()[name]), name
    assert torch.equal(state["list"][2].pop("t"), torch.arange(3.0))
    assert state["list"] == [1, None, {}]
    assert state["text"] == "ä"
    assert json.loads((tmp_path / "c" / MANIFEST).read_text())["step"] == 5


def test_a_snapshot_does_not_follow_the_training() -> None:
    """What is written in the background is what was there when the saving began."""
    net = nn.Linear(2, 2)
    copy = snapshot({"task": net.state_dict(), "nested": [(net.weight,)]})
    before = copy["task"]["weight"].clone()
    with torch.no_grad():
        net.weight.zero_()
    assert torch.equal(copy["task"]["weight"], before)
    assert torch.equal(copy["nested"][0][0], before)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit in the weights": (lambda f: flip(f / WEIGHTS, -1), "task.safetensors is damaged"),
    "a flipped bit in a header": (lambda f: flip(f / WEIGHTS, 9), "task.safetensors is damaged"),
    "a flipped bit in the state": (lambda f: flip(f / STATE, 200), "state.pt is damaged"),
    "truncated weights": (lambda f: os.truncate(f / WEIGHTS, 20), "task.safetensors is damaged"),
    "an empty state": (lambda f: os.truncate(f / STATE, 0), "state.pt is damaged"),
    "a truncated manifest": (lambda f: os.truncate(f / MANIFEST, 40), "not a whole checkpoint"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "not a whole checkpoint"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "not a whole checkpoint"),
    "a manifest of something else": (lambda f: (f / MANIFEST).write_text("[1]"), "not a whole checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(damage: str, tmp_path: Path) -> None:
    """Whatever happened to a checkpoint's files, it is refused by name and never half loaded."""
    folder = write(tmp_path / "000000001")
    load(folder)
    act, message = DAMAGE[damage]
    act(folder)
    with pytest.raises(InputError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_no_code_is_run_by_loading(tmp_path: Path) -> None:
    """A state that asks for a class to be called is refused, even with a manifest that fits it."""

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    commit(tmp_path / "c", {"task": {}, "evil": Evil()}, {})
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load(tmp_path / "c")
    assert not (tmp_path / "ran").exists()


def test_unfinished_folders_are_not_checkpoints(tmp_path: Path) -> None:
    """Temporary names, folders without a manifest and stage ends are not among the steps."""
    store = Store(tmp_path)
    assert store.steps() == []
    assert store.pointed("last") is None
    whole = write(tmp_path / "000000002")
    (tmp_path / "000000009").mkdir()
    write(tmp_path / "000000008").rename(tmp_path / ".tmp-000000008-123")
    write(store.stage_end(0, 2))
    assert store.steps() == [whole]
    assert store.pointed("last") == whole


@pytest.mark.parametrize("failing", [WEIGHTS, STATE, MANIFEST, "rename"])
def test_a_failed_commit_leaves_nothing(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at any file, or at the rename, leaves no folder behind, whole or temporary."""
    write_through, rename = checkpoint.write_through, Path.rename

    def writes(path: Path, content: bytes) -> None:
        if path.name == failing:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        write_through(path, content)

    def renames(self: Path, target: Path) -> Path:
        if failing == "rename":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(checkpoint, "write_through", writes)
    monkeypatch.setattr(Path, "rename", renames)
    with pytest.raises(OSError, match=r"No space|Input/output"):
        write(tmp_path / "c" / "000000001")
    assert list((tmp_path / "c").iterdir()) == []


def test_the_manifest_is_written_last_and_the_rename_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is on the disk before the manifest, and all of them, and the folder, before the name appears."""
    order: list[str] = []
    write_through, sync, rename = checkpoint.write_through, checkpoint.sync_directory, Path.rename
    monkeypatch.setattr(checkpoint, "write_through", lambda p, c: (order.append(p.name), write_through(p, c)))
    monkeypatch.setattr(checkpoint, "sync_directory", lambda f: (order.append(f"sync {f.name[:4]}"), sync(f)))
    monkeypatch.setattr(Path, "rename", lambda s, t: (order.append("rename"), rename(s, t)))
    (tmp_path / "home").mkdir()
    write(tmp_path / "home" / "c")
    assert order == [WEIGHTS, STATE, MANIFEST, "sync .tmp", "rename", "sync home"]


def test_a_committed_folder_is_never_overwritten(tmp_path: Path) -> None:
    """Committing over a checkpoint fails and leaves it as it was; `new_name` finds a free name, later in order."""
    folder = write(tmp_path / "000000004", step=4)
    content = (folder / STATE).read_bytes()
    with pytest.raises(OSError, match=r"not empty|exists"):
        write(folder, step=5)
    assert (folder / STATE).read_bytes() == content
    store, made = Store(tmp_path), [folder]
    for expected in ("000000004.1", "000000004.2"):
        assert store.new_name(4) == expected
        made.append(write(tmp_path / store.new_name(4)))
    assert store.new_name(5) == "000000005"
    assert store.steps() == made


def test_pointers(tmp_path: Path) -> None:
    """Pointers name a committed folder beside them; `last` falls back on the newest, `best` on nothing."""
    store = Store(tmp_path)
    first, second = write(tmp_path / "000000001"), write(tmp_path / "000000002")
    assert (store.pointed("last"), store.pointed("best")) == (second, None)
    store.point("last", first.name)
    store.point("best", second.name)
    assert (store.pointed("last"), store.pointed("best")) == (first, second)
    for wrong in ("000000077", "../000000001", ".", ""):
        store.point("best", wrong)
        assert store.pointed("best") is None, wrong
    store.point("last", "000000077")
    assert store.pointed("last") == second


@pytest.mark.parametrize(("best", "left"), [(1, [1, 4, 5]), (5, [4, 5]), (None, [4, 5])])
def test_prune_keeps_the_newest_and_the_best(best: int | None, left: list[int], tmp_path: Path) -> None:
    """Older checkpoints go, but not the best one, nor the ends of stages."""
    store = Store(tmp_path)
    for step in range(1, 6):
        write(tmp_path / store.new_name(step))
    write(store.stage_end(0, 3))
    if best:
        store.point("best", store.folder.joinpath(f"{best:09d}").name)
    store.prune(2)
    assert [int(folder.name) for folder in store.steps()] == left
    assert list(store.stage_ends()) == [0]


def test_of_a_stage_that_went_on_after_its_end_the_later_end_counts(tmp_path: Path) -> None:
    """A run that was extended ends its stage again; a resume passes the stage with the later state."""
    store = Store(tmp_path)
    for index, step in [(0, 90), (0, 200), (1, 300), (10, 1000)]:
        write(store.stage_end(index, step), step)
    assert {index: state["step"] for index, state in store.stage_ends().items()} == {0: 200, 1: 300, 10: 1000}


def test_a_stage_that_is_trained_longer_saves_its_end_again(tmp_path: Path) -> None:
    """The end state of the first training of a stage does not stand for that of the second."""
    for epochs in (1, 3):
        Engine([Checkpoint(Store(tmp_path))]).fit(Counting((epochs, 4, None)))
    assert Store(tmp_path).stage_ends()[0]["step"] == 12


@pytest.mark.parametrize("event", ["wait", "save", "run_end"])
def test_a_write_error_in_the_background_surfaces(event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in the writing thread is raised in the training thread, once."""

    def full(folder: Path, state: Any, about: Any) -> None:
        raise OSError(28, "No space left on device")

    engine = Engine([saver := Checkpoint(Store(tmp_path))])
    engine.fit(Counting((1, 2, None)))
    monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", full)
    saver.save(engine)
    act = {"wait": saver.wait, "save": lambda: saver.save(engine), "run_end": lambda: saver.run_end(engine)}[event]
    with pytest.raises(OSError, match="No space left"):
        act()
    saver.wait()


def test_the_best_is_pointed_at_before_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two, a resume starts from the older `last`; its `best` is then found again, not forgotten."""
    pointed: list[str] = []
    point = Store.point
    monkeypatch.setattr(Store, "point", lambda self, p, name: (pointed.append(p), point(self, p, name)))
    Engine([Checkpoint(Store(tmp_path))]).fit(Counting((1, 2, 1)))
    assert pointed == ["best", "last"]


@pytest.mark.usefixtures("save_every_epoch")
def test_saving_goes_on_beside_the_training(tmp_path: Path) -> None:
    """Checkpoints of a whole run: the newest two, all of them whole."""
    Engine([Checkpoint(Store(tmp_path))]).fit(Counting((5, 2, None)))
    steps = Store(tmp_path).steps()
    assert [int(folder.name) for folder in steps] == [8, 10]
    assert [load(folder)["step"] for folder in steps] == [8, 10]
