"""Checkpoints with any change are found before they are loaded; the one before is used."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from dltrain.cli import main
from dltrain.errors import InputError
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import GENERATORS, MANIFEST, STATE, WEIGHTS, Store
from dltrain.runs.folder import CHECKPOINTS, RESULTS

FILES = (WEIGHTS, STATE, GENERATORS, MANIFEST)
OTHER = (
    "dataset=digits",
    "dataset.batch_size=256",
    "model=mlp",
    "callbacks.tensorboard=null",
    "trainer.epochs=2",
)
Damage = Callable[[Path, random.Random], None]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def not_for_ever() -> Iterator[None]:
    """Let what hangs, as reading from a FIFO may, fail."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its second epoch, and another in "other"."""
    root = tmp_path_factory.mktemp("trained")
    for name, seed in (("run", 0), ("other", 1)):
        words = [
            *OTHER,
            f"seed={seed}",
            f"name={name}",
            f"paths.output={root / name}",
            "trainer.save_every=2",
        ]
        assert main(words) == 0
        (run,) = root.glob(f"{name}/*/*")
        (run / RESULTS).unlink()
        run.rename(root / f"{name}-folder")
    return root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "run-folder", tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def zero(path: Path, draw: random.Random) -> None:
    """A page of zeros where there were none, as an unfinished write leaves."""
    content = bytearray(path.read_bytes())
    before = bytes(content)
    while bytes(content) == before:
        size = min(draw.choice((512, 4096)), len(content))
        start = draw.randrange(0, len(content) - size + 1)
        content[start : start + size] = bytes(size)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "quick", "wanted"), [(flip, 60, 1000), (truncate, 30, 500), (zero, 20, 300)]
)
def test_changed_bytes(
    damage: Damage, quick: int, wanted: int, run: Path, full: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Every file of the newest checkpoint is changed in turn; a resume uses the one before."""
    draw = random.Random(8)
    store = Store(run / CHECKPOINTS)
    *_, before, newest = store.steps()
    whole = {name: (newest / name).read_bytes() for name in FILES}
    count, failed = wanted if full else quick, []
    for number in range(count):
        name = FILES[number % len(FILES)]
        damage(newest / name, draw)
        what = f"{damage.__name__} {number} of {name}"
        try:
            checkpoint.load(newest)
            failed.append(f"{what}: loaded")
        except InputError:
            pass
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dltrain"):
            found = store.recover()
        if found != before:
            failed.append(f"{what}: continued from {found}")
        if newest.name not in caplog.text or before.name not in caplog.text:
            failed.append(f"{what}: nothing said: {caplog.text}")
        aside = newest.with_name(f"damaged-{newest.name}")
        if newest.exists() or not aside.exists():
            failed.append(f"{what}: it was not set aside")
        (aside if aside.exists() else newest).rename(newest)
        (newest / name).write_bytes(whole[name])
    assert checkpoint.load(newest)
    print(f"{damage.__name__}, in all files of a checkpoint: {count}: {len(failed)} failed")
    assert not failed, "\n".join(failed[:20])


def folder_instead(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo_instead(path: Path, other: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def text_instead(path: Path, other: Path) -> None:
    path.write_text("not what it was\n")


def other_runs_instead(path: Path, other: Path) -> None:
    shutil.copyfile(sorted((other / CHECKPOINTS).glob("0*"))[-1] / path.name, path)


def empty_instead(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def nothing_instead(path: Path, other: Path) -> None:
    path.unlink()


def dangling_instead(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


KINDS = (
    folder_instead,
    fifo_instead,
    text_instead,
    other_runs_instead,
    empty_instead,
    nothing_instead,
    dangling_instead,
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_another_kind_of_file(
    kind: Callable[[Path, Path], None],
    name: str,
    run: Path,
    trained: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store(run / CHECKPOINTS)
    *_, before, newest = store.steps()
    signal.alarm(20)
    kind(newest / name, trained / "other-folder")
    if kind is other_runs_instead and name == MANIFEST:
        assert checkpoint.read_manifest(newest), (
            "it is whole in itself: only the files' hashes are other ones"
        )
    with pytest.raises(InputError, match=newest.name):
        checkpoint.load(newest)
    with caplog.at_level(logging.WARNING, "dltrain"):
        assert store.recover() == before
    assert newest.name in caplog.text
    assert (newest.with_name(f"damaged-{newest.name}")).exists()


def test_a_damaged_checkpoint_is_passed_over_by_resume(run: Path, dltrain) -> None:
    """With a line on the file and its fault, and one on where it continues."""
    *_, before, newest = Store(run / CHECKPOINTS).steps()
    flip(newest / WEIGHTS, random.Random(1))
    outcome = dltrain("resume", str(run))
    assert outcome.code == 0, outcome.err
    lines = (outcome.out + outcome.err).splitlines()
    assert any(str(newest / WEIGHTS) in line and "damaged" in line for line in lines)
    assert any("falling back" in line and before.name in line for line in lines)
    assert f"resuming at step {int(before.name.split('.')[0])}" in outcome.out


@pytest.mark.parametrize("verb", ["resume", "evaluate", "predict"])
@pytest.mark.parametrize(
    "kind", [flip, truncate, fifo_instead, nothing_instead], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_one_that_was_named_is_refused(
    kind: Callable[..., None], name: str, verb: str, run: Path, tmp_path: Path, dltrain
) -> None:
    """Exit 3, and the file is said: whoever names a checkpoint does not mean another."""
    from PIL import Image

    newest = Store(run / CHECKPOINTS).steps()[-1]
    kind(newest / name, random.Random(1))
    picture = tmp_path / "picture.png"
    Image.new("L", (8, 8)).save(picture)
    signal.alarm(30)
    outcome = dltrain(verb, str(newest), *([str(picture)] if verb == "predict" else []))
    assert outcome.code == 3, outcome.out + outcome.err
    assert newest.name in outcome.err
    assert len(outcome.err.splitlines()) <= 2
