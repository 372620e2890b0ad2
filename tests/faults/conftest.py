"""What the tests of faults share: one server of forked commands, and how much is asked of them.

`DLTRAIN_FAULTS=full` (make faults) asks for the numbers of RELIABILITY.md, each a line on the screen with `pytest -s`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import Server
from PIL import Image
from states import SETTINGS, Whole, end_of, runs_in


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that need the server come first: of several workers, which each begin with a part of all, one starts it."""
    items.sort(key=lambda item: "server" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What a run with the settings that are interrupted everywhere comes to, if it is not."""
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
