"""Shared by the tests of faults: a server of forked commands, runs, and pictures to damage.

`DLTRAIN_FAULTS=full` (make faults) asks for the numbers of RELIABILITY.md, each a line on the
screen with `pytest -s`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fork_server import Server
from malformed import COUNTS, FULL, MEMORY, SECONDS
from PIL import Image
from states import SETTINGS, Whole, end_of, runs_in

from dltrain.cli import main
from dltrain.config import check
from dltrain.config.compose import compose
from dltrain.runs.folder import MANIFEST


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that need the server first, so that one of several workers starts it."""
    items.sort(key=lambda item: "server" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Return the results of an uninterrupted run with the settings of the interrupted ones."""
    cwd = tmp_path_factory.mktemp("whole")
    start = time.monotonic()
    code, output = server.run(cwd, *SETTINGS)
    assert code == 0, output
    return Whole(end_of(runs_in(cwd)[0]), time.monotonic() - start)


@pytest.fixture(scope="session")
def full() -> bool:
    return os.environ.get("DLTRAIN_FAULTS") == "full"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small images of two classes."""
    root = tmp_path_factory.mktemp("pictures")
    for index in range(60):
        folder = root / ("dark", "light")[index % 2]
        folder.mkdir(exist_ok=True)
        shade = 40 + 100 * (index % 2) + index
        picture = Image.new("L", (8, 8), shade)
        picture.putpixel((index % 8, index // 8), 255 - shade)
        picture.save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def everything_is_imported() -> None:
    """Import everything first: what torch does while it is imported is no target's doing."""
    importlib.import_module("torchvision")
    for verb in ("check", "evaluate", "resume", "predict"):
        importlib.import_module(f"dltrain.commands.{verb}")
    check.raise_all(compose([]))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run, as far as its configuration."""
    folder = tmp_path / "outputs" / "2026-01-01" / "00-00-00-000000_run"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}", encoding="utf-8")
    (tmp_path / "victim").touch()
    return folder


@pytest.fixture(scope="module")
def figures() -> Any:
    """Print the numbers of malformed inputs that the tests of a file covered."""
    yield
    if FULL:
        for what, count in COUNTS.items():
            print(f"\n{what}: {count} dealt with as they should be", end="")
    COUNTS.clear()


@pytest.fixture
def refused(dltrain: Callable[..., Any]) -> Callable[..., Any]:
    """Run a command that must exit with 3 (or `codes`) in at most `lines` lines, soon."""

    def run(what: str, *argv: str, lines: int = 2, codes: tuple[int, ...] = (3,)) -> Any:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        outcome = dltrain(*argv)
        took = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert outcome.code in codes, f"{what}: exit {outcome.code}\n{outcome.err}"
        assert "Traceback" not in outcome.err, what
        assert "unexpected failure" not in outcome.err, what
        assert len(outcome.err.strip().splitlines()) <= lines, f"{what}\n{outcome.err}"
        assert max(map(len, outcome.err.splitlines()), default=0) < 1000, f"{what}\n{outcome.err}"
        assert took < SECONDS, f"{what}: {took:.1f} s"
        assert used < MEMORY, f"{what}: {used} KiB"
        return outcome

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two checkpoints, of a few kilobytes."""
    root = tmp_path_factory.mktemp("trained")
    with contextlib.redirect_stdout(io.StringIO()):
        argv = [
            "dataset=gates",
            "callbacks=quiet",
            f"paths.output={root}",
            "trainer.epochs=2",
            "trainer.save_every=1ep",
        ]
        assert main(argv) == 0
    (run,) = root.glob("*/*")
    assert len(list((run / "checkpoints").glob("[0-9]*"))) == 2
    (run / "results.json").unlink()  # as if it had been killed at its last step
    return run
