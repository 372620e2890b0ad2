"""Text files in other encodings than UTF-8, for every set that reads texts, in training and in
prediction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dltrain.config.compose import compose
from dltrain.data.text.language import LanguageModeling
from dltrain.data.text.pairs import ParallelFiles
from dltrain.data.text.prose import ProseFiles
from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.data.text.translation import Translation
from dltrain.data.text.words import WordFiles, Words
from dltrain.errors import ConfigError, InputError
from dltrain.experiment.instantiate import instantiate

WORDS = ("größe", "übung", "straße", "ärger")


def sentences(count: int = 40) -> list[str]:
    return [f"{WORDS[i % 4]} {WORDS[i % 3]} {i}" for i in range(count)]


def written(name: str, text: str, encoding: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return name


def text_table(encoding: str, key: str | None) -> Any:
    rows = [f"{text};{'ab'[i % 2]}" for i, text in enumerate(sentences())]
    written("texts.csv", "\r\n".join(["sep=;", "1;label", *rows]), encoding)
    source = LabeledTextFiles(Path("data"), "texts.csv", text=1, encoding=key)  # type: ignore[arg-type]
    return Text(Path("data"), source)


def text_folder(encoding: str, key: str | None) -> Any:
    for i, text in enumerate(sentences()):
        written(f"texts/{'ab'[i % 2]}/{i}.txt", text, encoding)
    return Text(Path("data"), LabeledTextFiles(Path("data"), "texts", encoding=key))


def json_lines(encoding: str, key: str | None) -> Any:
    rows = [f'{{"text": "{text}", "label": "{"ab"[i % 2]}"}}' for i, text in enumerate(sentences())]
    written("texts.jsonl", "\n".join(rows), encoding)
    return Text(Path("data"), LabeledTextFiles(Path("data"), "texts.jsonl", encoding=key))


def running_text(encoding: str, key: str | None) -> Any:
    written("text.txt", "\n".join(sentences(200)), encoding)
    source = ProseFiles(Path("data"), "text.txt", encoding=key)
    return LanguageModeling(Path("data"), source, length=8, tokenizer="word")


def pairs(encoding: str, key: str | None) -> Any:
    for side in ("source", "target"):
        written(f"{side}.txt", "\n".join(sentences()), encoding)
    files = ParallelFiles(Path("data"), "source.txt", "target.txt", encoding=key)
    return Translation(Path("data"), files, tokenizer="word", encoding=key)


def word_vectors(encoding: str, key: str | None) -> Any:
    written("words.txt", "\n".join(sentences(200)), encoding)
    return Words(Path("data"), WordFiles(Path("data"), "words.txt", key))


SETS = (text_table, text_folder, json_lines, running_text, pairs, word_vectors)
ENCODINGS = [
    ("latin-1", "latin-1"),
    ("cp1252", "cp1252"),
    ("utf-16", None),
    ("utf-8-sig", None),
    ("gb18030", "gb18030"),
]


@pytest.mark.parametrize("make", SETS)
@pytest.mark.parametrize(("encoding", "key"), ENCODINGS)
def test_texts_in_another_encoding_are_read_as_in_utf8(
    make: Any, encoding: str, key: str | None
) -> None:
    plain = make("utf-8", None)
    expected = plain.description()
    other = make(encoding, key)
    assert other.description() == expected
    assert "größe" in str(other.words if isinstance(other, Words) else expected)
    (found,) = other.encode([Path(written("new.txt", "größe\n", encoding))])
    (known,) = plain.encode([Path(written("known.txt", "größe\n", "utf-8"))])
    assert not found.problem
    assert found.inputs.tolist() == known.inputs.tolist()
    (refused,) = plain.encode([Path(written("latin.txt", "größe\n", "latin-1"))])
    assert "latin.txt:1: the text is not UTF-8: byte 3 of the file is 0xf6" in refused.problem


@pytest.mark.parametrize("make", SETS)
def test_texts_that_are_not_utf8_are_refused_with_file_line_byte_and_key(make: Any) -> None:
    data = make("latin-1", None)
    with pytest.raises(
        InputError, match=r"\.(txt|csv|jsonl):\d+: the text is not UTF-8: byte \d+ of the file"
    ) as raised:
        data.description()
    assert "dataset.encoding=cp1252 (or latin-1) may be right" in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        (
            "dataset=translation",
            "dataset.pairs.source=source.txt",
            "dataset.pairs.target=target.txt",
        ),
        ("dataset=words", "dataset.source.path=source.txt", "dataset.min_count=1"),
        ("dataset=language_modeling", "dataset.path=source.txt", "dataset.length=4"),
    ],
)
def test_the_key_reaches_every_file(settings: tuple[str, ...]) -> None:
    for side in ("source", "target"):
        written(f"{side}.txt", "\n".join(sentences()), "latin-1")

    def data(*more: str) -> Any:
        node = compose([*settings, *more]).config["dataset"]
        return instantiate(node, "dataset", {"root": Path("data"), "seed": 0}, [])

    with pytest.raises(InputError, match=r"dataset\.encoding=cp1252"):
        data().description()
    assert data("dataset.encoding=latin-1").description()
    with pytest.raises(ConfigError, match=r"dataset\.encoding=nope: unknown encoding"):
        data("dataset.encoding=nope")
