"""Passes lines to real shells and returns the words with which `dltrain` is called there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

WORD_END, CALL_END = "\x1f", "\x1e"
# bash passes a pattern that matches no file on as it is; with failglob it refuses it, as zsh does
SHELLS = {
    "bash": ["bash", "--norc", "-O", "failglob"],
    "zsh": ["zsh", "-f"],
    "fish": ["fish", "--no-config"],
}
RECORD = {
    "bash": "dltrain() { printf '%s\\037' \"$@\"; printf '\\036'; }",
    "zsh": "dltrain() { printf '%s\\037' \"$@\"; printf '\\036'; }",
    "fish": "function dltrain; printf '%s\\x1f' $argv; printf '\\x1e'; end",
}
INSTALLED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"),
    )
    for name in SHELLS
]


def misread(shell: str, lines: Sequence[str], folder: Path) -> list[str]:
    """Return the lines whose words do not reach `dltrain` as they are meant.

    All lines are one script, in an empty folder; if that goes wrong, each is tried by itself.
    """
    (folder / "empty").mkdir(exist_ok=True)
    if _calls(shell, lines, folder) == [words for line in lines for words in meant(line)]:
        return []
    return [line for line in lines if _calls(shell, [line], folder) != meant(line)]


def _calls(shell: str, lines: Sequence[str], folder: Path) -> list[list[str]]:
    """Return the words of every call of `dltrain` in a script; none if the shell complains."""
    script = folder / "script"
    script.write_text("\n".join([RECORD[shell], *lines, ""]), encoding="utf-8")
    done = subprocess.run(
        [*SHELLS[shell], str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder / "empty",
    )
    if done.stderr or done.returncode:
        return []
    found = [call.split(WORD_END)[:-1] for call in done.stdout.split(CALL_END)[:-1]]
    return [[] if words == [""] else words for words in found]  # printf prints no word as one


def meant(line: str) -> list[list[str]]:
    """Return the words of every command in a line, as its quotation marks say."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in (";", "|"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words[1:] for words in commands if words[:1] == ["dltrain"]]
