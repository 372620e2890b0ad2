"""Fixtures for every test: an empty folder to run in, and the command line as a function."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from outcome import Outcome

from dltrain.cli import main  # imports no torch, so what is set below still counts

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tiny networks: more threads only wait for each other
# until all is imported: the many objects that stay would be gone through again and again
gc.disable()
MEMORY = Path(
    "/dev/shm"
)  # a folder that a disk need not follow; a full one, or none, leaves the usual place
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
REAL_DATA = Path(os.environ["DLTRAIN_DATA"]) if "DLTRAIN_DATA" in os.environ else None


def pytest_collection_finish() -> None:
    """Keep the objects of modules out of garbage collection; they stay until the end."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape surrogates in what a test logged: xdist cannot send them to the main process."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder: what a test writes is gone after it, and a test never writes into the
    repository.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLTRAIN_DATA", str(tmp_path / "no-data"))


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    if REAL_DATA is None:
        pytest.skip("needs real data: set DLTRAIN_DATA to a folder with MNIST in it")
    monkeypatch.setenv("DLTRAIN_DATA", str(REAL_DATA))
    return REAL_DATA


@pytest.fixture
def save_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save however short an epoch is."""
    from dltrain.callbacks.checkpoint import Checkpoint

    monkeypatch.setattr(Checkpoint, "is_affordable", lambda self: True)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that kill no machine: they need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def dltrain(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process: `dltrain("model=mlp", "--json")`."""

    def run(*argv: str) -> Outcome:
        capfd.readouterr()
        code = main(list(argv))
        out, err = capfd.readouterr()
        flags = argv[: argv.index("--")] if "--" in argv else argv
        return Outcome(code, out, err, is_json="--json" in flags)

    return run
