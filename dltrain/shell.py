"""Text as the value of an override, and words as they are typed in a shell.

Knows no configuration.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

PLAIN = re.compile(r"[A-Za-z_][\w-]*(?:[./][\w-]+)*", re.ASCII)  # texts that need no quotes
KEYWORDS = ("null", "true", "false", "nan", "inf")  # are not texts without quotes
# Words that bash, zsh and fish leave as they are; zsh reads a = at the start of a word.
SHELL_PLAIN = re.compile(r"(?!=)[\w@%+=:,./-]+")
SHELL_SPECIAL = re.compile(r'["$`!]|\\(?=[\\"$`]|$)')  # what a shell replaces in double quotes


def in_quotes(text: str, mark: str = "'") -> str:
    """Return `text` in quotation marks, so that Hydra's parser reads exactly that text.

    The parser reads backslashes as escapes only before such a mark.
    """
    escaped = re.sub(rf"(\\*){mark}", lambda match: f"{match[1] * 2}\\{mark}", text)
    at_the_end = escaped[len(escaped.rstrip("\\")) :]  # backslashes before the closing mark
    return f"{mark}{escaped}{at_the_end}{mark}"


def quoted(text: str, mark: str = "'") -> str:
    """Return `text` in quotation marks, with `${` escaped so that it is not interpolated."""
    return in_quotes(text.replace("${", "\\${"), mark)


def shell_word(word: str) -> str:
    """Return what to type in a shell for one word, in double quotes if they suffice."""
    if SHELL_PLAIN.fullmatch(word):
        return word
    if word and not SHELL_SPECIAL.search(word):
        return f'"{word}"'
    return shlex.quote(word)


def setting(key: str, value: str | Sequence[str]) -> str:
    """Return what to type to set `key` to a text or a list of texts, quoted only if needed."""
    if isinstance(value, str):
        if is_plain(value):
            return f"{key}={value}"
        return shell_word(f"{key}={quoted(value)}")
    if all(map(is_plain, value)):
        return shell_word(f"{key}=[{','.join(value)}]")
    texts = ",".join(map(quoted, value))
    return shell_word(f"{key}=[{texts}]")


def is_plain(text: str) -> bool:
    """Tell if Hydra reads a text without quotes as that text."""
    return PLAIN.fullmatch(text) is not None and text.lower() not in KEYWORDS
