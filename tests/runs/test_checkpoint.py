"""Checkpoints: whole or not there, verified, never overwritten, pruned but for the best."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.errors import InputError, SaveError
from dltrain.files import sweep, temporary_name
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import (
    GENERATORS,
    MANIFEST,
    STATE,
    WEIGHTS,
    Store,
    commit,
    load,
    read_manifest,
    sealed,
    snapshot,
)

pytestmark = pytest.mark.usefixtures("quick_disk")


class Odd(nn.Module):
    """A network with channels-last kernels, a tied weight, a scalar buffer, and other state."""

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


def write(folder: Path, step: int = 0, points: tuple[str, ...] = ()) -> Path:
    state = {
        "task": nn.Linear(3, 2).state_dict(),
        "step": step,
        "rng": {"torch": torch.get_rng_state()},
    }
    commit(folder, snapshot(state), {"step": step, "points": points})
    return folder


def test_round_trip(tmp_path: Path) -> None:
    """A loaded state equals the saved one to the last bit, in any memory format."""
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
    """A checkpoint written in the background holds the state when the saving began."""
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
    "a flipped bit in the weights": (
        lambda f: flip(f / WEIGHTS, -1),
        "task.safetensors is damaged",
    ),
    "a flipped bit in a header": (lambda f: flip(f / WEIGHTS, 9), "task.safetensors is damaged"),
    "a flipped bit in the state": (lambda f: flip(f / STATE, 200), "state.pt is damaged"),
    "truncated weights": (lambda f: os.truncate(f / WEIGHTS, 20), "task.safetensors is damaged"),
    "an empty state": (lambda f: os.truncate(f / STATE, 0), "state.pt is damaged"),
    "a flipped bit in the generators": (
        lambda f: flip(f / GENERATORS, 300),
        "rank-0.pt is damaged",
    ),
    "a flipped bit in the manifest": (
        lambda f: flip(f / MANIFEST, 40),
        "not a whole checkpoint|manifest.json is damaged",
    ),
    "another step in the manifest": (
        lambda f: (f / MANIFEST).write_text(
            (f / MANIFEST).read_text().replace('"step": 0', '"step": 7')
        ),
        "manifest.json is damaged",
    ),
    "a huge manifest": (
        lambda f: (f / MANIFEST).write_bytes(b" " * 2**21),
        "is not a checkpoint's manifest",
    ),
    "a truncated manifest": (lambda f: os.truncate(f / MANIFEST, 40), "not a whole checkpoint"),
    "no manifest": (
        lambda f: (f / MANIFEST).unlink(),
        "manifest.json is absent or not a regular file",
    ),
    "no weights": (
        lambda f: (f / WEIGHTS).unlink(),
        "task.safetensors is absent or not a regular file",
    ),
    "a manifest of something else": (
        lambda f: (f / MANIFEST).write_text("[1]"),
        "not a whole checkpoint",
    ),
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
    with pytest.raises(InputError, match=r"[Ww]eights.only"):
        load(tmp_path / "c")
    assert not (tmp_path / "ran").exists()


def reseal(folder: Path, name: str, content: bytes) -> None:
    """Put `content` into a checkpoint with a manifest that fits it, as an attacker would."""
    manifest = read_manifest(folder)
    (folder / name).write_bytes(content)
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_bytes(sealed(manifest))


def test_a_tensor_of_one_number_and_any_size_is_refused(tmp_path: Path) -> None:
    """A stride of 0 makes terabytes of four bytes: it is found before anything copies it."""
    folder = write(tmp_path / "c")
    buffer = io.BytesIO()
    torch.save({"task": {}, "step": torch.zeros(1).expand(10**6, 10**6)}, buffer)
    reseal(folder, STATE, buffer.getvalue())
    with pytest.raises(InputError, match=r"shape \(1000000, 1000000\) has not as many numbers"):
        load(folder)


def test_compressed_content_is_refused(tmp_path: Path) -> None:
    """A few bytes can unpack to any number of them; dltrain compresses nothing."""
    folder, squeezed = write(tmp_path / "c"), io.BytesIO()
    with (
        zipfile.ZipFile(folder / STATE) as plain,
        zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in plain.infolist():
            archive.writestr(entry.filename, plain.read(entry))
    reseal(folder, STATE, squeezed.getvalue())
    with pytest.raises(
        InputError, match=r"state\.pt is not a file of dltrain's: its content is compressed"
    ):
        load(folder)


def test_another_format_is_named(tmp_path: Path) -> None:
    """A checkpoint of another version of the format is not taken for a damaged one."""
    folder = write(tmp_path / "c")
    (folder / MANIFEST).write_bytes(sealed({**read_manifest(folder), "format": 1}))
    with pytest.raises(InputError, match="has format 1; this dltrain reads format 2"):
        load(folder)


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


@pytest.mark.parametrize("failing", [WEIGHTS, STATE, GENERATORS, MANIFEST, "rename"])
def test_a_failed_commit_leaves_nothing(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    with pytest.raises(
        SaveError,
        match=(
            r"000000001 cannot be saved: (No space|Input/output).*; "
            r"it needs [\d,]{5,} bytes, [\d,]+ bytes"
        ),
    ):
        write(tmp_path / "c" / "000000001")
    assert list((tmp_path / "c").iterdir()) == []


def test_the_manifest_is_written_last_and_the_rename_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are on the disk before the manifest, and all of it before the name appears."""
    order: list[str] = []
    write_through, sync, rename = checkpoint.write_through, checkpoint.sync_directory, Path.rename
    monkeypatch.setattr(
        checkpoint, "write_through", lambda p, c: (order.append(p.name), write_through(p, c))
    )
    monkeypatch.setattr(
        checkpoint, "sync_directory", lambda f: (order.append(f"sync {f.name[:4]}"), sync(f))
    )
    monkeypatch.setattr(Path, "rename", lambda s, t: (order.append("rename"), rename(s, t)))
    (tmp_path / "home").mkdir()
    write(tmp_path / "home" / "c")
    assert order == [WEIGHTS, STATE, GENERATORS, MANIFEST, "sync .tmp", "rename", "sync home"]


