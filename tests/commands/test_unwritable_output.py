"""Output that cannot be written ends in exit 2 and one line that names it, whatever command writes
it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from dltrain import files
from dltrain.errors import UsageError
from dltrain.files import replacing, writing
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import RunFolder
from dltrain.runs.lock import LOCK

SMALL = (
    "model=mlp",
    "model.hidden_sizes=[4]",
    "callbacks=quiet",
    "trainer.epochs=1",
    "trainer.steps=3",
)
READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dltrain.cli import main

    root = tmp_path_factory.mktemp("trained")
    assert main([*SMALL, f"paths.output={root}/outputs"]) == 0
    return next(root.glob("outputs/*/*"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "outputs" / "today" / trained.name))


@pytest.fixture
def read_only(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run on a file system that nothing can be written to: modes do not stop root, so opening
    is what fails.
    """
    real_open, real_access = Path.open, os.access

    def refuse_writing(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if path.absolute().is_relative_to(run.parents[1]) and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real_open(path, mode, *args, **kwargs)

    def refuse_unlinking(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def can(path: Any, mode: int) -> bool:
        return not (mode & os.W_OK and Path(path).is_relative_to(run.parents[1])) and real_access(
            path, mode
        )

    monkeypatch.setattr(Path, "open", refuse_writing)
    monkeypatch.setattr(Path, "unlink", refuse_unlinking)
    monkeypatch.setattr(os, "access", can)
    return run


def refused(outcome: Any, what: str, why: str = "Read-only file system") -> None:
    assert outcome.code == 2, outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert what in outcome.err
    assert why in outcome.err


def test_a_run_that_is_read_only_is_not_resumed(read_only: Path, dltrain) -> None:
    """Exit 2 with what to type, as training says it; the run is as it was."""
    before = sorted(path.name for path in read_only.rglob("*"))
    refused(dltrain("resume", str(read_only), "trainer.steps=6"), str(read_only))
    assert "--fork paths.output=FOLDER" in dltrain("resume", str(read_only), "trainer.steps=6").err
    assert sorted(path.name for path in read_only.rglob("*")) == before


def test_a_read_only_run_continues_as_a_fork_elsewhere(
    read_only: Path, dltrain, monkeypatch, tmp_path: Path
) -> None:
    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            os.unlink(path)  # noqa: PTH108 - Path.unlink is what refuses

    monkeypatch.setattr(Path, "unlink", unlink)
    outcome = dltrain(
        "resume",
        str(read_only),
        "--fork",
        "trainer.steps=6",
        "paths.output='else, where'",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["steps"] == 6
    assert Path(outcome.json["run"]).is_relative_to("else, where")


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_predictions_that_cannot_be_written_are_refused(
    name: str, read_only: Path, dltrain
) -> None:
    """Also where the temporary file cannot be removed, for it was never made."""
    out = read_only.parent / name
    refused(
        dltrain("predict", str(read_only), "split=test", "--out", str(out)),
        f"--out {out}: cannot be written",
    )


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("folder.csv", "is a folder"),
        ("absent/x.csv", "there is no folder absent"),
        ("/proc/x.csv", "cannot be written"),
        ("x.txt", "expected a name that ends in .csv"),
    ],
)
def test_an_impossible_place_is_refused(out: str, why: str, run: Path, dltrain) -> None:
    Path("folder.csv").mkdir()
    Path("file").touch()
    refused(dltrain("predict", str(run), "split=test", "--out", out), f"--out {out}", why)


def test_an_error_of_reading_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="the disk of the inputs"),
        replacing(tmp_path / "x.csv", "--out x.csv"),
    ):
        raise OSError(errno.EIO, "the disk of the inputs")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_and_old_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffered content reaches the disk when the file is closed, and that fails too."""
    path = tmp_path / "x.csv"
    path.write_text("before")

    class Full:
        """A file of which nothing reaches the disk."""

        def write(self, text: str) -> None: ...

        def close(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise READ_ONLY

    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: Full())
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UsageError) as raised, replacing(path, "--out x.csv") as file:
        file.write("after")
    assert str(raised.value) == "--out x.csv: cannot be written (No space left on device)"
    monkeypatch.undo()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("verb", [(), ("-m", "launcher=inline", "seed=1,2")], ids=str)
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x"])
def test_a_run_folder_that_cannot_be_made_is_refused(
    verb: tuple[str, ...], place: str, dltrain
) -> None:
    Path("file").touch()
    outcome = dltrain(*verb, *SMALL, f"paths.output={place}")
    assert outcome.code == 2
    assert f"paths.output={place}: a run folder cannot be made there" in outcome.err
    assert "paths.output=FOLDER names another place" in outcome.err


def test_a_batch_that_cannot_be_drawn_is_refused(dltrain) -> None:
    Path("file").touch()
    refused(
        dltrain("check", "--images", "file/x.png"),
        "--images file/x.png: cannot be written",
        "Not a directory",
    )
    refused(dltrain("check", "--images", "x.nothing"), "--images x.nothing", "images end in .png")


def test_a_sweep_continues_if_its_table_cannot_be_written(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise READ_ONLY

    monkeypatch.setattr("dltrain.sweeps.summary.csv_file.replace_file", refuse)
    outcome = dltrain("-m", "launcher=inline", *SMALL, "seed=1,2", "--json")
    assert outcome.code == 0, outcome.err
    assert [job["status"] for job in outcome.json["jobs"]] == ["completed", "completed"]
    assert outcome.out.count("results.csv cannot be written: Read-only file system") == 2


def test_a_job_whose_folder_cannot_be_made_has_that_as_its_reason(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = RunFolder.make

    def refuse_jobs(folder: Path, contents: dict[str, bytes]) -> RunFolder:
        if folder.name == "1":
            raise READ_ONLY
        return make(folder, contents)

    monkeypatch.setattr(RunFolder, "make", refuse_jobs)
    outcome = dltrain("-m", "launcher=inline", *SMALL, "seed=1,2", "--json")
    assert outcome.code == 1
    reasons = [job.get("reason", "") for job in outcome.json["jobs"]]
    assert reasons[0] == ""
    assert reasons[1].endswith("/1: cannot be written (Read-only file system)")


def test_a_resume_that_cannot_write_its_manifest_is_refused(
    run: Path, dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: Store, index: int) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Store, "forget_stage_ends", refuse)
    refused(dltrain("resume", str(run), "trainer.steps=6"), str(run), "Permission denied")
    assert (run / LOCK).exists()
    assert json.loads((run / "manifest.json").read_text())["config"]["trainer"]["steps"] == 6


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "manifest.json"])
def test_a_run_of_which_a_part_is_read_only_is_not_resumed(
    name: str, run: Path, dltrain, monkeypatch
) -> None:
    """It would fail after the training has begun."""
    can = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != name and can(path, mode)
    )
    refused(dltrain("resume", str(run), "trainer.steps=6"), str(run / name), "Permission denied")


def test_writing_names_what_and_what_to_do() -> None:
    with (
        pytest.raises(
            UsageError, match=r"^x: cannot be written \(Read-only file system\); type y$"
        ),
        writing("x", "type y"),
    ):
        raise READ_ONLY
    assert socket.gethostname() in files.temporary_name(Path("x")).name
