"""Commands and settings that a user copies from a page, a message or a configuration file.

Every shell passes them on as they are meant, and they compose.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import INSTALLED, meant, misread

from dltrain.cli import parse, without_comment
from dltrain.config.check import problems_of
from dltrain.config.command_groups import split_overrides
from dltrain.config.compose import compose
from dltrain.config.grid import expand
from dltrain.config.groups import conf_dir, groups
from dltrain.config.overrides import parse as parse_overrides
from dltrain.config.suggestions import habits
from dltrain.config.suggestions.other_programs import answer_for, flag_answer, hydra_answer
from dltrain.options import Options
from dltrain.shell import setting, shell_word
from dltrain.sweeps.plan import base_configuration
from dltrain.usage import HELP
from dltrain.verb_pages import VERB_PAGES
from dltrain.verbs import MULTIRUN, VERBS

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
OLD_PAGES = ("CHANGELOG.md",)  # tells what was typed in earlier versions
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"``([^`]+)``|`([^`]+)`")
COMMAND = re.compile(r"dltrain\s")
# KEY=VALUE or ~KEY; a space in the value only between brackets
SETTING = re.compile(r"""["']?(?:~[\w.]+|[~+]{0,2}[a-z_][\w.]*=\S)""")
# a setting with a character that a shell reads as its own, or a ~, without quotation marks before
BARE = re.compile(
    r"""(?<![\w"'.~+{@/-])(?:[~+]{0,2}[a-zA-Z_][\w.]*=[^\s"'`]*(?:[\[{*(]|\?\S)|~[a-zA-Z])"""
)
WHOLE_OVERRIDE = re.compile(
    r"[\w.]+=\S*"
)  # for Hydra's parser, or quoted by who puts it into a text
# Python, and alternatives
NOT_TYPED = ("weights_only=True", "inputs=params", "weight=len(", "|", "sep=;")
ALONE = "dltrain    "  # before a setting that stands alone in a text, whatever it belongs to
# Files that the page writes: test_docs.py runs these commands.
WRITTEN_BY_PAGE = ("plugins=", "--config-dir")


def pasted_in(page: Path) -> Iterator[str]:
    """Yield the commands and settings of a page: blocks of commands, and code in its text."""
    text = page.read_text(encoding="utf-8")
    for language, block in FENCE.findall(text):
        if language in ("sh", "bash", ""):
            yield from filter(COMMAND.match, block.splitlines())
    text = FENCE.sub("", text)
    yield from (line.strip() for line in text.splitlines() if COMMAND.match(line.strip()))
    for twice, once in CODE_SPAN.findall(text):
        span = " ".join((twice or once).split())
        if COMMAND.match(span):
            yield span
        elif SETTING.match(span) and not any(text in span for text in NOT_TYPED):
            yield f"{ALONE}{span}"


def pasted_in_help() -> Iterator[str]:
    """Yield the examples of `dltrain --help`, without the descriptions beside them."""
    for line in HELP.splitlines():
        found = re.match(r"(?:  |next: )(dltrain(?: \S+)*)", line)
        if found:
            yield found[1]


def pasted_in_header(path: Path) -> Iterator[str]:
    """Yield the commands in the comments of a configuration file, each on a line of its own."""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"#\s*(?:Command:\s*)?(dltrain [^#]*)", line)
        if found:
            yield found[1].strip()


LINES = {page.name: [*pasted_in(page)] for page in PAGES if page.name not in OLD_PAGES}
LINES["--help"] = [*pasted_in_help()]
LINES |= {f"{verb} --help": list(page.examples) for verb, page in VERB_PAGES.items()}
for path in sorted(conf_dir().rglob("*.yaml")):
    LINES[f"{path.parent.name}/{path.name}"] = [*pasted_in_header(path)]
LINES = {place: lines for place, lines in LINES.items() if lines}


def test_the_commands_are_found() -> None:
    """A page of another form would be passed over."""
    assert sum(map(len, LINES.values())) > 280
    assert {"README.md", "how-to.md", "--help", "experiment/gan_mnist.yaml"} <= LINES.keys()
    assert 'dltrain -m "optimizer=glob(*)"' in LINES["blocks.md"]
    assert 'dltrain "regularization=[l2,dropout]" schedule=onecycle' in LINES["--help"]
    assert f'{ALONE}"dataset.value_range=[0,4095]"' in LINES["folders.md"]
    for name in groups()["experiment"]:
        assert LINES[f"experiment/{name}.yaml"], f"conf/experiment/{name}.yaml has no command"


@pytest.mark.parametrize("shell", INSTALLED)
def test_every_shell_passes_the_words_of_a_page_on_as_they_are_meant(
    shell: str, tmp_path: Path
) -> None:
    lines = sorted({line for found in LINES.values() for line in found})
    assert misread(shell, lines, tmp_path) == []


@pytest.mark.parametrize("shell", INSTALLED)
def test_a_line_that_a_shell_reads_otherwise_is_found(shell: str, tmp_path: Path) -> None:
    wrong = ["dltrain optimizer=glob(*)", "dltrain model={a,b}", "dltrain images/*.png"]
    right = ['dltrain "optimizer=glob(*)"', "dltrain 'model={a,b}' \"images/*.png\""]
    assert misread(shell, [*wrong, *right], tmp_path) == wrong