def test_a_committed_folder_is_never_overwritten(tmp_path: Path) -> None:
    """Committing over a checkpoint fails and changes nothing; `new_name` finds a free name."""
    folder = write(tmp_path / "000000004", step=4)
    content = (folder / STATE).read_bytes()
    with pytest.raises(SaveError, match=r"not empty|exists"):
        write(folder, step=5)
    assert (folder / STATE).read_bytes() == content
    store, made = Store(tmp_path), [folder]
    for expected in ("000000004.1", "000000004.2"):
        assert store.new_name(4) == expected
        made.append(write(tmp_path / store.new_name(4)))
    assert store.new_name(5) == "000000005"
    assert store.steps() == made


def test_pointers(tmp_path: Path) -> None:
    """Pointers name a committed folder; lost ones are restored from the manifests."""
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
    third = write(tmp_path / "000000003", points=("best", "last"))
    write(tmp_path / "000000004", points=("last",))
    assert store.pointed("best") == third


def test_sweeping_spares_the_living(tmp_path: Path) -> None:
    """Unfinished files of ended processes are removed; others are left alone.

    Those are files of live processes and of other machines.
    """
    gone = 2**22 + 7  # above the largest number of a process
    left = [
        tmp_path / f".{kind}-x-{socket.gethostname()}-{pid}"
        for kind in ("tmp", "old")
        for pid in (gone, os.getpid())
    ]
    kept = [
        tmp_path / f".tmp-x-{socket.gethostname()}-{os.getppid()}",
        tmp_path / f".tmp-x-elsewhere-{gone}",
    ]
    for folder in (*left, *kept):
        (folder / "inside").mkdir(parents=True)
    left.append(temporary_name(tmp_path / "last"))
    left[-1].write_text("a pointer")
    sweep(tmp_path)
    assert sorted(path for path in tmp_path.iterdir() if path.name.startswith(".")) == sorted(kept)


