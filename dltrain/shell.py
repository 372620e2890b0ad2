"""How a text is written as the value of an override, and how a word is typed in a shell.

Knows no configuration.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

PLAIN = re.compile(
    r"[A-Za-z_][\w-]*(?:[./][\w-]+)*", re.ASCII
)  # values that need no quotes; other values may need none
KEYWORDS = ("null", "true", "false", "nan", "inf")  # values that are no text without quotes
SHELL_PLAIN = re.compile(r"[\w@%+=:,./-]+")  # words that a shell leaves as they are
SHELL_SPECIAL = re.compile(r'["$`!]|\\(?=[\\"$`]|$)')  # what a shell reads between double quotes


def in_quotes(text: str, mark: str = "'") -> str:
    """Return `text` between quotation marks, so that Hydra's parser reads exactly that text.

    Backslashes are read as escapes only before such a mark.
    """
    escaped = re.sub(rf"(\\*){mark}", lambda found: f"{found[1] * 2}\\{mark}", text)
    at_the_end = escaped[len(escaped.rstrip("\\")) :]  # backslashes before the closing mark
    return f"{mark}{escaped}{at_the_end}{mark}"


def quoted(text: str, mark: str = "'") -> str:
    """Return `text` between quotation marks, so that a configuration holds exactly that text."""
    return in_quotes(text.replace("${", "\\${"), mark)  # else it is looked up


def shell_word(word: str) -> str:
    """Return what to type in a shell for one word; double quotes where they suffice, because they
    read best.
    """
    if SHELL_PLAIN.fullmatch(word):
        return word
    if word and not SHELL_SPECIAL.search(word):
        return f'"{word}"'
    return shlex.quote(word)


def setting(key: str, value: str | Sequence[str]) -> str:
    """Return what to type to set `key` to a text, or to a list of texts: with quotes only where a
    text needs them.
    """
    texts = [value] if isinstance(value, str) else list(value)
    if all(PLAIN.fullmatch(text) and text.lower() not in KEYWORDS for text in texts):
        return f"{key}={value}" if isinstance(value, str) else f"{key}=[{','.join(texts)}]"
    if isinstance(value, str):
        return shell_word(f"{key}={quoted(value)}")
    return shell_word(f"{key}=[{','.join(map(quoted, texts))}]")
