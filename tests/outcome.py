"""The outcome of a command: its return value and its output."""

from __future__ import annotations

import json
from typing import Any


class Outcome:
    """The return value and the output of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        outcome: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return outcome
