"""Reads overrides in Hydra's grammar, one by one, and says what to type instead of what cannot be
read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dltrain.config import quoting
from dltrain.config.groups import COMPOSING, groups
from dltrain.config.other_programs import hydra_answer, option_for, unknown_option
from dltrain.config.quoting import exists, is_printable, suggestion, takes_text
from dltrain.config.read import MAX_DEPTH, MAX_DIGITS
from dltrain.config.spelling import close_matches, similarity
from dltrain.config.suggest import common_keys
from dltrain.errors import ConfigError, first_line
from dltrain.shell import shell_word

LONGEST = 10_000  # characters of an override
MISSPELLED = 0.75  # likeness to a key from which a word is taken to mean it
UNREADABLE = "cannot be read as KEY=VALUE"

Problem = tuple[str, str]


def parse(overrides: list[str], sweep: bool = False) -> tuple[list[Any], list[Problem]]:
    """Return Hydra's override objects, and the texts that are not overrides with what to type
    instead.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    parsed: list[Any] = []
    problems: list[Problem] = []
    before = ""
    for text in overrides:
        if why := _refused_unread(text):
            shown = text if is_printable(text) and len(text) < 100 else f"{text[:60]!r}..."
            problems.append((shown, why))
        elif "=" not in text and not text.startswith("~"):
            problems.append(
                (text, f"is not an override: settings are KEY=VALUE{_as_setting(text, before)}")
            )
        else:
            found, problem = _read(parser, text, sweep)
            parsed += [found] if problem is None else []
            problems += [(text, problem)] if problem is not None else []
        before = text
    return parsed, problems


def raise_problems(problems: list[Problem]) -> None:
    """Raise a ConfigError with all problems, if there are any."""
    if problems:
        raise ConfigError(problems)


def take(overrides: Iterable[str], keys: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the values of those overrides that set one of `keys`, as text, and the other
    overrides.

    ConfigError for a value that cannot be read, and for a key that is one of them but misspelled.
    """
    wanted = set(keys)
    found: dict[str, str] = {}
    rest: list[str] = []
    for override in overrides:
        key, equals, typed = override.partition("=")
        name = key.lstrip("+")
        if name not in wanted or not equals:
            close = max(wanted, key=lambda known: similarity(name, known), default="")
            if equals and "." not in name and similarity(name, close) >= MISSPELLED:
                raise ConfigError([(override, f"no such key; did you mean {close}={typed}?")])
            rest.append(override)
            continue
        parsed, problems = parse([override])
        if (
            problems and not parse([override], sweep=True)[1]
        ):  # tta=flip,shift: no sweep is possible, so it is one text
            found[name] = typed.strip()
            continue
        raise_problems(problems)
        value = parsed[0].value()
        found[name] = value if isinstance(value, str) else typed.strip()
    return found, rest


def expand_home(path: str) -> str:
    """Replace ~ at the beginning of a path by the home folder; an empty path stays empty."""
    if not path:
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # `~name` of an unknown user: the folder has that name
        return path


def _read(parser: Any, text: str, sweep: bool) -> tuple[Any, str | None]:
    """Return Hydra's override and None, or what is wrong with it."""
    from hydra.errors import HydraException

    try:
        override = _parse_override(parser, text)
    except HydraException as e:
        return None, f"{UNREADABLE}: {_grammar_problem(e)}{_quote_hint(text, sweep)}"
    return override, _misread(override, text) or _not_allowed(override, text, sweep)


def _grammar_problem(error: Exception) -> str:
    """Return what Hydra's parser says, without the tokens that it expects instead."""
    shown = re.sub(r"^HydraException while evaluating .*?: ", "", first_line(error))
    return re.sub(r" expecting (\{.*|\S+$)", "", shown)


def _refused_unread(text: str) -> str | None:
    """Return why a text is refused before Hydra's parser, which is recursive and slow, sees it."""
    if len(text) > LONGEST:
        return f"{UNREADABLE}: longer than {LONGEST:,} characters"
    if not is_printable(text):
        return f"{UNREADABLE}: it holds a line break or another control character"
    depth = deepest = 0
    for letter in text:
        depth += (letter in "[{(") - (letter in ")}]")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"{UNREADABLE}: nested more than {MAX_DEPTH} deep"
    if re.search(rf"[\d_]{{{MAX_DIGITS},}}", text):
        return f"{UNREADABLE}: a number of more than {MAX_DIGITS} digits"
    return None


def _parse_override(parser: Any, text: str) -> Any:
    """Parse by Hydra's grammar, and beyond it plain text with characters that it lacks, as in
    paths.output=~/runs.
    """
    from hydra.errors import HydraException

    try:
        return parser.parse_override(text)
    except HydraException:
        key, _, value = text.partition("=")
        if not value or set(value) & set("[]{}(),'\"$\\"):
            raise
        override = parser.parse_override(f"{key}='{value}'")
        override.input_line = text
        return override


def _misread(override: Any, text: str) -> str | None:
    """Return what to type where the value is the name of a file that Hydra reads as another text."""
    key, _, typed = text.partition("=")
    value = override.value()
    is_text = isinstance(value, str) or override.is_sweep_override()
    if not is_text or not exists(typed):
        return None
    is_same = value == typed and "${" not in typed
    if is_same or (isinstance(value, str) and value != typed and exists(value)):
        return None
    return f"is not read as the file {typed!r} that exists; quote it: {quoting.text_override(key, typed)}"


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
    """Return what to type instead of several values, which are a sweep, a list, or a text with a
    comma in it.
    """
    value = text.partition("=")[2]
    first = value.partition(",")[0]
    if key in groups() and first not in groups()[key] and option_for(key, first):
        return unknown_option(key, first)  # device=0,1
    answer = f"several values are a sweep: dltrain -m {shell_word(text)}"
    if key in COMPOSING:
        return f"{answer}; all at once: {key}=[{value}]"
    if key not in groups() and takes_text(text):
        return f"{answer}; one text with a comma is quoted: {suggestion(text)}"
    return answer


def _quote_hint(text: str, sweep: bool) -> str:
    """Return how the value, or each of several, is typed if it is text; nothing where there is no
    key or no value.
    """
    key, _, value = text.partition("=")
    if not re.fullmatch(r"\+{0,2}[\w./-]+", key) or not value.strip():
        return ""
    if sweep and "," in value and not exists(value):
        return f"; texts with such characters are quoted: {quoting.typed_as_choices(text)}"
    return f"; text with such characters is quoted: {suggestion(text)}"


def _as_setting(word: str, before: str) -> str:
    """Return what to type instead of a word without a value: a key with one, or a text with a space
    in it.
    """
    if word in common_keys():
        return f"; did you mean {word}=...?"
    joined = f"{before} {word}"
    if "=" in before and takes_text(joined):
        return f"; if it belongs to the word before: {suggestion(joined)}"
    close = close_matches(word, [key.split(".")[-1] for key in common_keys()])
    full = [key for key in common_keys() if close and key.split(".")[-1] == close[0]]
    return f"; did you mean {full[0]}=...?" if full else ""
