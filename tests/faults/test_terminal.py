"""Runs that are killed and resumed on a terminal end as one in a pipe does, to the byte, whatever
is imported there.
"""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import Server
from states import differences, end_of, runs_in

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SHORT = ("callbacks.tensorboard=null", "callbacks.explain=null", "callbacks.progress.refresh=0.001")
SHORT += ("trainer.log_every=1", "trainer.save_every=4", "trainer.epochs=2")
LAKE = (
    "dataset=frozenlake",
    "dataset.batch_size=8",
    "dataset.per_epoch=80",
    "dataset.episodes=2",
    *SHORT,
)
POLE = (
    "dataset=cartpole",
    "dataset.batch_size=8",
    "dataset.per_epoch=80",
    "dataset.episodes=2",
    *SHORT,
)
RUNS = {
    "q learning": LAKE,
    "dqn": (*POLE, "model.hidden_sizes=[8]", "task.batch_size=8", "task.learning_starts=8"),
    "thawing": (
        "model=cnn",
        "dataset.batch_size=512",
        "freeze=[*0*]",
        "unfreeze_epoch=1",
        "regularization=[ema]",
        *SHORT,
    ),
}


@pytest.fixture
def terminal() -> Iterator[str]:
    """The device of a pseudo-terminal that somebody looks at."""
    reader, writer = pty.openpty()

    def look() -> None:
        try:
            while os.read(reader, 65536):
                pass
        except OSError:  # the last writer has gone
            return

    threading.Thread(target=look, daemon=True).start()
    yield os.ttyname(writer)
    os.close(writer)


@pytest.mark.parametrize("name", RUNS)
def test_killed_and_resumed_on_a_terminal(
    name: str, server: Server, terminal: str, tmp_path: Path
) -> None:
    """Killed before the first checkpoint, and after it."""
    code, output = server.run(tmp_path / "whole", *RUNS[name])
    assert code == 0, output
    whole = end_of(runs_in(tmp_path / "whole")[0])
    for step in (2, 5):
        cwd = tmp_path / str(step)
        killed = server.start(cwd, *RUNS[name], screen=terminal, aim="killed_with_bar", step=step)
        assert killed.wait() == -9
        (run,) = runs_in(cwd)
        resumed = server.start(
            cwd, "resume", str(run), screen=terminal, aim="killed_with_bar", step=-1
        )
        assert resumed.wait() == 0
        assert differences(run, whole) == ""
