"""A run's folder: made once, cut back; names stay inside their root."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from dltrain.errors import InputError, UsageError
from dltrain.runs import folder as run
from dltrain.runs.folder import CONFIG, METRICS, RunFolder, clean


def created(root: Path, label: str) -> Path:
    """A new run's folder, unlocked again."""
    with RunFolder.create(root, label, {CONFIG: b"{}"}).locked() as made:
        return made.folder


def test_no_two_runs_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 threads ask at once, on a clock that mostly stands still: 20 folders."""
    from datetime import datetime

    class Clock(datetime):
        ticks = 0

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            cls.ticks += 1
            return datetime(2030, 1, 2, 3, 4, 5, cls.ticks // 40)

    monkeypatch.setattr(run, "datetime", Clock)
    made: list[Path] = []
    barrier = threading.Barrier(20)

    def make() -> None:
        barrier.wait()
        made.append(created(tmp_path / "outputs", "cnn_mnist"))

    threads = [threading.Thread(target=make) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 20
    assert all(
        folder.is_dir() and folder.parent == tmp_path / "outputs" / "2030-01-02" for folder in made
    )
    assert all(
        folder.name.startswith("03-04-05-") and folder.name.endswith("_cnn_mnist")
        for folder in made
    )


@pytest.mark.parametrize("kind", ["file", "dangling link", "link to a folder"])
def test_an_impossible_output_root(kind: str, tmp_path: Path) -> None:
    """A root that cannot hold folders is named in the error; a link to a folder is a folder."""
    root = tmp_path / "outputs"
    if kind == "file":
        root.write_text("")
    elif kind == "dangling link":
        root.symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / "real").mkdir()
        root.symlink_to(tmp_path / "real")
        assert created(root, "x").is_dir()
        return
    with pytest.raises(UsageError, match=r"paths\.output=.*cannot be made"):
        created(root, "x")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cnn_mnist", "cnn_mnist"),
        ("a/b", "a-b"),
        ("../../etc", "etc"),
        ("..", "run"),
        ("", "run"),
        ("/", "run"),
        ("lr=0.1,x y", "lr-0.1-x-y"),
        ("..\\..\\x", "x"),
        ("a\nb\0c", "a-b-c"),
        ("über", "ber"),
    ],
)
def test_labels_cannot_leave_the_root(label: str, name: str, tmp_path: Path) -> None:
    """Whatever a run is called, its folder is two below the root."""
    assert clean(label) == name
    folder = created(tmp_path / "outputs", label)
    assert folder.resolve().parent.parent == tmp_path / "outputs"
    assert "=" not in folder.name


@pytest.mark.parametrize(("step", "left"), [(0, 0), (9, 0), (10, 2), (25, 3), (99, 4)])
def test_cut_back(step: int, left: int, tmp_path: Path) -> None:
    """Lines of later steps go, the others stay as they were, byte for byte."""
    made = RunFolder(tmp_path)
    for record in (
        {"step": 10, "train/loss": 0.1},
        {"step": 10, "val/loss": None},
        {"step": 20},
        {"step": 30, "ä": 1},
    ):
        made.append(METRICS, record)
    lines = (tmp_path / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
    made.cut_back(METRICS, step)
    assert (tmp_path / METRICS).read_text(encoding="utf-8") == "".join(lines[:left])
    made.cut_back("absent.jsonl", step)
    assert not (tmp_path / "absent.jsonl").exists()


def test_cut_back_drops_a_line_that_was_never_finished(tmp_path: Path) -> None:
    """A run killed while it wrote a line leaves half of it: it is not a record."""
    made = RunFolder(tmp_path)
    made.append(METRICS, {"step": 10})
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 20, "trai')
    made.cut_back(METRICS, 30)
    assert (tmp_path / METRICS).read_text() == '{"step": 10}\n'


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    """Writing leaves no other file; what is absent reads as empty, what is broken is named."""
    made = RunFolder(tmp_path)
    assert made.read_json("results.json") == {}
    made.write_json("results.json", {"status": "completed", "path": Path("x")})
    assert made.read_json("results.json") == {"status": "completed", "path": "x"}
    assert [path.name for path in tmp_path.iterdir() if path.name != "no-data"] == ["results.json"]
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match=r"results\.json is not JSON"):
        made.read_json("results.json")


def test_appended_lines_are_json(tmp_path: Path) -> None:
    """One object a line."""
    made = RunFolder(tmp_path)
    for i in range(3):
        made.append(METRICS, {"step": i})
    assert [json.loads(line)["step"] for line in (tmp_path / METRICS).read_text().splitlines()] == [
        0,
        1,
        2,
    ]


def test_a_run_folder_appears_with_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's folder never lacks a configuration under its own name.

    Unfinished folders of failures and of killed processes are removed.
    """
    seen: list[list[str]] = []
    rename = Path.rename
    monkeypatch.setattr(
        Path,
        "rename",
        lambda s, t: (seen.append(sorted(p.name for p in s.iterdir())), rename(s, t))[1],
    )
    folder = created(tmp_path / "outputs", "x")
    assert seen == [[".lock", ".lock-owner", CONFIG]]
    assert (folder / CONFIG).read_bytes() == b"{}"
    left = folder.with_name(f".tmp-x-{socket.gethostname()}-{2**22 + 7}")
    left.mkdir()
    monkeypatch.setattr(run, "write_through", broken)
    with pytest.raises(UsageError, match="cannot be made there \\(No space"):
        created(tmp_path / "outputs", "y")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert [path.parent.name for path in tmp_path.glob("outputs/*/*/config.yaml")] == [folder.name]


def broken(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_that_is_there_is_not_taken(tmp_path: Path) -> None:
    """A job of a sweep has a folder of a given name: not even an empty folder is used."""
    (tmp_path / "0").mkdir()
    with pytest.raises(FileExistsError):
        RunFolder.make(tmp_path / "0", {})
    assert list((tmp_path / "0").iterdir()) == []


def test_lines_wait_for_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is reported once; with room again every line is there, in order."""
    made = RunFolder(tmp_path)
    made.append(METRICS, {"step": 0})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *a, **k: FullFile(self))
        for step in (1, 2):
            made.append(METRICS, {"step": step})
    assert (tmp_path / METRICS).read_text() == '{"step": 0}\n'
    made.append(METRICS, {"step": 3})
    assert [json.loads(line)["step"] for line in (tmp_path / METRICS).read_text().splitlines()] == [
        0,
        1,
        2,
        3,
    ]
    assert caplog.text.count("No space left on device") == 1


class FullFile:
    """A file on a disk that has room for three bytes more."""

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, 0
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.file)

    def seek(self, offset: int, whence: int) -> int:
        return self.path.stat().st_size

    def write(self, content: bytes) -> int:
        if self.written:
            raise OSError(28, "No space left on device")
        self.written = os.write(self.file, content[:3])
        return self.written

    def truncate(self, end: int) -> None:
        os.ftruncate(self.file, end)
