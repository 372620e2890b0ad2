"""Text in pictures: fonts for every script, sizes, and replacements for missing glyphs.

DejaVu Sans, which is part of matplotlib, has Latin, Greek, Cyrillic, Arabic, Hebrew and some
symbols. Other characters come from the fonts of the system. A character that no font has is
replaced by its name.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger("dltrain")
SUFFIXES = (".ttf", ".ttc", ".otf")
MAX_FONT_FILES = 3000  # that are searched for a glyph
PREFERRED = ("cjk", "wqy", "wenquan", "pingfang", "hiragino", "yugoth", "msyh", "malgun", "noto")
NAMED_BY = ("LETTER ", "SYLLABLE ", "VOWEL SIGN ")  # before the sound in a character's name
RIGHT_TO_LEFT = ("R", "AL")
TRIED_SIZES = (11, 23)  # pixels, which a font has to come in
INVISIBLE = ("Cc", "Cf")  # categories: control and format characters
VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # say how the character before is drawn
ELLIPSIS = "…"


@functools.cache
def base_font() -> Path:
    """Return the font file that is always there."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def font_folders() -> list[Path]:
    """Return the folders in which systems keep fonts."""
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    shared = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts")]
    return [*shared, home / ".fonts", home / ".local" / "share" / "fonts"]


@functools.cache
def system_fonts() -> tuple[Path, ...]:
    """Return the font files of the system, those with many scripts first."""
    files: list[Path] = []
    for folder in font_folders():
        font_files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        files += itertools.islice(font_files, MAX_FONT_FILES)
    return tuple(sorted(files, key=_font_rank))


def _font_rank(path: Path) -> tuple[int, str]:
    """Return the sort key of a font file: the place of its name in `PREFERRED`, then the name."""
    name = path.name.lower()
    places = [i for i, word in enumerate(PREFERRED) if word in name]
    return min(places, default=len(PREFERRED)), name


@functools.cache
def character_map(path: Path) -> frozenset[int]:
    """Return the code points that the font at `path` has glyphs for.

    There are none where it cannot be read, or has bitmaps of one size alone, as colored emoji have.
    """
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        for size in TRIED_SIZES:
            ImageFont.truetype(str(path), size)
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@functools.cache
def face_of(character: str) -> Path | None:
    """Return the font file that has a glyph for `character`, or None."""
    if character.isascii() and character.isprintable():
        return base_font()  # without reading its glyphs, for which matplotlib has to be imported
    for path in (base_font(), *system_fonts()):
        if ord(character) in character_map(path):
            return path
    return None


def drawable(text: str) -> str:
    """Return `text` with every character that no font has replaced by its name.

    Syllables and letters become their sound, symbols their name between colons, other characters
    their code point. The log reports the first script.
    """
    return "".join(map(drawable_character, text))


def drawable_character(character: str) -> str:
    """Return what is drawn for a character: itself, a space, its name, or nothing."""
    category = unicodedata.category(character)
    if character.isspace():
        return " "
    if category in INVISIBLE or character in VARIANTS:
        return ""
    if character.isascii() or face_of(character) is not None:
        return character
    if category == "Mn":
        return ""
    report_missing(script_of(character))
    return spelled(character)


def script_of(character: str) -> str:
    """Return the name of the character's script, which its Unicode name begins with."""
    if unicodedata.category(character) == "So":
        return "emoji or symbol"
    return unicodedata.name(character, "unassigned").split()[0]


def spelled(character: str) -> str:
    """Return a replacement for `character` in ASCII letters."""
    name = unicodedata.name(character, "")
    for word in NAMED_BY:
        if word in name:
            return name.partition(word)[2].lower()
    if unicodedata.category(character) == "So":
        return f":{name.lower()}:"
    return f"U+{ord(character):04X}"


@functools.cache
def missing_scripts() -> set[str]:
    """Return the set of scripts that no font has, as far as they were to be drawn."""
    return set()


def report_missing(script: str) -> None:
    """Log that no font has a script; one line for the first of all."""
    scripts = missing_scripts()
    is_first = not scripts
    scripts.add(script)
    if not is_first:
        return
    log.warning(
        f"no installed font has {script} characters, so pictures spell these in Latin letters; "
        f"install a font that has them, such as Noto Sans"
    )


def runs_of(text: str) -> Iterator[tuple[Path, str, bool]]:
    """Yield runs of `text` in the order of their places: font file, characters, right-to-left.

    Spaces between two words of a right-to-left script belong to it. Everything else keeps its
    place, so that the two sides of an arrow do not change places.
    """
    runs: list[TextRun] = []
    for character in text:
        run = TextRun(face_of(character) or base_font(), character, is_right_to_left(character))
        if runs and runs[-1].continues(run):
            runs[-1].characters += character
        elif run.from_right and is_space_after_right_to_left(runs):
            runs.pop()
            runs[-1].characters += f" {character}"
        else:
            runs.append(run)
    for run in runs:
        yield run.face, run.characters, run.from_right


