"""What the command line says beside its overrides."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Options:
    """Flags, and the words after the verb that are no overrides (RUN, KEY, GROUP). `outcome` is what --json prints."""

    argv: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    json: bool = False
    debug: bool = False
    multirun: bool = False
    plot: bool = False
    fork: bool = False
    explain: bool = False
    data: bool = False
    config_dir: str | None = None
    out: str | None = None
    images: str | None = None
    samples: str | None = None
    tokens: str | None = None
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return shlex.join(["dltrain", *self.argv])
