"""Reads overrides in Hydra's grammar, and says what to type instead of one that cannot be read."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dltrain.config.composing.shared import shared
from dltrain.config.groups import COMPOSING, groups
from dltrain.config.read import MAX_DEPTH, MAX_DIGITS
from dltrain.config.suggestions import quoting
from dltrain.config.suggestions.other_programs import hydra_answer, option_for, unknown_option
from dltrain.config.suggestions.quoting import exists, is_printable, suggestion, takes_text
from dltrain.config.suggestions.spelling import close_matches, similarity
from dltrain.config.suggestions.suggest import common_keys
from dltrain.errors import ConfigError, first_line
from dltrain.shell import shell_word

MAX_CHARS = 10_000  # of an override
MAX_SHOWN_CHARS = 100  # of an override in a message
MISSPELLED = 0.75  # the similarity to a key from which a word is taken to mean it
UNREADABLE = "cannot be read as KEY=VALUE"
GRAMMAR_CHARS = set("[]{}(),'\"$\\")  # that mean something in a value
KEY = re.compile(r"\+{0,2}[\w./-]+")
LONG_NUMBER = re.compile(rf"[\d_]{{{MAX_DIGITS},}}")
DEPTH_CHANGE = {**dict.fromkeys("[{(", 1), **dict.fromkeys(")}]", -1)}

Problem = tuple[str, str]  # what was typed, and what is wrong with it


def parse(overrides: list[str], sweep: bool = False) -> tuple[list[Any], list[Problem]]:
    """Parse overrides; with `sweep` a value may be several.

    Returns:
        Hydra's override objects, and the problems of the texts that are no overrides.
    """
    parsed: list[Any] = []
    problems: list[Problem] = []
    previous = ""
    for text in overrides:
        too_much = _refused_unread(text)
        if too_much is not None:
            problems.append((_shown(text), too_much))
        elif "=" not in text and not text.startswith("~"):
            why = f"is not an override: settings are KEY=VALUE{_as_setting(text, previous)}"
            problems.append((text, why))
        else:
            override, problem = _read(text, sweep)
            if problem is None:
                parsed.append(override)
            else:
                problems.append((text, problem))
        previous = text
    return parsed, problems


def raise_problems(problems: list[Problem]) -> None:
    """Raise a ConfigError with all problems, if there are any."""
    if problems:
        raise ConfigError(problems)


def take(overrides: Iterable[str], keys: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Separate the overrides that set one of `keys` from the others.

    Returns:
        The values of those that do, as text, and the other overrides.

    Raises:
        ConfigError: a value cannot be read, or a key is one of `keys` but misspelled.
    """
    wanted = set(keys)
    values: dict[str, str] = {}
    rest: list[str] = []
    for override in overrides:
        key, equals, typed = override.partition("=")
        name = key.lstrip("+")
        if equals and name in wanted:
            values[name] = _as_text(override)
            continue
        close = max(wanted, key=lambda known: similarity(name, known), default="")
        if equals and "." not in name and similarity(name, close) >= MISSPELLED:
            meant = shell_word(f"{close}={typed}")
            raise ConfigError([(override, f"no such key; did you mean {meant}?")])
        rest.append(override)
    return values, rest


def _as_text(override: str) -> str:
    """Return the value of an override as text."""
    typed = override.partition("=")[2].strip()
    parsed, problems = parse([override])
    if problems:
        is_sweep = not parse([override], sweep=True)[1]
        if is_sweep:  # tta=flip,shift: nothing is swept here, so it is one text
            return typed
        raise ConfigError(problems)
    value = parsed[0].value()
    if isinstance(value, str):
        return value
    return typed


def expand_home(path: str) -> str:
    """Replace ~ at the beginning of a path by the home folder; an empty path stays empty."""
    if not path:
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # `~name` of an unknown user: the folder has that name
        return path


@shared
def _read(text: str, sweep: bool) -> tuple[Any, str | None]:
    """Return Hydra's override and None, or what is wrong with it."""
    from hydra.errors import HydraException

    try:
        override = _parse_override(_parser(), text)
    except HydraException as e:
        return None, f"{UNREADABLE}: {_grammar_problem(e)}{_quote_hint(text, sweep)}"
    return override, _misread(override, text) or _not_allowed(override, text, sweep)


def _grammar_problem(error: Exception) -> str:
    """Return the message of Hydra's parser, without the tokens that it expects instead."""
    message = re.sub(r"^HydraException while evaluating .*?: ", "", first_line(error))
    return re.sub(r" expecting (\{.*|\S+$)", "", message)


def _shown(text: str) -> str:
    if is_printable(text) and len(text) < MAX_SHOWN_CHARS:
        return text
    return f"{text[:60]!r}..."