@dataclass
class TextRun:
    """Characters of one font and direction."""

    face: Path
    characters: str
    from_right: bool

    def continues(self, following: TextRun) -> bool:
        """Return whether the next character belongs to this run; a combining mark always may."""
        is_mark = unicodedata.category(following.characters) == "Mn"
        from_right = self.from_right if is_mark else following.from_right
        return self.face == following.face and self.from_right == from_right


def is_right_to_left(character: str) -> bool:
    """Return whether the character's script is written from right to left."""
    return unicodedata.bidirectional(character) in RIGHT_TO_LEFT


def is_space_after_right_to_left(runs: Sequence[TextRun]) -> bool:
    """Return whether the last run is one space that follows a right-to-left run."""
    return len(runs) > 1 and runs[-1].characters == " " and runs[-2].from_right


@functools.cache
def loaded(path: Path, size: int) -> Any:
    """Return the font at `path` in `size` pixels, as PIL draws it."""
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size)


@functools.cache
def shapes_text() -> bool:
    """Return whether PIL joins letters and orders right-to-left text itself."""
    from PIL import features

    return bool(features.check("raqm"))


def directed(characters: str, from_right: bool) -> tuple[str, dict[str, str]]:
    """Return the characters and keyword arguments with which PIL draws them in their direction."""
    if not from_right:
        return characters, {}
    if shapes_text():
        return characters, {"direction": "rtl"}
    return characters[::-1], {}


def text_width(text: str, size: int) -> int:
    """Return how many pixels wide a line of drawable `text` is."""
    total = 0.0
    for path, characters, from_right in runs_of(text):
        shown, direction = directed(characters, from_right)
        total += loaded(path, size).getlength(shown, **direction)
    return round(total)


def draw_text(
    draw: Any,
    place: tuple[float, float],
    text: str,
    size: int,
    fill: str = "black",
    anchor: str = "l",
) -> None:
    """Draw one line of drawable `text`.

    `place` is the start of the text with the anchor l, its middle with m and its end with r, at
    half of its height.
    """
    left, middle = place
    if anchor == "m":
        left -= text_width(text, size) / 2
    elif anchor == "r":
        left -= text_width(text, size)
    for path, characters, from_right in runs_of(text):
        font = loaded(path, size)
        shown, direction = directed(characters, from_right)
        start = (round(left), round(middle))
        draw.text(start, shown, fill=fill, font=font, anchor="lm", **direction)
        left += font.getlength(shown, **direction)


def cut_to(text: str, width: int, size: int) -> str:
    """Return drawable `text`, with an ellipsis where it is wider than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle] + ELLIPSIS, size) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low] + ELLIPSIS


def wrapped(text: str, width: int, size: int, max_lines: int) -> list[str]:
    """Return `text` in at most `max_lines` drawable lines of at most `width` pixels.

    Lines break between words; a word that is too long, and what does not fit any more, is cut off
    with an ellipsis. A text with line breaks of its own keeps them.
    """
    if "\n" in text:
        lines = list(map(drawable, text.split("\n")))
    else:
        lines = _filled_lines(drawable(text).split(), width, size, max_lines)
    return [cut_to(line, width, size) for line in lines]


def _filled_lines(words: list[str], width: int, size: int, max_lines: int) -> list[str]:
    """Return the words in lines of about `width` pixels; the last line has all that are left."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width and len(lines) < max_lines:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def unabridged(text: str, width: int, size: int) -> list[str]:
    """Return `text` in as many drawable lines of at most `width` pixels as it needs.

    Lines break between words; a word that is too long is broken too.
    """
    words: list[str] = []
    for word in drawable(text).split():
        words += pieces(word, width, size)
    return _filled_lines(words, width, size, max_lines=max(1, len(words)))


def pieces(word: str, width: int, size: int) -> list[str]:
    """Return a drawable word in pieces of at most `width` pixels, or of one character."""
    parts = [""]
    for character in word:
        longer = parts[-1] + character
        if parts[-1] and text_width(longer, size) > width:
            parts.append(character)
        else:
            parts[-1] = longer
    return parts


def families(texts: list[str]) -> list[str]:
    """Return the font families that matplotlib needs for drawable `texts`, the preferred first."""
    from matplotlib import font_manager

    names = ["DejaVu Sans"]
    characters = {c for c in "".join(texts) if not c.isascii()}
    paths = dict.fromkeys(map(face_of, sorted(characters)))
    for path in paths:
        if path is None or path == base_font():
            continue
        font_manager.fontManager.addfont(str(path))
        name = font_manager.FontProperties(fname=str(path)).get_name()
        if name not in names:
            names.append(name)
    return names