@pytest.mark.parametrize("damaged", [(), (3,), (2, 3), (1,), (1, 2)])
def test_recovering_falls_back_to_the_newest_whole_one(
    damaged: tuple[int, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged folders are set aside, unfinished files removed, pointers restored."""
    store = Store(tmp_path / "checkpoints")
    folders = {
        step: write(store.folder / f"{step:09d}", step, ("best", "last") if step < 3 else ("last",))
        for step in (1, 2, 3)
    }
    store.point("last", "000000001")  # killed before it was pointed at
    store.point("best", "000000001")
    (store.folder / f".tmp-x-{socket.gethostname()}-{os.getpid()}").mkdir()
    for step in damaged:
        flip(folders[step] / STATE, 100)
    whole = [step for step in (1, 2, 3) if step not in damaged]
    assert store.recover() == folders[whole[-1]]
    assert store.steps() == [folders[step] for step in whole]
    assert (store.folder / "last").read_text() == folders[whole[-1]].name
    best = [step for step in whole if step < 3]
    assert store.pointed("best") == (folders[best[-1]] if best else None)
    aside = sorted(
        path.name for path in store.folder.iterdir() if path.name.startswith((".", "damaged"))
    )
    assert aside == [f"damaged-{step:09d}" for step in damaged]
    assert [f"{folders[s] / STATE} is damaged" in caplog.text for s in (1, 2, 3)] == [
        s in damaged for s in (1, 2, 3)
    ]
    assert (f"falling back to the checkpoint before: {folders[whole[-1]].name}" in caplog.text) == (
        3 in damaged
    )


def test_recovering_when_all_are_damaged(tmp_path: Path) -> None:
    """Starting over in silence would lose the run: it is an error that names them."""
    flip(write(tmp_path / "000000001") / STATE, 100)
    with pytest.raises(InputError, match="every checkpoint is damaged \\(000000001\\)"):
        Store(tmp_path).recover()


def test_reading_while_a_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is removed while it is read is not damaged: the pointer is read again."""
    store = Store(tmp_path)
    first, second = write(tmp_path / "000000001", 1), write(tmp_path / "000000002", 2)
    store.point("last", first.name)
    real = checkpoint.load

    def racing(folder: Path) -> dict[str, Any]:
        if folder == first:
            store.point("last", second.name)
            store.remove(first)
        return real(folder)

    monkeypatch.setattr(checkpoint, "load", racing)
    found = store.read("last")
    assert found is not None
    assert (found[0], found[1]["step"]) == (second, 2)
    flip(second / STATE, 100)
    with pytest.raises(InputError, match="damaged"):
        store.read("last")
    assert Store(tmp_path / "none").read("last") is None


def test_what_is_removed_loses_its_name_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it deletes, a run leaves no half folder that looks like a checkpoint."""
    folder = write(tmp_path / "000000001")
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    Store(tmp_path).remove(folder)
    assert Store(tmp_path).steps() == []
    assert [path.name[:14] for path in tmp_path.iterdir() if path.name != "no-data"] == [
        ".old-000000001"
    ]


@pytest.mark.parametrize(("best", "left"), [(1, [1, 4, 5]), (5, [4, 5]), (None, [4, 5])])
def test_prune_keeps_the_newest_and_the_best(
    best: int | None, left: list[int], tmp_path: Path
) -> None:
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


def test_of_a_stage_that_continued_after_its_end_the_later_end_counts(tmp_path: Path) -> None:
    """An extended run ends its stage twice; a resume passes it with the later state."""
    store = Store(tmp_path)
    for index, step in [(0, 90), (0, 200), (1, 300), (10, 1000)]:
        write(store.stage_end(index, step), step)
    assert {index: state["step"] for index, state in store.stage_ends().items()} == {
        0: 200,
        1: 300,
        10: 1000,
    }
