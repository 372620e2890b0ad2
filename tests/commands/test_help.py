"""The page of each command: its settings, flags and examples are those that it has."""

from __future__ import annotations

import importlib
import shlex

import pytest

from dltrain.cli import parse
from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.options import Options
from dltrain.verb_pages import GRID, VERB_PAGES
from dltrain.verbs import FLAGS, MULTIRUN, VERBS


def settings_of(verb: str) -> dict[str, str]:
    """Return the settings that a command takes out of the overrides, with their defaults."""
    module = importlib.import_module(VERBS[verb].function.partition(":")[0])
    names = {**getattr(module, "DEFAULTS", {}), **getattr(module, "SETTINGS", {})}
    return {str(name): str(value) for name, value in names.items()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_of_a_command(verb: str, dltrain) -> None:
    outcome = dltrain("help", verb, "--json")
    assert outcome.code == 0, outcome.err
    page = outcome.json
    assert page["usage"] == f"dltrain {VERBS[verb].usage}"
    assert page["examples"]
    for name, value in settings_of(verb).items():
        assert f"{name}={value}" in page["settings"], name
    for flag, about in FLAGS.items():
        if verb in about.verbs:
            assert any(flag in shown.replace(",", "").split() for shown in page["flags"]), flag
    printed = dltrain(verb, "--help").out
    assert printed == outcome.out == dltrain("help", verb).out
    for words in (*page["settings"], *page["flags"], *page["examples"]):
        assert words in printed
    assert max(map(len, printed.splitlines())) <= 110


@pytest.mark.parametrize(
    ("verb", "example"),
    [("compare", "curves.png"), ("rollout", "episode.gif"), ("evaluate", "FILE.csv")],
)
def test_the_example_of_a_file_fits_the_command(verb: str, example: str, dltrain) -> None:
    assert f"--out {example}" in dltrain("help", verb, "--json").json["flags"]


def test_the_settings_of_commands_that_load_a_run_are_found() -> None:
    """Without this the test above would pass for commands whose settings have another name."""
    for verb in ("evaluate", "predict", "generate"):
        assert "checkpoint" in settings_of(verb)
    for verb in ("evaluate", "predict", "generate", "rollout", "export"):
        assert "checkpoint=best" in VERB_PAGES[verb].settings


@pytest.mark.parametrize(
    "example", [example for page in VERB_PAGES.values() for example in page.examples]
)
def test_an_example_can_be_typed(example: str) -> None:
    words = shlex.split(example)
    assert words[0] == "dltrain"
    options = Options(argv=words[1:])
    verb = parse(options)
    if verb in (VERBS["train"], VERBS["check"], VERBS["config"]):
        assert problems_of(compose(options.overrides)) == []


def test_every_page_is_of_a_command() -> None:
    assert VERB_PAGES.keys() == {*VERBS, GRID}


def test_the_page_of_a_grid(dltrain) -> None:
    outcome = dltrain("-m", "--help")
    assert outcome.out.startswith(f"dltrain {MULTIRUN.usage}\n")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("model", "dltrain list model"),
        ("optimizer.lr", "dltrain show optimizer.lr"),
        ("evalute", "did you mean `dltrain evaluate`?"),
        ("zzz", "zzz is not a command (train, check,"),
    ],
)
def test_help_for_what_is_not_a_command(name: str, instead: str, dltrain) -> None:
    outcome = dltrain("help", name)
    assert outcome.code == 2
    assert instead in outcome.err


def test_json_of_help_and_version(dltrain) -> None:
    assert dltrain("--version", "--json").json.keys() == {"exit_code", "version"}
    found = dltrain("--help", "--json").json
    assert "cnn" in found["groups"]["model"]
    assert len(found["commands"]) == len(VERBS) + 1
    assert "complete -o default" in dltrain("completion", "bash", "--json").json["script"]


def test_help_shows_the_page_of_sweeps(dltrain) -> None:
    outcome = dltrain("help", "-m")
    assert outcome.code == 0, outcome.err
    assert outcome.out == dltrain("-m", "--help").out
