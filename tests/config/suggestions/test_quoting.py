"""Names of files hold any character: what is to be typed for them is told, and is read as exactly
that name.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain.config.check import problems_of
from dltrain.config.compose import compose, compose_over
from dltrain.config.groups import groups, read_option
from dltrain.config.overrides import take
from dltrain.config.policy import locate
from dltrain.config.schema import arguments, type_problem
from dltrain.config.settings import Paths
from dltrain.config.suggestions.quoting import TEXT_NAMES, text_override, value_of
from dltrain.shell import in_quotes, setting, shell_word

NAMES = [
    *(
        "my photos (1)",
        "a,b.csv",
        "a=b",
        "it's",
        "[x]",
        "{a}",
        "x{y}z",
        "#1",
        "a:b",
        "a b",
        " a",
        "a ",
        "été 1",
        "é,b",
    ),
    *(
        'q"q',
        "$HOME",
        "${x}",
        "${x},y",
        "a\\b",
        "a\\",
        "a\\'b",
        "\\'",
        "'",
        "''",
        "'a'",
        "`x`",
        "!x",
        "a!b,c",
        "*?",
    ),
    *(
        "null",
        "true",
        "1",
        "1e3",
        "007",
        "-",
        "--x",
        "a\u00a0b",
        "a\u3000,b",
        "Bild\u202f1.png",
        "glob(x)",
        "int(3)",
    ),
    *(
        "a\\,b",
        "\\\\x",
        "x\\\\'",
        "a;b&c|d>e",
        "%41",
        "$x,y",
        "a\\$,b",
        "\\",
        "\\\\",
        "日本 (1)",
        "👩\u200d🔬,1",
        "a\tb,c",
    ),
]


@pytest.mark.parametrize("name", [name for name in NAMES if "\t" not in name], ids=ascii)
def test_what_is_told_to_be_typed_is_read_as_that_name(name: str) -> None:
    words = shlex.split(text_override("paths.output", name))
    composed = compose(words)
    assert composed.problems == []
    assert composed.config["paths"]["output"] == name
    assert compose_over(composed.public, []).config["paths"]["output"] == name, (
        "also when it is read from a file"
    )


def test_a_shell_passes_what_is_told_on_unchanged() -> None:
    """shlex reads as a shell does; this is a shell."""
    words = [text_override("name", name) for name in NAMES]
    script = (
        f"exec '{sys.executable}' -c 'import sys; print(ascii(sys.argv[1:]))' {' '.join(words)}"
    )
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ascii([shlex.split(word)[0] for word in words])


COMMANDS = [
    ["check"],
    ["train"],
    ["-m"],
    ["evaluate", "last"],
    ["predict", "last", "x.png"],
    ["resume", "last"],
]


def told(why: str) -> str:
    """The word at the end of a message."""
    found = re.search(r"quoted: (.*)$|quote it: (.*)$|word before: (.*)$", why)
    assert found, why
    return next(word for word in found.groups() if word)


@pytest.mark.parametrize(
    "name", ["my photos (1)", "a,b.csv", "it's", "{a}b", "[x", "x]y", "a(b", 'q"q', "a,(b=c", "(1)"]
)
def test_quoting_not_told(name: str, dltrain, tmp_path: Path) -> None:
    """A path with , = ( ) [ ] ' is exit 2 with the form to type, wherever it is typed; and that
    form is the path.
    """
    for words in COMMANDS if name == "my photos (1)" else [["check"], ["evaluate", "last"]]:
        outcome = dltrain(*words, f"paths.output={name}")
        if outcome.code == 3 and name == "a,b.csv":  # one text, where no sweep is possible
            assert f"no run under {name}" in outcome.err
            continue
        assert outcome.code == 2, (words, outcome.err)
        assert len(outcome.err.splitlines()) == 2
        (word,) = shlex.split(told(outcome.err.strip()))
        assert compose([word]).config["paths"]["output"] == name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\\,b", " a", "a ", "'a'", "x\\ y", "${x}", "a,b"])
def test_a_file_that_exists_is_not_taken_for_another(name: str, tmp_path: Path) -> None:
    """Hydra reads escapes, quotes and spaces at the ends: an existing file of the very name is
    meant.
    """
    (tmp_path / name).touch()
    ((what, why),) = compose([f"paths.data={name}"]).problems
    assert what == f"paths.data={name}"
    assert compose(shlex.split(told(why))).config["paths"]["data"] == name


def test_words_that_the_shell_has_split_are_told() -> None:
    problems = dict(compose(["paths.data=my", "photos"]).problems)
    assert compose(shlex.split(told(problems["photos"]))).config["paths"]["data"] == "my photos"


def test_texts_in_a_list_are_quoted_one_by_one() -> None:
    ((_, why),) = compose(["freeze=[a (1),b]"]).problems
    assert compose(shlex.split(told(why))).config["freeze"] == ["a (1)", "b"]


@pytest.mark.parametrize(
    ("override", "key", "text"),
    [
        ("paths.output=2024", "output", "2024"),
        ("paths.output=1.50", "output", "1.50"),
        ("paths.output=true", "output", "true"),
        ("paths.output=1e3", "output", "1e3"),
        ("+paths.output=5", "output", "5"),
    ],
)
def test_a_number_that_a_key_takes_as_text_stays_as_it_was_typed(
    override: str, key: str, text: str
) -> None:
    composed = compose([override])
    assert problems_of(composed) == []
    assert composed.config["paths"][key] == text


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("paths.output=[abc]", "text is quoted: \"paths.output='[abc]'\""),
        ("paths.output={a: 1}", "text is quoted: \"paths.output='{a: 1}'\""),
        ("plugins=[1]", "texts are quoted: \"plugins=['1']\""),
        ("plugins=foo", 'did you mean "plugins=[foo]"?'),
        ("expect={x: 3}", "texts are quoted: {x: '3'}"),
        ("paths.data=", "names no folder; paths.data=. is the current one"),
        ("paths.output=''", "names no folder; paths.output=. is the current one"),
        ("name=", "has no value"),
        ("init.from=", "has no value"),
    ],
)
def test_a_value_of_another_kind_is_told_how_it_is_typed_as_text(override: str, hint: str) -> None:
    ((what, why),) = problems_of(compose([override]))
    assert what == override
    assert hint in why


def test_an_empty_data_root_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLTRAIN_DATA", "")
    ((what, why),) = problems_of(compose([]))
    assert what == "paths.data="
    assert "names no folder" in why


def test_the_keys_that_take_text_are_known() -> None:
    """A comma in their value is more likely part of the text than a sweep."""
    wanted = set(arguments(Paths))
    for option in groups()["dataset"]:
        for target in targets_in(read_option("dataset", option)):
            wanted |= {
                name
                for name, one in arguments(locate(target)).items()
                if not type_problem("a, b", one.annotation)
            }
    assert {
        name for name in wanted if "path" in name or name in ("data", "output", "target")
    } <= TEXT_NAMES


def targets_in(node: object) -> list[str]:
    if not isinstance(node, dict):
        return []
    own = [node["_target_"]] if "_target_" in node else []
    return own + [target for child in node.values() for target in targets_in(child)]


def test_words_after_a_verb_are_read_as_they_are(dltrain, tmp_path: Path) -> None:
    """RUN and INPUT have no grammar: names with = and quotes in them are names where there is such
    a file.
    """
    folder = tmp_path / "out=1, it's (2)"
    folder.mkdir()
    for verb in ("evaluate", "resume", "predict"):
        outcome = dltrain(verb, folder.name, *(["x.png"] if verb == "predict" else []))
        assert outcome.code == 3
        assert f"{folder.name} is not a run's folder" in outcome.err


def test_quotes_around_the_settings_of_a_verb_are_hydras(dltrain) -> None:
    own, rest = take(
        ["paths.output='a, b'", '+split="val"', "tta=flip,shift", "seed=1"],
        ["paths.output", "split", "tta"],
    )
    assert own == {"paths.output": "a, b", "split": "val", "tta": "flip,shift"}
    assert rest == ["seed=1"]
    assert "no run under a, b" in dltrain("evaluate", "last", "paths.output='a, b'").err


@pytest.mark.parametrize("name", ["a, (b=1)", "[it's]", "#1 é", "a\\b", "a\\'b${x}", "a\\"])
def test_a_folder_of_options_may_have_any_name(name: str, dltrain) -> None:
    model = Path(name, "model")
    model.mkdir(parents=True)
    (model / "mine.yaml").write_text("_target_: dltrain.models.mlp.MLP\nhidden_sizes: [3]\n")
    outcome = dltrain("show", "model.hidden_sizes", "model=mine", "--config-dir", name, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["model.hidden_sizes"]["value"] == [3]


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("a", "a"),
        ("a b", '"a b"'),
        ("a$b", "'a$b'"),
        ("", "''"),
        ("a[1]", '"a[1]"'),
        ("a\\b", '"a\\b"'),
        ("é", "é"),
    ],
)
def test_a_word_is_quoted_for_the_shell_as_little_as_it_needs(word: str, typed: str) -> None:
    assert shell_word(word) == typed
    assert shlex.split(typed) == [word]


@pytest.mark.parametrize("text", NAMES, ids=ascii)
@pytest.mark.parametrize("mark", ["'", '"'])
def test_text_is_quoted_as_hydra_quotes_it(text: str, mark: str) -> None:
    """Data sets tell how columns are named in overrides, and know nothing of Hydra."""
    from hydra.core.override_parser.types import Quote, QuotedString

    assert (
        in_quotes(text, mark)
        == QuotedString(text, Quote.single if mark == "'" else Quote.double).with_quotes()
    )


def test_a_setting_that_is_told_is_read_as_it_was_meant() -> None:
    names = [name for name in NAMES if "\t" not in name]
    assert compose(shlex.split(setting("freeze", names))).config["freeze"] == names
    for name in names:
        assert value_of(shlex.split(setting("name", name))[0]) == name.replace("${", "\\${")
    assert setting("dataset.ignore", ["Name", "a_b.c"]) == '"dataset.ignore=[Name,a_b.c]"'
    assert setting("dataset.ignore", ["Fare (USD)"]) == "\"dataset.ignore=['Fare (USD)']\""
