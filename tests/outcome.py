"""The outcome of a command: its return value and its output."""

from __future__ import annotations

import json
from typing import Any


class Outcome:
    """The return value and the output of a command.

    `stdout` and `stderr` are what it wrote there. `out` are its messages, which are on standard
    output, or under --json on standard error; `err` is standard error.
    """

    def __init__(self, code: int, stdout: str, stderr: str, is_json: bool = False) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        self.out = stderr if is_json else stdout
        self.err = stderr

    @property
    def json(self) -> dict[str, Any]:
        """The outcome of --json, which is all of the standard output."""
        outcome: dict[str, Any] = json.loads(self.stdout)
        assert len(self.stdout.splitlines()) == 1
        return outcome
