"""Words of code, configuration and documents: plain English, American spelling, standard terms."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"dltrain": ".py", "benchmarks": ".py", "tests": ".py", "conf": ".yaml", "docs": ".md"}
PAGES = ("README.md", "CONTRIBUTING.md", "RELIABILITY.md", "benchmarks/README.md")
OWN_FILES = ("tests/test_words.py",)  # names the words that it looks for

OPENING = re.compile(r"(Of|What|Whether|By|Until|As|Where|How|Which)\b(?!\?)")

INSTEAD = {  # a word that is not used: what is written for it
    r"anew": "again",
    r"(?<!there )(is|are|was|were) none(?! of)": "is not a ..., has no ...",
    r"there (is|are) no such": "unknown ...",
    r"filled up": "padded",
    r"by steps of two": "stride 2",
    r"loops? by hand": "hand-written loop",
    r"spoil(t|s|ed)?": "invalid, skip",
    r"bad boxes": "invalid boxes",
    r"rarest digit": "class coverage",
    r"processors?": "CPU",
    r"(go|goes|went|gone) on": "continue",
    r"(take|takes|took|taken) over": "load, copy",
    r"what it is taken for": "the predicted class",
    r"mirrored|mirror image": "flipped",
    r"by heart": "memorized",
    r"learnt|spelt|burnt": "learned, spelled",
    r"(mis)?behaviour\w*|colour\w*|neighbour\w*": "-or",
    r"favour\w*|honour\w*|flavour\w*|labour\w*": "-or",
    r"grey\w*": "gray",
    r"centre[sd]?|centring|metres?|fibres?": "center",
    r"licence[sd]?|defence|offence|pretence": "license",
    r"(re|un)?labell(ed|ing)|(model|cancel|travel|signal)l(ed|ing)": "one l",
    r"catalogues?|dialogues?|analogues?|programmes?": "catalog",
    r"artefacts?": "artifact",
    r"judgement": "judgment",
    r"whilst|amongst": "while, among",
    r"analys(e|ed|er|ing)": "analyze",
}
STEMS = """
normal initial optim regular standard special token vector parametr general minim
maxim penal serial summar visual quant organ recogn random factor categor
local synchron util real author emphas memor custom final equal capital
prior binar discret
"""  # of words that end in -ize, -izing, -ization
FORBIDDEN = re.compile(
    rf"\b(?:{'|'.join(INSTEAD)})\b|(?:{'|'.join(STEMS.split())})is(?:e|es|ed|er|ers|ing|ations?)\b"
)
PARTS = re.compile(r"(?<=[a-z])(?=[A-Z])|_")  # where names are made of words
# Keys and names that others have given.
NO_WORDS = (
    "None",
    "CANCELLED",
    "TaskCancelledError",
    "_is_none()",
    "platform.processor",
    "bad_boxes",
    "BadBoxes",
)
EXEMPT = {  # words that stand in a file for a reason
    "dltrain/optim.py": ("spoilt",),  # a key of saved states
    "dltrain/data/io/layout/split_names.py": ("labelled", "unlabelled"),  # names of folders
    "tests/data/io/test_layout.py": ("unlabelled",),
}


def files() -> list[str]:
    """Return the path of every file that is looked at, relative to the repository."""
    paths = [
        str(path.relative_to(ROOT))
        for folder, suffix in FOLDERS.items()
        for path in sorted((ROOT / folder).rglob(f"*{suffix}"))
    ]
    return [path for path in [*paths, *PAGES] if path not in OWN_FILES]


def plain(text: str) -> str:
    """Return text in lower case without what is no word, with a space between the words
    of a name.
    """
    for name in NO_WORDS:
        text = text.replace(name, "")
    return PARTS.sub(" ", text).lower()


def problems(name: str) -> list[str]:
    """Return a line for each word or docstring of a file that should be another."""
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = []
    for number, line in enumerate(plain(text).splitlines(), 1):
        for match in FORBIDDEN.finditer(line):
            if match[0] not in EXEMPT.get(name, ()):
                lines.append(f"{name}:{number}: {match[0]}")
    if name.endswith(".py"):
        lines += odd_docstrings(name, ast.parse(text))
    return lines


def odd_docstrings(name: str, tree: ast.Module) -> list[str]:
    """Return a line for each docstring that opens with a word of OPENING."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            docstring = ast.get_docstring(node) or ""
            if OPENING.match(docstring):
                where = getattr(node, "lineno", 1)
                lines.append(f"{name}:{where}: begins with {docstring.split()[0]}")
    return lines


def test_words_are_plain() -> None:
    lines = [line for name in files() for line in problems(name)]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("# drawn anew", "anew"),
        ("class GreyImage:", "grey"),
        ("def go_on():", "go on"),
        ("message = 'dataset.x is none'", "is none"),
        ("an unregularised model", "regularise"),
        ("the colours of it", "colours"),
    ],
)
def test_a_word_is_seen_wherever_it_stands(line: str, word: str) -> None:
    match = FORBIDDEN.search(plain(line))
    assert match is not None
    assert match[0].startswith(word)


@pytest.mark.parametrize("line", ["if x is None:", "precise, advise, license", "hand-written"])
def test_other_words_are_left_alone(line: str) -> None:
    assert FORBIDDEN.search(plain(line)) is None


def test_an_odd_docstring_is_seen() -> None:
    tree = ast.parse('def a():\n    """What it is."""\ndef b():\n    """Whatever it is."""')
    assert odd_docstrings("x.py", tree) == ["x.py:1: begins with What"]
