"""Fixtures of tests with several processes: one follower that serves every run of a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import free_port

from dltrain.experiment.processes import TorchrunGroup

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def torchrun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Be process 0 of two, as torchrun starts them; the other serves all runs of the module."""
    environment = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    folder = tmp_path_factory.mktemp("follower")
    own = {**os.environ, **environment, "PYTHONPATH": str(ROOT), "RANK": "1", "LOCAL_RANK": "1"}
    with (folder / "messages").open("w") as messages:
        follower = subprocess.Popen(
            [sys.executable, "-m", "dltrain"], env=own, stdout=messages, stderr=messages, cwd=folder
        )
        os.environ |= {**environment, "RANK": "0", "LOCAL_RANK": "0"}
        try:
            yield
            if TorchrunGroup.group is not None:
                TorchrunGroup.leave()
            assert follower.wait(30) == 0, (folder / "messages").read_text()
        finally:
            for name in (*environment, "RANK", "LOCAL_RANK"):
                os.environ.pop(name, None)
            follower.kill()