@shared
def _refused_unread(text: str) -> str | None:
    """Return why a text is refused before Hydra's parser, which is recursive and slow, reads it."""
    if len(text) > MAX_CHARS:
        return f"{UNREADABLE}: longer than {MAX_CHARS:,} characters"
    if not is_printable(text):
        return f"{UNREADABLE}: it holds a line break or another control character"
    depth = 0
    for char in text:
        depth += DEPTH_CHANGE.get(char, 0)
        if depth > MAX_DEPTH:
            return f"{UNREADABLE}: nested more than {MAX_DEPTH} deep"
    if LONG_NUMBER.search(text):
        return f"{UNREADABLE}: a number of more than {MAX_DIGITS} digits"
    return None


@functools.cache
def _parser() -> Any:
    """Return Hydra's parser, whose shuffle([...]) gives the same order each time.

    An override is parsed again where a run is resumed, and has to mean the same there.
    """
    from hydra._internal.grammar import grammar_functions
    from hydra.core.override_parser.overrides_parser import OverridesParser

    def shuffle(*args: Any, **kwargs: Any) -> Any:
        values = kwargs.get("list")
        if len(args) == 1 and isinstance(args[0], list):
            values = args[0]
        if values is None:
            return grammar_functions.shuffle(*args, **kwargs)
        return shuffled(values, str(values))

    parser = OverridesParser.create()
    parser.functions.functions["shuffle"] = shuffle
    return parser


def shuffled(values: Iterable[Any], seed: str) -> list[Any]:
    """Return values in an order that depends on nothing but the text `seed`."""
    order = list(values)
    random.Random(seed).shuffle(order)
    return order


def _parse_override(parser: Any, text: str) -> Any:
    """Parse by Hydra's grammar, and plain text with characters that it lacks, as in name=~/runs."""
    from hydra.errors import HydraException

    try:
        return parser.parse_override(text)
    except HydraException:
        key, _, value = text.partition("=")
        if not value or GRAMMAR_CHARS & set(value):
            raise
        override = parser.parse_override(f"{key}='{value}'")
        override.input_line = text
        return override


def _misread(override: Any, text: str) -> str | None:
    """Return what to type if the value is the name of a file that Hydra reads as another text."""
    key, _, typed = text.partition("=")
    if not exists(typed):
        return None
    value = override.value()
    if isinstance(value, str):
        is_as_typed = value == typed and "${" not in typed
        is_another_file = value != typed and exists(value)
        if is_as_typed or is_another_file:
            return None
    elif not override.is_sweep_override():
        return None
    quoted = quoting.text_override(key, typed)
    return f"is not read as the file {typed!r} that exists; quote it: {quoted}"


def _not_allowed(override: Any, text: str, sweep: bool) -> str | None:
    """Return why an override that can be read is refused."""
    key = override.key_or_group
    if key.replace("/", ".").partition(".")[0] == "hydra":
        return hydra_answer(key)
    if override.package is not None:
        return f"a choice has one place: {key}=NAME, without @{override.package}"
    if override.is_sweep_override() and not sweep:
        return _several(key, text)
    return None


def _several(key: str, text: str) -> str:
    """Return what to type instead of several values: a sweep, a list, or a text with a comma."""
    value = text.partition("=")[2]
    first = value.partition(",")[0]
    if key in groups() and first not in groups()[key] and option_for(key, first):
        return unknown_option(key, first)  # device=0,1
    answer = f"several values are a sweep: dltrain -m {shell_word(text)}"
    if key in COMPOSING:
        return f"{answer}; all at once: {shell_word(f'{key}=[{value}]')}"
    if key not in groups() and takes_text(text):
        return f"{answer}; one text with a comma is quoted: {suggestion(text)}"
    return answer


def _quote_hint(text: str, sweep: bool) -> str:
    """Return how the value, or each of several, is typed as text; empty without key or value."""
    key, _, value = text.partition("=")
    if not KEY.fullmatch(key) or not value.strip():
        return ""
    if sweep and "," in value and not exists(value):
        return f"; texts with such characters are quoted: {quoting.typed_as_choices(text)}"
    return f"; text with such characters is quoted: {suggestion(text)}"


def _as_setting(word: str, previous: str) -> str:
    """Return what to type instead of a word without a value.

    That is a key with a value, or the word before with a space in its text.
    """
    if word in common_keys():
        return f"; did you mean {word}=...?"
    joined = f"{previous} {word}"
    if "=" in previous and takes_text(joined):
        return f"; if it belongs to the word before: {suggestion(joined)}"
    by_last_name: dict[str, str] = {}
    for key in common_keys():
        by_last_name.setdefault(key.rpartition(".")[2], key)
    close = close_matches(word, by_last_name)
    if close:
        return f"; did you mean {by_last_name[close[0]]}=...?"
    return ""
