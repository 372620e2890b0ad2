"""Text in pictures: fonts for every script, sizes, and what stands for a character without a glyph.

DejaVu Sans, which matplotlib brings, has Latin, Greek, Cyrillic, Arabic, Hebrew and some symbols.
Other characters come from the fonts of the system. What no font has is written by its name.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger("dltrain")
SUFFIXES = (".ttf", ".ttc", ".otf")
MAX_FONT_FILES = 3000  # that are searched for a glyph
PREFERRED = ("cjk", "wqy", "wenquan", "pingfang", "hiragino", "yugoth", "msyh", "malgun", "noto")
NAMED_BY = ("LETTER ", "SYLLABLE ")  # before the sound in a character's name
RIGHT_TO_LEFT = ("R", "AL")
TRIED_SIZES = (11, 23)  # pixels, which a font has to come in
INVISIBLE = ("Cc", "Cf")  # categories: control and format characters
VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # say how the character before is drawn
ELLIPSIS = "…"


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
        found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        files += itertools.islice(found, MAX_FONT_FILES)

    def rank(path: Path) -> tuple[int, str]:
        name = path.name.lower()
        places = [i for i, word in enumerate(PREFERRED) if word in name]
        return min(places, default=len(PREFERRED)), name

    return tuple(sorted(files, key=rank))


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
    for path in (base_font(), *system_fonts()):
        if ord(character) in character_map(path):
            return path
    return None


def drawable(text: str) -> str:
    """Return `text` with every character that no font has replaced by its name.

    Syllables and letters become their sound, symbols their name between colons, other
    characters their code point. The first of them is reported in the log.
    """
    shown = []
    for character in text:
        if character.isspace():
            shown.append(" ")
        elif unicodedata.category(character) in INVISIBLE or character in VARIANTS:
            continue
        elif character.isascii() or face_of(character) is not None:
            shown.append(character)
        elif unicodedata.category(character) != "Mn":
            report_missing(script_of(character))
            shown.append(spelled(character))
    return "".join(shown)


def script_of(character: str) -> str:
    """Return what the script of `character` is called, as its name begins with it."""
    if unicodedata.category(character) == "So":
        return "emoji or symbol"
    return unicodedata.name(character, "unassigned").split()[0]


def spelled(character: str) -> str:
    """Return how `character` is written in plain letters."""
    name = unicodedata.name(character, "")
    for word in NAMED_BY:
        if word in name:
            return name.partition(word)[2].lower()
    if unicodedata.category(character) == "So":
        return f":{name.lower()}:"
    return f"U+{ord(character):04X}"


@functools.cache
def report_missing(script: str) -> None:
    """Log once for each script that no font has it."""
    log.warning(
        f"no installed font has {script} characters, so pictures spell them in Latin letters; "
        f"install a font that has them, such as Noto Sans"
    )


def runs_of(text: str) -> Iterator[tuple[Path, str, bool]]:
    """Yield font file, characters and whether they are read from the right, from left to right.

    Spaces between two words of a script that is read from the right belong to it; everything else
    keeps its place, so that the two sides of an arrow do not change places.
    """
    parts: list[tuple[Path, str, bool]] = []
    for character in text:
        face = face_of(character) or base_font()
        from_right = unicodedata.bidirectional(character) in RIGHT_TO_LEFT
        marks = unicodedata.category(character) == "Mn" and bool(parts)
        if parts and (parts[-1][0], parts[-1][2]) == (face, from_right or (marks and parts[-1][2])):
            parts[-1] = (face, parts[-1][1] + character, parts[-1][2])
        elif len(parts) > 1 and from_right and parts[-1][1] == " " and parts[-2][2]:
            parts[-2:] = [(parts[-2][0], f"{parts[-2][1]} {character}", True)]
        else:
            parts.append((face, character, from_right))
    yield from parts


@functools.cache
def loaded(path: Path, size: int) -> Any:
    """Return the font at `path` in `size` pixels, as PIL draws it."""
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size)


@functools.cache
def shapes_text() -> bool:
    """Tell if PIL joins letters and orders them from the right by itself."""
    from PIL import features

    return bool(features.check("raqm"))


def directed(characters: str, from_right: bool) -> tuple[str, dict[str, str]]:
    """Return the characters as PIL takes them, and the direction where it knows directions."""
    if not from_right:
        return characters, {}
    return (characters, {"direction": "rtl"}) if shapes_text() else (characters[::-1], {})


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

    `place` is where it begins, in the middle of its height; with the anchor m it is the middle of
    the text, with r its end.
    """
    left, middle = place
    if anchor != "l":
        left -= text_width(text, size) / (2 if anchor == "m" else 1)
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
        return [cut_to(drawable(line), width, size) for line in text.split("\n")]
    lines = [""]
    for word in drawable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width and len(lines) < max_lines:
            lines.append(word)
        else:
            lines[-1] = longer
    return [cut_to(line, width, size) for line in lines]


def families(texts: list[str]) -> list[str]:
    """Return the font families that matplotlib needs for drawable `texts`, the preferred first."""
    from matplotlib import font_manager

    names = ["DejaVu Sans"]
    for path in dict.fromkeys(face_of(c) for text in texts for c in text if not c.isascii()):
        if path is None or path == base_font():
            continue
        font_manager.fontManager.addfont(str(path))
        name = font_manager.FontProperties(fname=str(path)).get_name()
        if name not in names:
            names.append(name)
    return names
