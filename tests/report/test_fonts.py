"""Text in pictures: every script is either drawn or spelled, and the two sides of an arrow keep
their places.
"""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from dltrain.report import fonts


@pytest.fixture
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", lambda: ())
    fonts.face_of.cache_clear()
    fonts.missing_scripts.cache_clear()


@pytest.mark.usefixtures("no_system_fonts")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("Привет ñ é → ß", "Привет ñ é → ß"),
        ("قط", "قط"),
        ("猫", "U+732B"),
        ("ねこ", "neko"),
        ("고양이", "goyangi"),
        ("हिन्दी", "hainadaii"),
        ("🥑", ":avocado:"),
        ("👩\u200d🔬\ufe0f", ":woman::microscope:"),
        ("tab\tand\u3000space", "tab and space"),
        ("\x00nul\ufffe", "nulU+FFFE"),
        ("", ""),
    ],
)
def test_what_no_font_has_is_spelled(text: str, shown: str) -> None:
    assert fonts.drawable(text) == shown


@pytest.mark.usefixtures("no_system_fonts")
def test_missing_scripts_are_reported_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dltrain"):
        fonts.drawable("猫犬")
        fonts.drawable("猫")
        fonts.drawable("ねこ")
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        "no installed font has CJK characters"
    ]


def test_a_font_of_the_system_is_used_where_it_has_the_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = fonts.base_font().with_name("STIXGeneral.ttf")
    only_there = chr(
        min(fonts.character_map(other) - fonts.character_map(fonts.base_font()) - set(range(0xA0)))
    )
    monkeypatch.setattr(fonts, "system_fonts", lambda: (other,))
    fonts.face_of.cache_clear()
    assert fonts.face_of(only_there) == other
    assert fonts.drawable(only_there) == only_there
    assert [path for path, _, _ in fonts.runs_of(f"a{only_there}")] == [fonts.base_font(), other]
    assert fonts.families([f"a{only_there}"]) == ["DejaVu Sans", "STIXGeneral"]
    fonts.face_of.cache_clear()


@pytest.mark.parametrize("content", [b"", b"no font", b"OTTO" + bytes(100)])
def test_a_font_that_cannot_be_drawn_is_not_used(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(content)
    assert fonts.character_map(tmp_path / "broken.ttf") == frozenset()


def test_a_font_of_one_size_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colored emoji are bitmaps: FreeType refuses any other size."""

    def of_one_size(path: str, size: int) -> None:
        if size != 109:
            raise OSError("invalid pixel size")

    fonts.character_map.cache_clear()
    monkeypatch.setattr("PIL.ImageFont.truetype", of_one_size)
    assert fonts.character_map(fonts.base_font()) == frozenset()
    fonts.character_map.cache_clear()


def test_an_arrow_between_two_arabic_names_still_points_from_the_first_to_the_second() -> None:
    parts = [(text, from_right) for _, text, from_right in fonts.runs_of("قط أسود → كلب")]
    assert parts == [("قط أسود", True), (" → ", False), ("كلب", True)]
    vowels = "".join(c for c in "قِطّ" if unicodedata.category(c) == "Mn")
    assert vowels
    assert [from_right for _, _, from_right in fonts.runs_of("قِطّ")] == [True]


def inked_columns(text: str, anchor: str) -> list[int]:
    canvas = Image.new("L", (300, 40), 255)
    fonts.draw_text(ImageDraw.Draw(canvas), (150, 20), text, 20, anchor=anchor)
    pixels = canvas.load()
    return [x for x in range(300) if any(pixels[x, y] < 128 for y in range(40))]


@pytest.mark.parametrize("text", ["airplane", "قط → כלב", "8 → 4"])
def test_text_is_drawn_from_beside_or_around_its_place(text: str) -> None:
    width = fonts.text_width(text, 20)
    for anchor, left in (("l", 150), ("m", 150 - width / 2), ("r", 150 - width)):
        columns = inked_columns(text, anchor)
        assert columns[0] == pytest.approx(left, abs=4)
        assert columns[-1] == pytest.approx(left + width, abs=4)


def test_lines_break_between_words_and_end_in_an_ellipsis() -> None:
    wide = fonts.text_width("airplane → bird", 20)
    assert fonts.wrapped("airplane → bird", wide, 20, 3) == ["airplane → bird"]
    assert fonts.wrapped("airplane → bird", wide - 5, 20, 3) == ["airplane →", "bird"]
    (cut,) = fonts.wrapped("airplane → bird", wide - 5, 20, 1)
    assert cut.startswith("airplane")
    assert cut.endswith("…")
    assert fonts.text_width(cut, 20) <= wide - 5
    assert fonts.wrapped("0.75 dog\n0.25 cat", 500, 20, 1) == ["0.75 dog", "0.25 cat"]
