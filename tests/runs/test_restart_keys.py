"""A run that torchrun starts again is found by a key: of the launch and of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from dltrain.config.compose import compose
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.runs import automatic


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the first of two processes that torchrun may start again once."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "night")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")


def key(*overrides: str) -> str:
    return automatic.restart_key_of(compose(list(overrides)).public)


def test_the_same_command_has_the_same_key() -> None:
    assert key("model=mlp") == key("model=mlp")
    assert key("model=mlp").startswith("torchrun night ")


@pytest.mark.parametrize("other", [["model=cnn"], ["model=mlp", "seed=1"]], ids=str)
def test_another_configuration_has_another_key(other: list[str]) -> None:
    assert key("model=mlp", "name=a") != key(*other, "name=a")


def test_another_launch_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("model=mlp")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "day")
    assert key("model=mlp") != before


def test_a_folder_is_refused() -> None:
    options = Options(folder=Path("mine"))
    with pytest.raises(UsageError, match=r"torchrun --max-restarts finds its run .*not in mine"):
        automatic.train(compose(["model=mlp"]), options)


def test_messages_say_who_continues() -> None:
    assert automatic.why_continued({"resume": None}) == "restarted by torchrun"
    assert automatic.why_continued({"resume": "auto"}) == "resume=auto"