@pytest.mark.parametrize("place", LINES)
def test_every_command_of_a_page_composes(place: str) -> None:
    for line in LINES[place]:
        if line.startswith(ALONE):
            continue
        for words in meant(line.replace("experiment=NAME", "experiment=lenet5_mnist")):
            assert problems_in(words) == [], line


def problems_in(words: list[str]) -> list[tuple[str, str]]:
    """Return what is wrong with the words of a command; UsageError for its verb or flags."""
    options = Options(argv=words)
    verb = parse(options)
    overrides = options.overrides
    if any(word.startswith(WRITTEN_BY_PAGE) for word in words):
        return []
    if verb not in (MULTIRUN, VERBS["train"], VERBS["check"], VERBS["show"]):
        return parse_overrides([word for word in overrides if not word.startswith("tta=")])[1]
    jobs = jobs_of(overrides) if verb is MULTIRUN else [overrides]
    return [problem for job in (jobs[0], jobs[-1]) for problem in problems_of(compose(job))]


def jobs_of(overrides: list[str]) -> list[list[str]]:
    """The jobs of a sweep, without the keys that are drawn from an interval; UsageError for its
    launcher or sampler.
    """
    own, of_runs = split_overrides(overrides)
    base_configuration(own, of_runs)
    parsed, _ = parse_overrides(of_runs, sweep=True)
    drawn = [
        override.input_line
        for override in parsed
        if override.is_sweep_override() and not override.is_discrete_sweep()
    ]
    return expand([override for override in of_runs if override not in drawn])


def test_a_comment_that_zsh_passes_on_is_no_part_of_the_command(dltrain) -> None:
    outcome = dltrain("list", "schedule", "#", "what", "you", "can", "choose")
    assert outcome.code == 0, outcome.err
    assert without_comment(["generate", "last", "--", "#", "x"]) == [
        *("generate", "last", "--", "#", "x")
    ]
    assert without_comment(["predict", "last", "#1.png"]) == ["predict", "last", "#1.png"]


def test_comments_beside_commands_have_nothing_that_a_shell_reads() -> None:
    """On a terminal, zsh reads a pasted comment as words of the command."""
    for place, lines in LINES.items():
        for line in lines:
            comment = line.partition(" # ")[2]
            assert not re.search(r"""[]\[{}()*?<>|&;$!~`"']""", comment), (place, line)


# what messages say


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every text in a Python file but docstrings; X is what is filled in.

    What is given to `shell_word` is quoted there.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "shell_word":
            skipped |= {id(argument) for argument in node.args}
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


OTHER_SYNTAX = {  # files with texts in which such a word is no setting
    "completion.py": "scripts of shells",
    "habits.py": "quoted when they are filled in; see below",
    "header.py": "a regular expression",
}
MODULES = sorted(path for path in (ROOT / "dltrain").rglob("*.py") if path.name not in OTHER_SYNTAX)


def test_no_message_has_a_setting_that_a_shell_would_read_otherwise() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in MODULES
        for line, text in texts_of(path)
        if BARE.search(text) and not WHOLE_OVERRIDE.fullmatch(text)
    ]
    assert bare == [], 'put quotation marks around the setting: "preprocessing=[resize]"'


def test_no_comment_in_a_configuration_file_has_a_bare_setting() -> None:
    for path in conf_dir().rglob("*.yaml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            comment = line.partition("#")[2]
            assert not BARE.search(comment), f"{path}: {line}"


@pytest.mark.parametrize("shell", INSTALLED)
def test_every_shell_passes_what_a_message_says_on_as_it_is_meant(
    shell: str, tmp_path: Path
) -> None:
    said = sorted(suggestions())
    assert len(said) > 250
    assert '"regularization=[clip]" "regularization.clip.norm=[0.5,1]"' in said
    assert misread(shell, [f"dltrain {words}" for words in said], tmp_path) == []


def suggestions() -> set[str]:
    """Return the words that messages say are to be typed."""
    said: set[str] = set()
    typed = {name for names in habits.RENAMED.values() for name in names.split()}
    typed |= {name for names in habits.GROUPS.values() for name in names.split()}
    for name in typed | habits.ANSWERS.keys():
        for value in ("", "0.5", "[0.5,1]", "none", "Adam", "my file.csv"):
            answer = answer_for(name, value, {"trainer.epochs", "optimizer.lr"}.__contains__)
            said |= {answer.words} if answer else set()
    for flag in habits.FLAGS:
        answer = flag_answer(flag, "[1,2]", {"trainer.epochs"}.__contains__)
        said |= {answer.words} if answer else set()
    said |= {hydra_answer(f"hydra.{key}").partition("did you mean ")[2] for key in habits.HYDRA}
    said |= {setting("freeze", ["a", "b"]), shell_word("=x"), shell_word("~regularization=l2")}
    said = {words.strip("?").strip("`").removeprefix("dltrain ") for words in said}
    return {words for words in said if words and "..." not in words}
