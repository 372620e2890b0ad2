"""TAB on a terminal of bash, zsh and fish: the completed word reaches the command as meant."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import INSTALLED, SHELLS

from dltrain.commands.completion import SCRIPTS

SECONDS = 60.0  # that a shell may take for an answer
PREPARE = {"bash": "", "zsh": "autoload -Uz compinit; compinit -u -D; ", "fish": ""}
COMMAND = """#!/bin/sh
if [ "$1" = __complete ]; then exec "{python}" -m dltrain "$@"; fi
printf '%s\\n' "$@" > "{words}"
echo comp''leted
"""


class Terminal:
    """A shell on a terminal, with the completion of dltrain."""

    def __init__(self, shell: str, folder: Path) -> None:
        self.words = folder / "words"
        command = folder / "dltrain"
        command.write_text(COMMAND.format(python=sys.executable, words=self.words))
        command.chmod(0o755)
        script = folder / "script"
        script.write_text(SCRIPTS[shell])
        env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
        env |= {"TERM": "xterm", "COLUMNS": "200"}
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.execvpe(shell, [*SHELLS[shell], "-i"], env)
        self.type(f"{PREPARE[shell]}. {script}; echo rea''dy\r", until=b"ready\r")

    def type(self, keys: str, until: bytes) -> None:
        """Type keys, and wait until the terminal shows something new."""
        os.write(self.screen, keys.encode())
        end = time.monotonic() + SECONDS
        shown = b""
        while until not in shown:
            assert time.monotonic() < end, shown.decode(errors="replace")
            if select.select([self.screen], [], [], 0.1)[0]:
                shown += os.read(self.screen, 65536)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.screen)


@pytest.fixture
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(request.param, tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("terminal", INSTALLED, indirect=True)
def test_a_completed_list_reaches_the_command(terminal: Terminal) -> None:
    for before, after in (('"', ']"'), ("'", "]'"), ("", "\\]")):
        bracket = "[" if before else "\\["
        terminal.type(f"dltrain {before}regularization={bracket}l2,dropo\t", until=b"ut")
        terminal.type(f"{after}\r", until=b"completed")
        assert terminal.words.read_text() == "regularization=[l2,dropout]\n"


@pytest.mark.parametrize("terminal", INSTALLED, indirect=True)
def test_a_completed_key_and_option_reach_the_command(terminal: Terminal) -> None:
    terminal.type("dltrain optimizer.weight_de\t", until=b"cay=")
    terminal.type("0.1 dataset=image_f\t", until=b"older")
    terminal.type("\r", until=b"completed")
    assert terminal.words.read_text() == "optimizer.weight_decay=0.1\ndataset=image_folder\n"
