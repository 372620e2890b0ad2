"""The parsed command line: flags, the words after the verb, and overrides."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.errors import UsageError


@dataclass
class Options:
    """The flags and words of a command.

    `names` are the words after the verb that are not overrides (RUN, KEY, GROUP). `outcome` is what
    --json prints. `found_run` is the folder of the run that RUN means, where RUN is not that folder
    but `last` or a part of its name.
    """

    argv: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    json: bool = False
    debug: bool = False
    multirun: bool = False
    plot: bool = False
    help: bool = False
    version: bool = False
    fork: bool = False
    tolerance: str | None = None
    explain: bool = False
    keep: bool = False
    data: bool = False
    desc: bool = False
    csv: bool = False
    all: bool = False
    delete: bool = False
    empty_trash: bool = False
    yes: bool = False
    config_dir: str | None = None
    cfg: str | None = None
    resolve: bool = False
    package: str | None = None
    folder: str | None = None  # of the new run or sweep, exactly
    out: str | None = None
    format: str | None = None
    images: str | None = None
    samples: str | None = None
    tokens: str | None = None
    worst: str | None = None
    shard_size: str | None = None
    found_run: str = ""
    sort: str | None = None
    group: str | None = None
    columns: str | None = None
    limit: str | None = None
    where: list[str] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command as it can be typed in a shell."""
        return shlex.join(["dltrain", *self.argv])


def require_choice(key: str, value: str, choices: Sequence[str], reason: str = "") -> None:
    """Raise UsageError if `value` is not one of the choices."""
    if value not in choices:
        raise UsageError(f"{key}={value}: expected one of {', '.join(choices)}{reason}")


def count_from(flag: str, text: str, limit: int) -> int:
    """Return a flag's value as a whole number; UsageError unless it is from 1 to `limit`."""
    if not text.isdecimal() or not 0 < int(text) <= limit:
        raise UsageError(f"{flag} {text}: expected a whole number from 1 to {limit:,}")
    return int(text)


def output_file(name: str | None, formats: Sequence[str]) -> Path | None:
    """Return the file that --out names, if any; UsageError if it cannot be written."""
    if name is None:
        return None
    out = Path(name)
    if out.suffix not in formats:
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(formats)}")
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    return out
