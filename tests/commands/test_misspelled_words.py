"""Keys of a command itself, such as split=, when they are misspelled."""

from __future__ import annotations

import pytest

from dltrain.config.overrides import take
from dltrain.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "meant"), [("splt=val", "split=val"), ("chekpoint=last", "checkpoint=last")]
)
def test_the_right_key_is_suggested_for_a_misspelled_one(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        take([typed], ("split", "checkpoint", "tta"))
    assert f"did you mean {meant}?" in str(caught.value)


@pytest.mark.parametrize(
    "other", ["seed=1", "task=regression", "dataset=digits", "dataset.split_seed=1", "name=splits"]
)
def test_keys_of_the_configuration_are_left_to_it(other: str) -> None:
    keys = ("split", "checkpoint", "tta", "top", "temperature", "top_p")
    assert take([other], keys) == ({}, [other])
